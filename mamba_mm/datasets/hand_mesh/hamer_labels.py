"""The labels of one hand as HaMeR stores them, checked and made a record.

Training archives and evaluation files have the same fields under slightly different names, and one
trap between them: ``scale`` is the box side in pixels divided by 200 in the archives, and the side
itself in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .filters import HandFilters
from .record import check_plausible_hands, hand_record

ARCHIVE_BOX_UNIT = 200.0
"""Pixels per unit of ``scale`` in the training archives."""

_SHAPES: dict[str, tuple[int, ...]] = dict(
    keypoints_2d=(21, 3),
    keypoints_3d=(21, 4),
    center=(2,),
    scale=(2,),
    hand_pose=(48,),
    betas=(10,),
    has_hand_pose=(),
    has_betas=(),
    right=(),
)
# A camera this near to the middle of a hand is none: the joints are relative to one of them.
_NEAREST_CAMERA = 0.15
_AHEAD = np.array([0.0, 0.0, 1.0])
# Sides of boxes in units of the longest side around the joints; between 1 and 3 in practice.
_USUAL_BOXES = (0.2, 30.0)


class HandLabelError(ValueError):
    """Labels of a hand that are not of HaMeR's form."""


@dataclass(frozen=True)
class HandLabels:
    """The labels of one hand in HaMeR's form, in pixels and metres; joints in OpenPose order.

    Attributes:
        keypoints: Pixels and confidence, (21, 3).
        joints: In the camera frame up to a translation, and confidence, (21, 4).
        center: Middle of the box in pixels, (2,).
        size: Width and height of the box in pixels, (2,).
        hand_pose: Absolute axis-angle vectors, (48,).
        betas: Shape coefficients, (10,).
        has_hand_pose: Whether the pose is known.
        has_betas: Whether the shape is known.
        right: Whether it is a right hand.
        fitting_loss: The reprojection loss with which the pose was fitted, NaN if not told.
    """

    keypoints: np.ndarray
    joints: np.ndarray
    center: np.ndarray
    size: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    has_hand_pose: bool
    has_betas: bool
    right: bool
    fitting_loss: float

    @property
    def is_finite(self) -> bool:
        """Whether there is no NaN or infinity in anything that counts, and the box has a size."""
        known = (
            self.keypoints[self.keypoints[:, 2] != 0],
            self.joints[self.joints[:, 3] != 0],
            self.center,
            self.size,
            self.hand_pose[: 48 * self.has_hand_pose],
            self.betas[: 10 * self.has_betas],
        )
        return all(np.isfinite(part).all() for part in known) and bool((self.size > 0).all())

    @property
    def placed_joints(self) -> np.ndarray:
        """The labelled joints in front of the camera, zeros for the others, (21, 3).

        Where they are relative to one of them (so that the camera would be within the hand) they
        are moved one metre ahead. Nothing that uses them depends on it: there are no intrinsics.
        """
        labelled = self.joints[:, 3] > 0
        # NaN stands for unknown joints in some sets, and NaN times zero is NaN.
        joints = np.where(labelled[:, None], self.joints[:, :3], 0.0)
        if labelled.any() and np.linalg.norm(joints[labelled].mean(axis=0)) < _NEAREST_CAMERA:
            joints[labelled] += _AHEAD
        return joints

    @property
    def has_plausible_joints(self) -> bool:
        """Whether the labelled joints can be those of a hand, in metres."""
        try:
            check_plausible_hands(self.placed_joints[None], self.joints[None, :, 3], str)
        except ValueError:
            return False
        return True

    @property
    def box_ratio(self) -> float:
        """Longest side of the box in units of that around the joints; NaN with too few joints."""
        points = self.keypoints[self.keypoints[:, 2] > 0, :2]
        extent = np.ptp(points, axis=0).max() if len(points) > 4 else 0.0
        return float(self.size.max() / extent) if extent > 0 else np.nan


def parse_labels(fields: Mapping[str, Any], box_unit: float) -> HandLabels:
    """Read the labels of one hand.

    Args:
        fields: ``keypoints_2d`` (21, 3), ``keypoints_3d`` (21, 4), ``center`` (2), ``scale`` (2, or
            one number), ``hand_pose`` (48), ``betas`` (10), ``has_hand_pose``, ``has_betas``,
            ``right``, and perhaps ``extra_info``, a dictionary with ``fitting_loss``.
        box_unit: Pixels per unit of ``scale``: 200 in archives, 1 in evaluation files.

    Returns:
        The labels.

    Raises:
        HandLabelError: A field is missing, no number, or of another shape.
    """
    if not isinstance(fields, Mapping):
        raise HandLabelError(f"expected a dictionary of labels, got a {type(fields).__name__}")
    if missing := [name for name in _SHAPES if name not in fields]:
        raise HandLabelError(f"lacks {', '.join(missing)}; it has {', '.join(map(str, fields))}")
    values = {name: _numbers(name, fields[name]) for name in _SHAPES}
    return HandLabels(
        keypoints=values["keypoints_2d"],
        joints=values["keypoints_3d"],
        center=values["center"],
        size=values["scale"] * box_unit,
        hand_pose=values["hand_pose"],
        betas=values["betas"],
        has_hand_pose=bool(values["has_hand_pose"] > 0),
        has_betas=bool(values["has_betas"] > 0),
        right=bool(values["right"] > 0.5),
        fitting_loss=_fitting_loss(fields.get("extra_info")),
    )


def labels_to_record(
    source: str,
    labels: HandLabels,
    filters: HandFilters | None,
    *,
    img_path: str,
    img_id: int,
    id: int,
) -> dict:
    """Make the common record of a hand's labels.

    Confidences above 1 become 1, and joints in space that are not plausible count as unknown.

    Args:
        source: Where the hand comes from, for error messages.
        labels: Finite ones.
        filters: What to trust; ``None``: everything.
        img_path: The image.
        img_id: Number of the image.
        id: Number of the hand.

    Returns:
        What :func:`hand_record` returns.

    Raises:
        ValueError: As in :func:`hand_record`.
    """
    confidence = labels.keypoints[:, 2]
    trusted = labels.has_hand_pose and labels.has_betas
    if filters is not None:
        confidence = filters.suppressed(confidence)
        trusted = bool(
            filters.trusts_parameters(labels.has_hand_pose, labels.has_betas, labels.betas)
        )
    valid = labels.joints[:, 3].clip(0, 1) * labels.has_plausible_joints
    half = labels.size / 2
    return hand_record(
        source,
        img_path=img_path,
        img_id=img_id,
        id=id,
        bbox=np.concatenate([labels.center - half, labels.center + half]),
        is_right=labels.right,
        keypoints=np.where(confidence[:, None] > 0, labels.keypoints[:, :2], 0.0),
        keypoints_visible=confidence.clip(0, 1),
        keypoints_cam=labels.placed_joints,
        keypoints_cam_valid=valid,
        mano_pose=labels.hand_pose if trusted else None,
        mano_betas=labels.betas if trusted else None,
    )


def check_boxes(source: str, ratios: np.ndarray, unit_is: str) -> None:
    """Refuse boxes that are a hundred times too large or small: the mistake of the factor 200.

    Args:
        source: The file or folder.
        ratios: :attr:`HandLabels.box_ratio` of its hands.
        unit_is: What ``scale`` is expected to be, for the message.

    Raises:
        ValueError: The median box does not fit the joints.
    """
    ratios = ratios[np.isfinite(ratios)]
    low, high = _USUAL_BOXES
    if len(ratios) and not low <= np.median(ratios) <= high:
        raise ValueError(
            f"{source}: the boxes are {np.median(ratios):.3g} times as large as their hands. Here "
            f"scale must be {unit_is}; training archives have the side divided by 200, evaluation "
            "files the side in pixels"
        )


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise HandLabelError(f"{name} is no array of numbers: {error}") from error
    shape = _SHAPES[name]
    if name == "scale" and array.size == 1:
        array = np.repeat(array, 2)
    if array.shape != shape and not (shape == () and array.size == 1):
        raise HandLabelError(f"{name} has the shape {array.shape}, expected {shape}")
    return array.reshape(shape)


def _fitting_loss(extra_info: Any) -> float:
    """``extra_info['fitting_loss']['reprojection_loss']``, each of which may be missing."""
    for name in ("fitting_loss", "reprojection_loss"):
        if isinstance(extra_info, np.ndarray) and extra_info.shape == ():
            extra_info = extra_info.item()
        if not isinstance(extra_info, Mapping) or extra_info.get(name) is None:
            return np.nan
        extra_info = extra_info[name]
    try:
        loss = float(np.asarray(extra_info, np.float64).mean())
    except (TypeError, ValueError) as error:
        raise HandLabelError(f"the reprojection_loss is no number: {error}") from error
    # A fit that failed is not one that nothing is told of: HaMeR leaves such hands out too.
    return np.inf if np.isnan(loss) else loss
