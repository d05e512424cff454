"""Depth maps: the hand's own depth, and something behind it, as a depth camera would see both."""

from __future__ import annotations

import numpy as np

from ..shapes.textures import clouds

DEPTH_UNIT = 1e-4
"""Metres of one step of a depth map's values; 0 stands for unknown."""

# Metres between the hand and what is behind it: at least, and how much further it may be.
_LEAST_GAP = 0.03
_LARGEST_GAP = 1.0
# How far the wall may be nearer or further at the border than in the middle, as a share.
_LARGEST_TILT = 0.35
_LARGEST_BUMP = 0.15
# A depth camera sees nothing on dark or shiny things: at most this share of the background.
_LARGEST_LOSS = 0.15


def draw_depth_map(rng: np.random.Generator, surface: np.ndarray) -> np.ndarray:
    """Put a wall behind a hand: tilted, uneven, with holes where nothing is known.

    Args:
        rng: The generator to draw from.
        surface: ``(H, W)``, depth of the hand in metres, infinite beside it.

    Returns:
        ``(H, W)``, uint16, in steps of :data:`DEPTH_UNIT`; 0 where the depth is unknown, which
        is never on the hand.
    """
    hand = np.isfinite(surface)
    farthest = surface[hand].max(initial=0.0)
    wall = np.maximum(_wall(rng, surface.shape, farthest), farthest + _LEAST_GAP)
    depth = np.where(hand, surface, wall)
    depth[~hand & _holes(rng, surface.shape)] = 0
    # The furthest wall is at 3 metres, less than half of what 16 bits hold.
    return np.rint(depth / DEPTH_UNIT).astype(np.uint16)


def _wall(rng: np.random.Generator, shape: tuple[int, int], farthest: float) -> np.ndarray:
    height, width = shape
    middle = farthest + rng.uniform(_LEAST_GAP, _LARGEST_GAP)
    # The inverse depth of a plane changes evenly over the picture.
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0, _LARGEST_TILT)
    inverse = (1 + tilt * (np.cos(angle) * x + np.sin(angle) * y) / np.sqrt(2)) / middle
    return 1 / inverse - rng.uniform(0, _LARGEST_BUMP) * _clouds(rng, shape)


def _holes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    pattern = _clouds(rng, shape)
    return pattern < np.quantile(pattern, rng.uniform(0, _LARGEST_LOSS))


def _clouds(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return clouds(rng, *shape, cell=min(shape) // 4)
