"""Cameras of the whole image for a hand that was predicted in a crop.

One hand at a time, in the NumPy arrays of a data sample; the formulas are those of
``mamba_mm.models.body_models.camera``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData

from mamba_mm.models.body_models.camera import (
    crop_camera,
    crop_translation,
    default_focal_length,
    full_image_translation,
)


class CropBox(NamedTuple):
    """Where in the image a crop was taken, in pixels.

    Attributes:
        center: x and y, (2,).
        side: The height; a crop of a hand is normalised by it.
    """

    center: np.ndarray
    side: float


class Intrinsics(NamedTuple):
    """A pinhole camera without skew, of square pixels.

    Attributes:
        focal_length: In pixels.
        principal_point: x and y in pixels, (2,).
    """

    focal_length: float
    principal_point: np.ndarray


class HandCamera(NamedTuple):
    """A pinhole camera of the image, and where the hand is in front of it.

    Attributes:
        translation: (1, 3), in metres; added to the hand it gives camera coordinates.
        focal_length: (1,), in pixels.
        principal_point: (1, 2), in pixels.
    """

    translation: np.ndarray
    focal_length: np.ndarray
    principal_point: np.ndarray


def camera_of_crop(cam: np.ndarray, box: CropBox, scale_min: float) -> HandCamera:
    """Return the camera that the network itself assumed, as one of the image.

    It looks at the centre of the crop, so each hand has another one, and its picture is exactly
    that of the crop.

    Args:
        cam: Camera of the crop, (1, 3): scale, x and y.
        box: The crop.
        scale_min: Floor of the scale, as in the head.
    """
    translation = crop_translation(_double(cam), scale_min)
    focal_length, principal_point = crop_camera(_double([box.center]), _double([box.side]))
    return _as_arrays(translation, focal_length, principal_point)


def camera_of_image(
    cam: np.ndarray, box: CropBox, scale_min: float, intrinsics: Intrinsics
) -> HandCamera:
    """Return the camera of the image, the same for all of its hands.

    The hand keeps its place and size in the picture. But its perspective becomes that of the image,
    so that points before or behind its origin move a little.

    Args:
        cam: Camera of the crop, (1, 3): scale, x and y.
        box: The crop.
        scale_min: Floor of the scale, as in the head.
        intrinsics: Of the image.
    """
    focal_length = _double([intrinsics.focal_length])
    principal_point = _double([intrinsics.principal_point])
    translation = full_image_translation(
        _double(cam),
        _double([box.center]),
        _double([box.side]),
        focal_length,
        principal_point,
        scale_min,
    )
    return _as_arrays(translation, focal_length, principal_point)


def assumed_intrinsics(width: int, height: int) -> Intrinsics:
    """Guess the camera of an image, as HaMeR does: far away, and looking at the image's centre.

    Depth follows from the focal length, so it is not metric.
    """
    return Intrinsics(default_focal_length((width, height)), np.array([width / 2, height / 2]))


def annotated_matrix(truth: InstanceData) -> np.ndarray | None:
    """Return the camera's matrix (3, 3), float64, where the data set has it.

    Args:
        truth: Annotations of one sample.
    """
    if "cam_K" not in truth or not np.all(truth.get("has_cam", 0)):
        return None
    return np.asarray(truth.cam_K, dtype=np.float64)[0]


def known_intrinsics(matrix: np.ndarray) -> Intrinsics:
    """Read the camera from its matrix (3, 3).

    A hand has one depth, so there is one focal length: the mean of those of x and y.
    """
    return Intrinsics((matrix[0, 0] + matrix[1, 1]) / 2, matrix[:2, 2])


def _double(values: object) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))


def _as_arrays(*tensors: torch.Tensor) -> HandCamera:
    return HandCamera(*(tensor.numpy().astype(np.float32) for tensor in tensors))
