"""Shapes with soft, irregular borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Waves of the border: a wave with k crests around the shape.
_CRESTS = np.arange(2, 8)


@dataclass(frozen=True)
class Blob:
    """An ellipse with a wavy, soft border.

    Attributes:
        centre: Column and row, in pixels.
        radii: The two half axes, in pixels.
        turn: By how much the first axis is turned from the horizontal, in radians.
        roughness: Height of the waves of the border, as a share of the radius.
        softness: Width of the border, in pixels.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    turn: float = 0.0
    roughness: float = 0.06
    softness: float = 1.0


def opacity(rng: np.random.Generator, blob: Blob, height: int, width: int) -> np.ndarray:
    """Draw a blob.

    Args:
        rng: What the waves of the border come from.
        blob: What to draw.
        height: Rows of the image, in pixels.
        width: Columns of the image, in pixels.

    Returns:
        ``(height, width)``, float64: 1 inside, 0 outside, 1/2 on the border.
    """
    rows, columns = np.mgrid[:height, :width]
    x, y = columns - blob.centre[0], rows - blob.centre[1]
    cos, sin = np.cos(blob.turn), np.sin(blob.turn)
    across, along = (x * cos + y * sin) / blob.radii[0], (y * cos - x * sin) / blob.radii[1]
    angle = np.arctan2(along, across)
    heights = rng.normal(0, blob.roughness, len(_CRESTS)) * 2 / _CRESTS
    phases = rng.uniform(0, 2 * np.pi, len(_CRESTS))
    border = 1 + sum(
        h * np.cos(k * angle + p) for h, k, p in zip(heights, _CRESTS, phases, strict=True)
    )
    # In pixels, to first order: how far the border lies outside of the pixel.
    distance = (border - np.hypot(across, along)) * np.sqrt(blob.radii[0] * blob.radii[1])
    return 1 / (1 + np.exp(-np.clip(distance / (blob.softness / 4), -40, 40)))


def paint(canvas: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """Lay a colour over a canvas, in place.

    Args:
        canvas: ``(H, W, C)``, float64.
        colour: ``(C,)`` or ``(H, W, C)``.
        cover: Opacity, ``(H, W)``.
    """
    canvas += cover[..., None] * (colour - canvas)
