"""What hides a hand: the outline of a thing, and what its surface looks like."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

# How a thing is stretched at most, longer side over shorter.
_MOST_STRETCHED = 2.5
_WAVES = 4
_BULGE = 0.35
_TINY = 1e-6
# The noise of a texture has features of 1/4 to 1/32 of its height.
_NOISE_CELLS = (4, 32)
_SHADING = 0.25


def draw_outline(
    shape: str, rng: np.random.Generator
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Draw a shape at random: stretched, turned, of any size.

    Args:
        shape: ``"ellipse"``, ``"rectangle"`` or ``"blob"``.
        rng: The randomness.

    Returns:
        A function of offsets in x and in y, arrays that broadcast: how large the shape has to be
        to reach that far.
    """
    angle, stretch = rng.uniform(0, np.pi), math.sqrt(rng.uniform(1, _MOST_STRETCHED))
    # Plain floats: NumPy's own would make everything below double precision.
    cosine, sine = math.cos(angle), math.sin(angle)
    # Bulges and dents around a blob, higher frequencies lower.
    orders = np.arange(2, 2 + _WAVES)
    waves = (rng.normal(0, _BULGE, _WAVES) + 1j * rng.normal(0, _BULGE, _WAVES)) / orders
    waves = waves.tolist()

    def size_to_reach(right: np.ndarray, down: np.ndarray) -> np.ndarray:
        right, down = right.astype(np.float32), down.astype(np.float32)
        x = (cosine * right + sine * down) / stretch
        y = (cosine * down - sine * right) * stretch
        if shape == "rectangle":
            return np.maximum(np.abs(x), np.abs(y))
        radius = np.sqrt(x**2 + y**2)
        if shape == "ellipse":
            return radius
        # e^(i k angle) by multiplication, several times as fast as sines of angles.
        turned = (x + 1j * y) / np.maximum(radius, _TINY)
        turning, bulge = turned, np.zeros_like(radius)
        for wave in waves:
            turning = turning * turned
            bulge += (wave * turning).real
        return radius * np.exp(-bulge)

    return size_to_reach


def covering_mask(
    region: np.ndarray,
    centre: np.ndarray,
    share: float,
    size_to_reach: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return where a thing lies that is just large enough to hide a share of a region.

    Args:
        region: (H, W) of bool, not empty.
        centre: Middle of the thing, (x, y).
        share: Of the region's pixels, above 0 and at most 1.
        size_to_reach: What :func:`draw_outline` returned.

    Returns:
        (H, W) of bool; it hides the share, rounded up to a pixel.
    """
    height, width = region.shape
    sizes = size_to_reach(np.arange(width) - centre[0], np.arange(height)[:, None] - centre[1])
    inside = sizes[region]
    hidden = min(len(inside), max(1, int(np.ceil(share * len(inside)))))
    return sizes <= np.partition(inside, hidden - 1)[hidden - 1]


def plain_surface(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return one colour under light from one side, (H, W, 3), float32, 0..255."""
    angle = rng.uniform(0, 2 * np.pi)
    down, right = (np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width))
    light = 1 + _SHADING * (math.cos(angle) * right + math.sin(angle) * down[:, None])
    colour = rng.uniform(20, 235, 3).astype(np.float32)
    return np.clip(light[..., None] * colour, 0, 255)


def noise_surface(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise around a colour, coarse or fine, (H, W, 3), float32, 0..255."""
    rows = rng.integers(_NOISE_CELLS[0], _NOISE_CELLS[1] + 1)
    columns = max(2, round(rows * width / height))
    cells = rng.normal(0, 1, (rows, columns, 3)) * rng.uniform(10, 60, 3)
    cells = (cells + rng.uniform(30, 225, 3)).astype(np.float32)
    return np.clip(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC), 0, 255)


def surface_of_image(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return another place of the image: mirrored or not, and shifted, around its borders."""
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = image[:, ::-1]
    # At least a quarter away, or a thing would hide a hand behind almost the same hand.
    shift = [rng.integers(side // 4, side - side // 4 + 1) for side in (height, width)]
    return np.roll(image, shift, axis=(0, 1))


def surface_of_picture(
    picture: np.ndarray, height: int, width: int, rng: np.random.Generator
) -> np.ndarray:
    """Return a random part of a picture, (H, W, 3), enlarged where the picture is smaller."""
    rows, columns = picture.shape[:2]
    # Of the largest part with the wanted ratio of sides, between half and all.
    scale = min(rows / height, columns / width) * rng.uniform(0.5, 1)
    size = max(1, int(scale * height)), max(1, int(scale * width))
    top, left = (
        rng.integers(0, n - part + 1) for n, part in zip((rows, columns), size, strict=True)
    )
    part = picture[top : top + size[0], left : left + size[1]]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.resize(part, (width, height), interpolation=method)
