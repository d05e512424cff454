"""Back from the mirrored image, in which a left hand looks like a right one, to the image itself.

The network knows right hands only; the pipeline mirrors the image of a left hand. Mirroring takes a
pixel x to W - 1 - x, as MMPose does, and a point in space to -x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mmengine.structures import InstanceData

Unmirror = Callable[[np.ndarray, int], np.ndarray]


def unmirror_pixels(pixels: np.ndarray, width: int) -> np.ndarray:
    """Mirror pixels (..., 2 or more), of which x comes first, in an image of this width."""
    mirrored = np.array(pixels)
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def unmirror_points(points: np.ndarray, width: int = 0) -> np.ndarray:
    """Mirror points in space (..., 3); the width of the image does not matter."""
    return np.asarray(points) * np.array([-1, 1, 1], dtype=points.dtype)


def unmirror_crop_camera(cam: np.ndarray, width: int = 0) -> np.ndarray:
    """Mirror cameras (..., 3) of a crop, (s, tx, ty)."""
    return np.asarray(cam) * np.array([1, -1, 1], dtype=cam.dtype)


def unmirror_intrinsics(matrices: np.ndarray, width: int) -> np.ndarray:
    """Mirror pinhole cameras (..., 3, 3): pixels on their left, points on their right."""
    mirrored_pixels = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    mirrored_points = np.diag([-1, 1, 1])
    return (mirrored_pixels @ matrices @ mirrored_points).astype(matrices.dtype)


def unmirror_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Mirror boxes (..., 4 or more), left, top, right, bottom: left and right change places."""
    mirrored = np.array(boxes)
    mirrored[..., [0, 2]] = width - 1 - mirrored[..., [2, 0]]
    return mirrored


def _other_side(is_right: np.ndarray, width: int) -> np.ndarray:
    return 1 - np.asarray(is_right)


_PREDICTION_FIELDS: dict[str, Unmirror] = {
    "keypoints": unmirror_pixels,
    "keypoints_3d": unmirror_points,
    "vertices": unmirror_points,
    "cam": unmirror_crop_camera,
}

_ANNOTATION_FIELDS: dict[str, Unmirror] = {
    "keypoints": unmirror_pixels,
    "bboxes": unmirror_boxes,
    "keypoints_cam": unmirror_points,
    "vertices_cam": unmirror_points,
    "cam_K": unmirror_intrinsics,
    "is_right": _other_side,
}


def unmirror_prediction(pred: InstanceData, width: int) -> InstanceData:
    """Return a prediction as it is in the image that was mirrored.

    The parameters of the hand stay those of a right hand.

    Args:
        pred: In the mirrored image, with keypoints in pixels of it; it stays as it is.
        width: Width of the image.
    """
    return _unmirrored(pred, _PREDICTION_FIELDS, width)


def unmirror_annotation(truth: InstanceData, width: int) -> InstanceData:
    """Return annotations as they are in the image that was mirrored.

    This is the inverse of ``mamba_mm.HandMeshRandomFlip``, which leaves invisible keypoints alone.

    Args:
        truth: In the mirrored image; it stays as it is.
        width: Width of the image.
    """
    result = _unmirrored(truth, _ANNOTATION_FIELDS, width)
    if "keypoints" in truth and "keypoints_visible" in truth:
        visible = truth.keypoints_visible[..., None] > 0
        result.keypoints = np.where(visible, result.keypoints, truth.keypoints)
    return result


def _unmirrored(instances: InstanceData, fields: dict[str, Unmirror], width: int) -> InstanceData:
    result = instances.clone()
    for name, unmirror in fields.items():
        if name in instances:
            result.set_field(unmirror(instances.get(name), width), name)
    return result
