"""The one record that every hand data set yields, and the check that its hand can be one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_SHAPES: dict[str, tuple[int, ...]] = dict(
    bbox=(4,),
    bbox_score=(),
    keypoints=(21, 2),
    keypoints_visible=(21,),
    keypoints_cam=(21, 3),
    keypoints_cam_valid=(21,),
    vertices_cam=(778, 3),
    has_vertices=(),
    mano_pose=(48,),
    mano_betas=(10,),
    has_3d=(),
    has_mano=(),
    cam_K=(3, 3),
    has_cam=(),
    is_right=(),
)

_MIDDLE_KNUCKLE = 9
_PALM_RANGE = (0.04, 0.20)


def hand_record(
    source: str,
    *,
    img_path: str,
    img_id: int,
    id: int,
    bbox: np.ndarray | Sequence[float],
    is_right: bool,
    bbox_score: float = 1.0,
    keypoints: np.ndarray | None = None,
    keypoints_visible: np.ndarray | None = None,
    keypoints_cam: np.ndarray | None = None,
    keypoints_cam_valid: np.ndarray | None = None,
    vertices_cam: np.ndarray | None = None,
    mano_pose: np.ndarray | None = None,
    mano_betas: np.ndarray | None = None,
    cam_K: np.ndarray | None = None,
) -> dict:
    """Return the record of one hand: always the same keys, float32, a leading dimension of 1.

    What is ``None`` becomes zeros, and the flags ``has_3d``, ``has_vertices``, ``has_mano`` and
    ``has_cam`` tell. So sets with different labels can be mixed in a batch. Coordinates of joints
    that are not valid become zero: some sets have placeholders there.

    Args:
        source: Where the sample comes from, for error messages.
        img_path: The image.
        img_id: Number of the image.
        id: Number of the hand.
        bbox: Box (x1, y1, x2, y2) in pixels.
        is_right: Which hand it is in the image as taken.
        bbox_score: Confidence of the box.
        keypoints: Joints in OpenPose order, pixels of the image, (21, 2).
        keypoints_visible: Their confidence from 0 to 1, (21,); ones by default.
        keypoints_cam: The same joints in the camera frame (x right, y down, z forward), metres,
            (21, 3).
        keypoints_cam_valid: 1 for those that are known, (21,); ones by default.
        vertices_cam: The mesh in the same frame, (778, 3).
        mano_pose: Absolute axis-angle vectors, MANO's joint order, global orientation first, (48,).
        mano_betas: Shape coefficients, (10,).
        cam_K: Intrinsics of the image, (3, 3).

    Returns:
        The record, one hand in the leading dimension.

    Raises:
        ValueError: A shape is wrong, a number is not finite, labels that belong together come
            alone, or the hand is not plausible (:func:`check_plausible_hands`).
    """
    if (mano_pose is None) != (mano_betas is None):
        raise ValueError(f"{source}: mano_pose and mano_betas come together or not at all")
    values = dict(
        bbox=bbox,
        bbox_score=bbox_score,
        is_right=float(is_right),
        keypoints=keypoints,
        keypoints_visible=_ones_if_missing(keypoints_visible, keypoints),
        keypoints_cam=keypoints_cam,
        keypoints_cam_valid=_ones_if_missing(keypoints_cam_valid, keypoints_cam),
        vertices_cam=vertices_cam,
        mano_pose=mano_pose,
        mano_betas=mano_betas,
        cam_K=cam_K,
        has_3d=0.0,
        has_vertices=float(vertices_cam is not None),
        has_mano=float(mano_pose is not None),
        has_cam=float(cam_K is not None),
    )
    record = {name: _as_field(source, name, values[name]) for name in _SHAPES}
    for points, weights in (
        ("keypoints", "keypoints_visible"),
        ("keypoints_cam", "keypoints_cam_valid"),
    ):
        record[points] *= record[weights][..., None] > 0
    record["has_3d"][0] = record["keypoints_cam_valid"].any()
    _check_fields(source, record)
    return dict(img_path=str(img_path), img_id=img_id, id=id, **record)


def no_vertices() -> np.ndarray:
    """Return what stands for an unknown mesh in a record: zeros, (1, 778, 3)."""
    return _as_field("", "vertices_cam", None)


def check_plausible_hands(
    joints: np.ndarray, valid: np.ndarray, name: Callable[[int], str]
) -> None:
    """Refuse hands that no human has: the sign of wrong units, axes or joint order.

    From the wrist to the middle finger's knuckle it must be 4 to 20 cm, and the median joint must
    lie in front of the camera.

    Args:
        joints: Camera coordinates in metres, OpenPose order, (N, 21, 3).
        valid: Not zero for the joints that are known, (N, 21).
        name: Says which file and sample a hand is, given its index.

    Raises:
        ValueError: At the first hand that is not plausible.
    """
    known = np.asarray(valid) > 0
    palm = np.linalg.norm(joints[:, _MIDDLE_KNUCKLE] - joints[:, 0], axis=-1)
    low, high = _PALM_RANGE
    measurable = known[:, 0] & known[:, _MIDDLE_KNUCKLE]
    for index in np.flatnonzero(measurable & ~((palm >= low) & (palm <= high))):
        in_mm = low <= palm[index] / 1000 <= high
        cause = "in millimetres" if in_mm else "in another unit or joint order"
        raise ValueError(
            f"{name(index)} is no plausible hand: from the wrist to the middle knuckle (joint 9) "
            f"it is {palm[index]:.4g} m, expected {low} to {high}. The labels are probably {cause};"
            " convert them to metres in OpenPose order (arguments unit and joint_map)"
        )
    for index in np.flatnonzero(known.any(axis=1)):
        depth = np.median(joints[index, known[index], 2])
        if not depth > 0:
            raise ValueError(
                f"{name(index)} is no plausible hand: its median depth is {depth:.4g} m, behind "
                "the camera. The camera frame must have x right, y down, z forward; multiply "
                "OpenGL axes (HO3D) by diag(1, -1, -1)"
            )


def _ones_if_missing(weights: np.ndarray | None, points: np.ndarray | None) -> np.ndarray | None:
    """Without weights, points count fully."""
    return np.ones(len(points)) if weights is None and points is not None else weights


def _as_field(source: str, name: str, value: object) -> np.ndarray:
    """Value as float32 with a leading dimension of 1; zeros for ``None``."""
    shape = _SHAPES[name]
    if value is None:
        return np.zeros((1, *shape), np.float32)
    field = np.array(value, dtype=np.float32)
    if field.shape != shape:
        raise ValueError(f"{source}: {name} has the shape {field.shape}, expected {shape}")
    return field[None]


def _check_fields(source: str, record: dict) -> None:
    for name, field in record.items():
        if not np.isfinite(field).all():
            raise ValueError(f"{source}: {name} has values that are not finite")
    x1, y1, x2, y2 = record["bbox"][0]
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"{source}: the box {x1, y1, x2, y2} is empty; expected x1, y1, x2, y2")
    weights = record["keypoints_visible"]
    if weights.min() < 0 or weights.max() > 1:
        raise ValueError(f"{source}: keypoints_visible must be confidences from 0 to 1")
    if record["has_3d"][0]:
        check_plausible_hands(
            record["keypoints_cam"], record["keypoints_cam_valid"], lambda _: source
        )
