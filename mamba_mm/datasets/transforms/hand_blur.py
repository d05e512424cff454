"""Blur as of a camera out of focus, or of a hand in motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS

from .argument_checks import checked_choices, checked_probability, checked_range

KINDS = ("gaussian", "motion")
_SAMPLES_PER_PIXEL = 4
# Less than that does not change an 8-bit image to speak of.
_LEAST_PIXELS = 0.1
_LONGEST_KERNEL = 9.0


class _Blur(NamedTuple):
    """What was drawn; a size of 0 leaves the image."""

    kind: str
    size: float
    angle: float


@TRANSFORMS.register_module()
class HandBlur(BaseTransform):
    """Blur the image, like a lens out of focus or like motion along a line.

    Changes ``img`` alone. Sizes are shares of the image's height, so one setting means the same
    for every input size. Place it after ``TopdownAffine``: there the image is the network's input
    and a tenth of the pixels. Other channels than colour are blurred with it.

    MMPose's ``Albumentation`` blurs too, for those who have that library; its kernels count pixels.

    Args:
        prob: How often an image is blurred.
        kinds: Out of ``"gaussian"`` and ``"motion"``; each is as likely as the others.
        sigma: Bounds of the standard deviation of the Gaussian, as shares of the height.
        length: Bounds of the length of the motion, as shares of the height; its direction is any.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        prob: float = 0.3,
        kinds: Sequence[str] = KINDS,
        sigma: Sequence[float] = (0.002, 0.012),
        length: Sequence[float] = (0.01, 0.06),
    ) -> None:
        name = type(self).__name__
        self.prob = checked_probability(name, prob)
        self.kinds = checked_choices(name, "kinds", kinds, KINDS)
        self.sigma = checked_range(name, "sigma", sigma, most=1.0)
        self.length = checked_range(name, "length", length, most=1.0)

    @cache_randomness
    def _draw(self) -> _Blur | None:
        if np.random.rand() >= self.prob:
            return None
        kind = self.kinds[np.random.randint(len(self.kinds))]
        bounds = self.sigma if kind == "gaussian" else self.length
        return _Blur(kind, np.random.uniform(*bounds), np.random.uniform(0, np.pi))

    def transform(self, results: dict) -> dict:
        """Blur ``img``, (H, W, channels).

        Args:
            results: The sample.

        Returns:
            The sample.
        """
        blur = self._draw()
        if blur is None:
            return results
        image = results["img"]
        pixels = blur.size * image.shape[0]
        if pixels < _LEAST_PIXELS:
            return results
        if blur.kind == "gaussian":
            results["img"] = cv2.GaussianBlur(image, (0, 0), pixels)
        else:
            results["img"] = blur_along(image, pixels, blur.angle)
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(prob={self.prob}, kinds={self.kinds}, sigma={self.sigma}, "
            f"length={self.length})"
        )


def blur_along(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Blur an image as a uniform motion along a line does.

    A long line is two halves side by side: OpenCV convolves with large kernels by Fourier
    transforms, 80 times as slowly.

    Args:
        image: (H, W, channels).
        length: Of the line, in pixels.
        angle: Of the line, in radians from x towards y.

    Returns:
        The blurred image, of the same type.
    """
    if length <= _LONGEST_KERNEL:
        return cv2.filter2D(image, -1, motion_kernel(length, angle))
    half = blur_along(image, length / 2, angle)
    x, y = length / 4 * np.cos(angle), length / 4 * np.sin(angle)
    there, back = (_moved(half, sign * x, sign * y) for sign in (1, -1))
    return cv2.addWeighted(there, 0.5, back, 0.5, 0)


def _moved(image: np.ndarray, x: float, y: float) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """Return the kernel of a uniform motion along a line.

    Args:
        length: Of the line, in pixels; it need not be whole.
        angle: Of the line, in radians from x towards y.

    Returns:
        A square with an odd side, float32; its sum is 1 and its centre of mass in the middle.
    """
    half = length / 2
    middle = int(np.ceil(half))
    kernel = np.zeros((2 * middle + 2, 2 * middle + 2), np.float32)
    along = np.linspace(-half, half, max(2, round(length * _SAMPLES_PER_PIXEL)) | 1)
    x, y = middle + along * np.cos(angle), middle + along * np.sin(angle)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    # Each point of the line is shared by the four pixels around it.
    for down in (0, 1):
        for right in (0, 1):
            weight = np.abs(1 - down - (y - row)) * np.abs(1 - right - (x - column))
            np.add.at(kernel, (row + down, column + right), weight)
    # The last row and column only catch weights of zero.
    return kernel[:-1, :-1] / kernel.sum()
