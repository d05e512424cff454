"""A pigmented lesion on skin, as a dermatoscope shows it."""

from __future__ import annotations

import cv2
import numpy as np

from ..shapes.textures import SUBPIXEL_BITS, clouds, to_fixed_point
from .blobs import Blob, opacity, paint

LESION_CLASSES = ("background", "lesion")

# Blue, green, red.
_SKIN = np.array([[150.0, 175.0, 225.0], [125.0, 155.0, 205.0], [165.0, 180.0, 215.0]])
_PIGMENT = np.array([[45.0, 60.0, 100.0], [70.0, 85.0, 140.0], [85.0, 90.0, 165.0]])


def draw_lesion(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: skin, a lesion with a soft border, hairs, freckles and a vignette.

    Args:
        rng: What chance comes from.
        height: Rows, in pixels.
        width: Columns, in pixels.

    Returns:
        The image ``(height, width, 3)`` and the labels ``(height, width)``, both uint8; 1 is
        the lesion. Freckles are skin.
    """
    side = min(height, width)
    canvas = _mottled(rng, height, width, _mixed(rng, _SKIN), spread=22, cell=side // 3)
    for _ in range(rng.integers(0, 6)):
        freckle = _blob(rng, height, width, 0.01 * side, 0.025 * side, softness=0.02 * side)
        paint(canvas, _mixed(rng, _PIGMENT), 0.6 * opacity(rng, freckle, height, width))

    lesion = _blob(rng, height, width, 0.12 * side, 0.34 * side, softness=rng.uniform(3, 12))
    cover = opacity(rng, lesion, height, width)
    body = _mottled(rng, height, width, _mixed(rng, _PIGMENT), spread=35, cell=side // 6)
    paint(canvas, body, cover * rng.uniform(0.65, 0.95))

    for _ in range(rng.integers(0, 7)):
        _paint_hair(rng, canvas)
    canvas *= _vignette(rng, height, width)[..., None]
    image = cv2.GaussianBlur(canvas, (3, 3), 0.6) + rng.normal(0, 4, canvas.shape)
    labels = (cover > 0.5).astype(np.uint8)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def _mixed(rng: np.random.Generator, colours: np.ndarray) -> np.ndarray:
    """A random mixture of colours, a little off."""
    return rng.dirichlet(np.ones(len(colours))) @ colours + rng.normal(0, 6, 3)


def _mottled(
    rng: np.random.Generator, height: int, width: int, colour: np.ndarray, spread: float, cell: int
) -> np.ndarray:
    shade = clouds(rng, height, width, cell=max(cell, 4)) - 0.5
    return colour + 2 * spread * shade[..., None]


def _blob(
    rng: np.random.Generator, height: int, width: int, least: float, most: float, softness: float
) -> Blob:
    side = min(height, width)
    centre = rng.uniform([0.25 * side, 0.25 * side], [width - 0.25 * side, height - 0.25 * side])
    radii = rng.uniform(least, most, 2)
    turn = rng.uniform(0, np.pi)
    return Blob(tuple(centre), tuple(radii), turn, rng.uniform(0.05, 0.2), max(softness, 1.0))


def _paint_hair(rng: np.random.Generator, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    steps = np.linspace(0, 1, 24)[:, None]
    start, bend, end = rng.uniform(
        [-0.1 * width, -0.1 * height], [1.1 * width, 1.1 * height], (3, 2)
    )
    curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [to_fixed_point(curve)], False, 255, 1, cv2.LINE_AA, SUBPIXEL_BITS)
    paint(canvas, rng.uniform(20, 60, 3), mask / 255 * rng.uniform(0.4, 0.9))


def _vignette(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    away = np.hypot(2 * columns / width - 1, 2 * rows / height - 1)
    return 1 - rng.uniform(0.1, 0.45) * np.clip(away - 0.5, 0, None) ** 2
