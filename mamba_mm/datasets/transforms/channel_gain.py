"""Colour augmentation of HaMeR: a random gain for each channel."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ChannelGain(BaseTransform):
    """Multiply each colour channel by a random number; values stay in 0..255.

    Changes ``img``, (H, W, channels) with values 0..255, so it belongs before normalisation. An
    integer image stays one, rounded.

    Args:
        gain_range: Bounds of the uniform distribution of the gains; (0.8, 1.2) is HaMeR's.

    Raises:
        ValueError: The range is not an ascending pair of positive numbers.
    """

    def __init__(self, gain_range: Sequence[float] = (0.8, 1.2)) -> None:
        if len(gain_range) != 2 or not 0 < gain_range[0] <= gain_range[1]:
            raise ValueError(
                f"ChannelGain: gain_range must be (low, high), 0 < low <= high; got {gain_range}"
            )
        self.gain_range = tuple(gain_range)

    @cache_randomness
    def _draw_gains(self, channels: int) -> np.ndarray:
        return np.random.uniform(*self.gain_range, channels).astype(np.float32)

    def transform(self, results: dict) -> dict:
        """Scale the channels of ``img``.

        Args:
            results: The sample.

        Returns:
            The sample.
        """
        image = results["img"]
        gains = self._draw_gains(image.shape[-1])
        if image.dtype == np.uint8:
            # Of each of the 256 values once; four times as fast as of every pixel.
            table = _scaled(np.arange(256, dtype=np.uint8)[:, None], gains)
            results["img"] = cv2.LUT(image, table[None])
        else:
            results["img"] = _scaled(image, gains)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gain_range={self.gain_range})"


def _scaled(values: np.ndarray, gains: np.ndarray) -> np.ndarray:
    scaled = np.clip(values * gains, 0, 255)
    if np.issubdtype(values.dtype, np.integer):
        scaled = np.rint(scaled)
    return scaled.astype(values.dtype)
