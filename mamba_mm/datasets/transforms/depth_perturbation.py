"""Depth that is missing or wrong, so that a network does not rely on it blindly."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS

from .argument_checks import checked_probability


@TRANSFORMS.register_module()
class DepthPerturbation(BaseTransform):
    """Lose the depth of a crop, altogether or in places, and add noise to what is left.

    Changes the fourth channel of ``img``, and ``depth_mask``; zeros mean unknown. Place it after
    ``AppendDepth``, in training.

    Args:
        drop_prob: How often the whole map is lost, so that the network works without depth too.
        hole_prob: How often a rectangle of it is lost, of up to half the height and the width.
        noise: Standard deviation of what is added to every known pixel, in units of the deviation
            of the depths in the crop.

    Raises:
        ValueError: A probability is not in 0..1, or the noise is negative.
    """

    def __init__(self, drop_prob: float = 0.1, hole_prob: float = 0.0, noise: float = 0.0) -> None:
        name = type(self).__name__
        self.drop_prob = checked_probability(name, drop_prob)
        self.hole_prob = checked_probability(name, hole_prob)
        if not noise >= 0:
            raise ValueError(f"{name}: noise must not be negative, got {noise}")
        self.noise = float(noise)

    @cache_randomness
    def _draw_seed(self) -> int:
        """A seed for all that is drawn, so that a cached call repeats the whole thing."""
        return int(np.random.randint(2**31))

    def transform(self, results: dict) -> dict:
        """Perturb the depth of a sample.

        Args:
            results: The sample.

        Returns:
            The sample.

        Raises:
            ValueError: Its image has no fourth channel.
        """
        if "depth_mask" not in results or results["img"].shape[-1] != 4:
            raise ValueError(
                "DepthPerturbation: the image has no depth; it must come after AppendDepth in the "
                "pipeline"
            )
        rng = np.random.default_rng(self._draw_seed())
        known, depth = results["depth_mask"].copy(), results["img"][..., 3]
        if rng.uniform() < self.drop_prob:
            known[:] = False
        if rng.uniform() < self.hole_prob:
            known[_rectangle(rng, *known.shape)] = False
        noisy = depth + self.noise * rng.standard_normal(known.shape)
        results["img"] = np.dstack([results["img"][..., :3], np.where(known, noisy, 0)])
        results["img"] = results["img"].astype(np.float32)
        results["depth_mask"] = known
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(drop_prob={self.drop_prob}, hole_prob={self.hole_prob}, "
            f"noise={self.noise})"
        )


def _rectangle(rng: np.random.Generator, height: int, width: int) -> tuple[slice, slice]:
    rows, columns = (int(n * rng.uniform(0.05, 0.5)) for n in (height, width))
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    return slice(top, top + rows), slice(left, left + columns)
