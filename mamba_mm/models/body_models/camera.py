r"""Cameras of hand recovery: that of the crop, which the network predicts, and the full image's.

Axes: x right, y down, z forward, metres. The network predicts (s, tx, ty). As in HaMeR (Pavlakos
et al., CVPR 2024) this is a scale and a shift of the hand in the crop, turned into a translation
in front of a camera with the fixed focal length f = 5000 px for a crop of 256 px:
:math:`t = (t_x, t_y, 2 f / (256 s))`, so that to first order :math:`u = s (X + t_x) / 2`.

From the crop to the full image there are two ways:

* :func:`full_image_translation` looks at the hand with the image's own camera. Points in the plane
  z = 0 of the hand's frame land exactly where the crop has them, whatever the box; the others do
  if the focal length is 5000/256 times the side of the box and its centre is the principal point.
  Else nearer and farther points move slightly, because the perspective is another one.
* :func:`crop_camera` returns the camera in which the crop's own projection holds for all points.

All functions compute in float32 at least, also under autocast.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FOCAL_LENGTH = 5000.0
"""Focal length in pixels of a crop of :data:`CROP_SIDE` pixels."""

CROP_SIDE = 256
"""Side of the crop in pixels that :data:`FOCAL_LENGTH` refers to; the height of a 3:4 crop."""

_RELATIVE_FOCAL = FOCAL_LENGTH / CROP_SIDE


def crop_translation(cam: Tensor, scale_min: float = 0.1) -> Tensor:
    """Where the origin of the hand's frame is in front of the crop's camera.

    Args:
        cam: (s, tx, ty) as the network predicts them, (B, 3).
        scale_min: The depth is that of at least this scale: nothing bounds s, and at zero or
            below it would put the hand at infinity or behind the camera. Positive.

    Returns:
        Metres, (B, 3).

    Raises:
        ValueError: When a shape is not the above.
    """
    _check(cam, "cam", (None, 3))
    cam = _at_least_float32(cam)
    depth = 2 * _RELATIVE_FOCAL / cam[:, 0].clamp(min=scale_min)
    return torch.stack((cam[:, 1], cam[:, 2], depth), dim=-1)


def project_crop(points: Tensor, cam: Tensor, scale_min: float = 0.1) -> Tensor:
    """Project points into the crop, in units of its height, from the crop's centre.

    For a crop of W x H pixels, ``u * H + (W / 2, H / 2)`` are pixels.

    Args:
        points: In the hand's frame, metres, (B, N, 3).
        cam: (s, tx, ty), (B, 3).
        scale_min: As in :func:`crop_translation`.

    Returns:
        u, in [-0.5, 0.5] over the crop's height, (B, N, 2).

    Raises:
        ValueError: When a shape is not the above.
    """
    _check(points, "points", (None, None, 3))
    moved = _at_least_float32(points) + crop_translation(cam, scale_min)[:, None]
    return _RELATIVE_FOCAL * moved[..., :2] / moved[..., 2:]


def full_image_translation(
    cam: Tensor,
    box_center: Tensor,
    box_side: Tensor,
    focal_length: Tensor,
    principal_point: Tensor,
    scale_min: float = 0.1,
) -> Tensor:
    """Where the origin of the hand's frame is in front of the full image's camera.

    With known intrinsics the result is a real position (as far as s is right); with the focal
    length of :func:`default_focal_length` its depth has no metric meaning. When it is exact is
    said at the top of this module. For a left hand that the network saw mirrored, negate x of
    the points and tx, and give the box as it is in the unmirrored image.

    Args:
        cam: (s, tx, ty) of the crop, (B, 3).
        box_center: Centre of the crop in the full image, pixels, (B, 2).
        box_side: Side of the crop in the full image, its height for a 3:4 crop, pixels, (B,).
        focal_length: Of the full image, pixels, (B,).
        principal_point: Of the full image, pixels, (B, 2).
        scale_min: As in :func:`crop_translation`. The shift of the box is multiplied by the same
            scale, so that the hand stays where the crop is.

    Returns:
        Metres, (B, 3).

    Raises:
        ValueError: When a shape is not the above.
    """
    _check(cam, "cam", (None, 3))
    _check(box_center, "box_center", (None, 2))
    _check(box_side, "box_side", (None,))
    _check(focal_length, "focal_length", (None,))
    _check(principal_point, "principal_point", (None, 2))
    cam = _at_least_float32(cam)
    # Metres of the plane z = 0 that one pixel of the image covers.
    pixel = 2 / (box_side * cam[:, 0].clamp(min=scale_min))
    shift = cam[:, 1:] + (box_center - principal_point) * pixel[:, None]
    return torch.cat((shift, (focal_length * pixel)[:, None]), dim=-1)


def crop_camera(box_center: Tensor, box_side: Tensor) -> tuple[Tensor, Tensor]:
    """Pinhole camera of the full image in which the crop's own projection is exact.

    With the translation of :func:`crop_translation`, :func:`project_pinhole` puts every point
    where :func:`project_crop` has it in the crop.

    Args:
        box_center: Centre of the crop in the full image, pixels, (B, 2).
        box_side: Side of the crop in the full image, its height for a 3:4 crop, pixels, (B,).

    Returns:
        Focal length (B,) and principal point (B, 2), pixels.

    Raises:
        ValueError: When a shape is not the above.
    """
    _check(box_center, "box_center", (None, 2))
    _check(box_side, "box_side", (None,))
    return _RELATIVE_FOCAL * _at_least_float32(box_side), _at_least_float32(box_center)


def project_pinhole(
    points: Tensor, translation: Tensor | None, focal_length: Tensor, principal_point: Tensor
) -> Tensor:
    """Project points with a pinhole camera.

    Args:
        points: Metres, (B, N, 3).
        translation: Added to the points before, (B, 3); ``None`` if they are in the camera's
            frame already.
        focal_length: Pixels, (B,), or (B, 2) for x and y.
        principal_point: Pixels, (B, 2).

    Returns:
        Pixels, (B, N, 2).

    Raises:
        ValueError: When a shape is not the above.
    """
    _check(points, "points", (None, None, 3))
    _check(focal_length, "focal_length", (None, 2) if focal_length.ndim == 2 else (None,))
    _check(principal_point, "principal_point", (None, 2))
    points = _at_least_float32(points)
    if translation is not None:
        _check(translation, "translation", (None, 3))
        points = points + translation[:, None]
    focal_length = focal_length[:, None] if focal_length.ndim == 2 else focal_length[:, None, None]
    return focal_length * points[..., :2] / points[..., 2:] + principal_point[:, None]


def default_focal_length(image_size: Sequence[float]) -> float:
    """Guess the focal length of an image without intrinsics, as HaMeR does.

    Args:
        image_size: Width and height, pixels.

    Returns:
        5000/256 times the longer side, pixels: a field of view of only 3 degrees.
    """
    width, height = image_size
    return _RELATIVE_FOCAL * max(width, height)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _check(x: Tensor, name: str, sizes: tuple[int | None, ...]) -> None:
    """Check a shape; ``None`` is any size."""
    fits = x.ndim == len(sizes) and all(
        size is None or actual == size for actual, size in zip(x.shape, sizes, strict=True)
    )
    if not fits:
        letters = iter("BN")
        expected = ", ".join(next(letters) if size is None else str(size) for size in sizes)
        raise ValueError(f"camera: {name} must have the shape ({expected}), got {tuple(x.shape)}")
