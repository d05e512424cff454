"""Colour patterns for shapes, and backgrounds full of things that are not shapes."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from .outlines import ring_of_points, turned

# Points are handed to OpenCV in 1/16 of a pixel.
SUBPIXEL_BITS = 4


# How far the colour of a shape is from what lies behind it, summed over the channels.
LEAST_CONTRAST = 160.0


def to_fixed_point(points: np.ndarray) -> np.ndarray:
    """Return pixel coordinates ``(P, 2)`` as OpenCV's fixed-point integers."""
    return np.round(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def random_colour(rng: np.random.Generator, away_from: np.ndarray | None = None) -> np.ndarray:
    """Draw a colour.

    Args:
        rng: The generator to draw from.
        away_from: A colour ``(3,)`` that must stay distinguishable from the drawn one.

    Returns:
        ``(3,)``, float64, each channel between 15 and 240.
    """
    while True:
        colour = rng.uniform(15, 240, 3)
        if away_from is None or _distance(colour, away_from) >= LEAST_CONTRAST:
            return colour


def typical_colour(
    rng: np.random.Generator, category: int, categories: int, away_from: np.ndarray
) -> np.ndarray:
    """Draw the colour of a shape: a hint to its category, as with most real things.

    The hues of a category scatter about its own, and one shape in eight has any colour. So
    colour tells much and never all: neighbours overlap, and distractors have all colours.

    Args:
        rng: The generator to draw from.
        category: Which category, from 0.
        categories: How many there are; their hues share the circle.
        away_from: A colour ``(3,)`` that must stay distinguishable from the drawn one.

    Returns:
        ``(3,)``, float64, each channel in 0..255.
    """
    if rng.uniform() < 1 / 8:
        return random_colour(rng, away_from)
    for _ in range(20):
        hue = (category + rng.normal(0, 0.18)) / categories % 1.0
        channels = colorsys.hsv_to_rgb(hue, rng.uniform(0.5, 1.0), rng.uniform(0.4, 1.0))
        colour = 255 * np.array(channels)
        if _distance(colour, away_from) >= LEAST_CONTRAST:
            return colour
    return random_colour(rng, away_from)  # the background has the hue of the category


def _distance(colour: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(colour - other).sum())


def clouds(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """Smooth noise whose largest features are ``cell`` pixels wide.

    Returns:
        ``(height, width)``, float64 in 0..1.
    """
    total, weight_sum, weight = np.zeros((height, width)), 0.0, 1.0
    while cell >= 2 and weight > 0.1:
        grid = rng.integers(
            0, 256, (height // cell + 2, width // cell + 2), dtype=np.uint8, endpoint=False
        )
        # The exact kind of interpolation gives the same integers on every machine.
        layer = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        total += weight * layer
        weight_sum += weight
        cell, weight = cell // 2, weight * 0.6
    return total / (255 * weight_sum) if weight_sum else total


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    along = turned(np.array([[1.0, 0.0]]), rng.uniform(0, 360))[0]
    y, x = np.mgrid[:height, :width]
    ramp = x * along[0] / width + y * along[1] / height
    return ramp * 0.5 + 0.5 - ramp.mean() * 0.5


def _stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    along = turned(np.array([[1.0, 0.0]]), rng.uniform(0, 180))[0]
    period = rng.uniform(3, 12)
    y, x = np.mgrid[:height, :width]
    return np.floor((x * along[0] + y * along[1]) / period) % 2


def _checks(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    period = int(rng.integers(3, 10))
    y, x = np.mgrid[:height, :width]
    return (x // period + y // period) % 2


def _dots(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    period = int(rng.integers(5, 11))
    y, x = np.mgrid[:height, :width] % period - period // 2
    return x * x + y * y <= (period * 0.3) ** 2


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return clouds(rng, height, width, cell=int(rng.integers(4, 16)))


_PATTERNS = (_gradient, _stripes, _checks, _dots, _clouds)


def box_around(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and the columns that hold all of ``mask`` ``(H, W)``, which is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def textured(rng: np.random.Generator, height: int, width: int, colour: np.ndarray) -> np.ndarray:
    """Fill a patch with a random pattern about ``colour``.

    Args:
        rng: The generator to draw from.
        height: Rows of the patch, in pixels.
        width: Columns of the patch, in pixels.
        colour: ``(3,)``, the middle of the two colours that the pattern mixes.

    Returns:
        ``(height, width, 3)``, float64 in 0..255.
    """
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))]
    mix = np.asarray(pattern(rng, height, width), dtype=np.float64)[..., None]
    spread = rng.uniform(-30, 30, 3)
    return np.clip(colour + (2 * mix - 1) * spread, 0, 255)


def _blob(rng: np.random.Generator) -> np.ndarray:
    count = int(rng.integers(7, 12))
    angles = np.sort(rng.uniform(0, 360, count))
    return ring_of_points(list(angles), list(rng.uniform(0.35, 1.0, count)))


def _half_disc(rng: np.random.Generator) -> np.ndarray:
    return turned(ring_of_points(list(range(0, 181, 10)), [1.0] * 19), rng.uniform(0, 360))


def _bar(rng: np.random.Generator) -> np.ndarray:
    half = rng.uniform(0.06, 0.25)
    corners = np.array([[-1.0, -half], [1.0, -half], [1.0, half], [-1.0, half]])
    return turned(corners, rng.uniform(0, 180))


def _corner(rng: np.random.Generator) -> np.ndarray:
    corners = np.array([[-1, -1], [-0.4, -1], [-0.4, 0.4], [1, 0.4], [1, 1], [-1, 1]], float)
    return turned(corners, rng.uniform(0, 360))


_DISTRACTORS = (_blob, _half_disc, _bar, _corner)


def _paint_distractor(rng: np.random.Generator, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    outline = _DISTRACTORS[rng.integers(len(_DISTRACTORS))](rng)
    radius = min(height, width) * rng.uniform(0.03, 0.3)
    points = outline * radius + rng.uniform([0, 0], [width, height])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [to_fixed_point(points)], 255, cv2.LINE_8, SUBPIXEL_BITS)
    if not mask.any():
        return
    box = box_around(mask)
    inside = mask[box] > 0
    canvas[box][inside] = textured(rng, *inside.shape, random_colour(rng))[inside]


def _paint_scribble(rng: np.random.Generator, canvas: np.ndarray) -> None:
    height, width = canvas.shape[:2]
    start = rng.uniform([0, 0], [width, height])
    steps = rng.normal(0, min(height, width) / 10, (int(rng.integers(2, 7)), 2))
    points = to_fixed_point(start + np.cumsum(steps, axis=0))
    thickness = int(rng.integers(1, max(2, min(height, width) // 50) + 1))
    mask = np.zeros((height, width), np.uint8)
    cv2.polylines(mask, [points], False, 255, thickness, cv2.LINE_8, SUBPIXEL_BITS)
    canvas[mask > 0] = random_colour(rng)


def cluttered_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Paint clouds of two colours, then shapes of no category, then scribbles.

    Returns:
        ``(height, width, 3)``, float64 in 0..255.
    """
    dark = random_colour(rng)
    light = np.clip(dark + rng.uniform(-80, 80, 3), 0, 255)
    mix = clouds(rng, height, width, cell=max(4, min(height, width) // 3))[..., None]
    canvas = dark + mix * (light - dark)
    for _ in range(rng.integers(0, 3)):
        _paint_distractor(rng, canvas)
    for _ in range(rng.integers(1, 4)):
        _paint_scribble(rng, canvas)
    return canvas
