"""Mirroring of a hand with its 3-D labels, which makes a right hand of a left one."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS

_MODES = ("to_right", "random")
_MIRROR_X = np.diag([-1.0, 1.0, 1.0])


@TRANSFORMS.register_module()
class HandMeshRandomFlip(BaseTransform):
    """Mirror image and labels left to right.

    Changes what is there of ``img``, ``bbox``, ``bbox_center``, ``keypoints``,
    ``keypoints_cam``, ``vertices_cam``, ``mano_pose``, ``cam_K`` and ``is_right``. A pixel x goes
    to W - 1 - x, a camera coordinate x to -x, and of each axis-angle vector y and z change sign;
    shape coefficients stay, and so does the order of the joints, as in HaMeR. Joints that
    are not visible stay as they are. Adds ``flipped``: whether the sample is the mirror image of
    the one taken.

    Place it after ``LoadImage`` and before ``RandomBBoxTransform``.

    Args:
        mode: ``"to_right"``: mirror the left hands, so that a model sees right hands only. A
            sample without ``is_right`` counts as right. ``"random"``: mirror any hand.
        prob: How often ``"random"`` mirrors; 0.5 by default.

    Raises:
        ValueError: The mode is unknown, or ``prob`` is no probability or has no meaning.
    """

    def __init__(self, mode: str = "to_right", prob: float | None = None) -> None:
        if mode not in _MODES:
            raise ValueError(
                f"HandMeshRandomFlip: unknown mode {mode!r}; known: {', '.join(_MODES)}"
            )
        if mode == "to_right" and prob is not None:
            raise ValueError("HandMeshRandomFlip: prob has a meaning with mode='random' only")
        self.mode = mode
        self.prob = 0.5 if prob is None else prob
        if not 0 <= self.prob <= 1:
            raise ValueError(f"HandMeshRandomFlip: prob must be from 0 to 1, got {prob}")

    @cache_randomness
    def _draw(self) -> bool:
        return bool(np.random.rand() < self.prob)

    def transform(self, results: dict) -> dict:
        """Mirror the sample if it is to be mirrored.

        Args:
            results: The sample, with one hand.

        Returns:
            The sample.

        Raises:
            ValueError: The box was moved or the image cropped before.
        """
        for key, culprit in (
            ("transformed_keypoints", "TopdownAffine"),
            ("bbox_rotation", "RandomBBoxTransform"),
        ):
            if key in results:
                raise ValueError(f"HandMeshRandomFlip must come before {culprit} in the pipeline")
        is_right = bool(np.all(results.get("is_right", 1)))
        mirror = self._draw() if self.mode == "random" else not is_right
        # Mirrored twice is not mirrored.
        results["flipped"] = results.get("flipped", False) != mirror
        if mirror:
            _mirror(results)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode={self.mode!r}, prob={self.prob})"


def _mirror(results: dict) -> None:
    last = results["img"].shape[1] - 1
    results["img"] = np.ascontiguousarray(results["img"][:, ::-1])
    if "bbox" in results:
        x1, y1, x2, y2 = np.split(results["bbox"], 4, axis=-1)
        results["bbox"] = np.concatenate([last - x2, y1, last - x1, y2], axis=-1)
    if "bbox_center" in results:
        results["bbox_center"] = _mirror_pixels(results["bbox_center"], last)
    if "keypoints" in results:
        points = results["keypoints"]
        visible = results["keypoints_visible"][..., None] > 0
        results["keypoints"] = np.where(visible, _mirror_pixels(points, last), points)
    for key in ("keypoints_cam", "vertices_cam"):
        if key in results:
            results[key] = results[key] * np.float32([-1, 1, 1])
    if "mano_pose" in results:
        results["mano_pose"] = results["mano_pose"] * np.float32([1, -1, -1] * 16)
    if "cam_K" in results:
        image_mirror = np.array([[-1, 0, last], [0, 1, 0], [0, 0, 1]])
        results["cam_K"] = (image_mirror @ results["cam_K"] @ _MIRROR_X).astype(np.float32)
    if "is_right" in results:
        results["is_right"] = 1 - results["is_right"]


def _mirror_pixels(points: np.ndarray, last: int) -> np.ndarray:
    """Mirror pixels (..., 2) of an image whose last column is ``last``."""
    mirrored = points.copy()
    mirrored[..., 0] = last - points[..., 0]
    return mirrored
