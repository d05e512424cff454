"""The one record that every object data set yields, and the check that its pose can be one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..hand_mesh.projection import project
from .symmetries import check_rotation

# How far from the camera an object can plausibly be, in metres.
_DEPTHS = (0.02, 50.0)


def object_record(
    source: str,
    *,
    img_path: str,
    img_id: int,
    id: int,
    bbox: np.ndarray | Sequence[float],
    label: int,
    keypoints_model: np.ndarray,
    symmetries: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    cam_K: np.ndarray,
    visible_fraction: float = 1.0,
    bbox_score: float = 1.0,
) -> dict:
    """Return the record of one object: always the same keys, float32, a leading dimension of 1.

    Args:
        source: Where the sample comes from, for error messages.
        img_path: The image.
        img_id: Number of the image.
        id: Number of the object in the set.
        bbox: Box (x1, y1, x2, y2) in pixels.
        label: Class, from 0.
        keypoints_model: Keypoints of the class in the object's frame, metres, (K, 3).
        symmetries: Motions that leave the class as it is, the identity first, (S, 4, 4), metres.
        rotation: From the object's to the camera's frame (x right, y down, z forward), (3, 3).
        translation: Of the object's origin in the camera's frame, metres, (3,).
        cam_K: Intrinsics of the image, (3, 3).
        visible_fraction: How much of the silhouette is in sight, 0..1.
        bbox_score: Confidence of the box.

    Returns:
        Beside these, under their names but ``label``, which MMPose would take for something else
        (``object_label``), ``rotation`` and ``translation`` (``object_rotation``,
        ``object_translation``): ``keypoints`` (1, K, 2) in pixels, ``keypoints_visible`` (1, K),
        ones, as a pose gives all of them, and ``keypoints_cam`` (1, K, 3) in metres.

    Raises:
        ValueError: A shape is wrong, a number is not finite, the rotation is none, the object is
            behind the camera or implausibly far, the camera is none, or the box is empty.
    """
    points = _numbers(source, "keypoints_model", keypoints_model, (None, 3))
    symmetries = _numbers(source, "symmetries", symmetries, (None, 4, 4))
    rotation = _numbers(source, "rotation", rotation, (3, 3))
    translation = _numbers(source, "translation", translation, (3,))
    cam_K = _numbers(source, "cam_K", cam_K, (3, 3))
    bbox = _numbers(source, "bbox", bbox, (4,))
    check_rotation(rotation, f"{source}: rotation")
    _check_depth(source, translation[2])
    if not (cam_K[0, 0] > 0 and cam_K[1, 1] > 0 and np.allclose(cam_K[2], (0, 0, 1))):
        raise ValueError(
            f"{source}: cam_K must be a pinhole camera with positive focal lengths and a last row "
            f"of 0, 0, 1; got {cam_K.tolist()}"
        )
    if bbox[2] <= bbox[0] or bbox[3] <= bbox[1]:
        raise ValueError(f"{source}: the box {bbox.tolist()} is empty; expected x1, y1, x2, y2")
    in_camera = points @ rotation.T + translation
    fields = dict(
        bbox=bbox,
        bbox_score=bbox_score,
        keypoints=project(in_camera, cam_K),
        keypoints_visible=np.ones(len(points)),
        keypoints_cam=in_camera,
        keypoints_model=points,
        symmetries=symmetries,
        object_rotation=rotation,
        object_translation=translation,
        cam_K=cam_K,
        has_cam=1.0,
        visible_fraction=visible_fraction,
    )
    record = {name: np.float32(value)[None] for name, value in fields.items()}
    return dict(
        img_path=str(img_path),
        img_id=img_id,
        id=id,
        object_label=np.array([label], dtype=np.int64),
        **record,
    )


def _numbers(source: str, name: str, value: object, shape: tuple[int | None, ...]) -> np.ndarray:
    array = np.asarray(value, dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        expected in (None, actual) for expected, actual in zip(shape, array.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("N" if size is None else str(size) for size in shape)
        raise ValueError(f"{source}: {name} has the shape {array.shape}, expected ({expected})")
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: {name} has values that are not finite")
    return array


def _check_depth(source: str, depth: float) -> None:
    nearest, farthest = _DEPTHS
    if depth <= 0:
        raise ValueError(
            f"{source}: the object is behind the camera (z = {depth:.4g} m); the camera frame must "
            "have x right, y down, z forward"
        )
    if not nearest <= depth <= farthest:
        raise ValueError(
            f"{source}: the object is {depth:.4g} m away, expected {nearest} to {farthest}; "
            "translations of BOP's files are in millimetres"
        )
