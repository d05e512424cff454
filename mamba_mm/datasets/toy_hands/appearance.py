"""The pixels of a hand: skin, light, what is behind it, and the flaws of a camera."""

from __future__ import annotations

import cv2
import numpy as np

from mamba_mm.rendering import shade, vertex_normals

from ..shapes.textures import cluttered_background
from .hands import Hand

# The hand is drawn on a grid as many times finer, so that its outline is smooth.
_OVERSAMPLING = 2

# Blue, green, red.
_DARK_SKIN = np.array([30.0, 50, 92])
_LIGHT_SKIN = np.array([172.0, 204, 250])
_PALM = np.array([150.0, 170, 235])


def palm_share(template: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Say how much each vertex of a hand at rest belongs to its palm, ``(V,)``, 0..1.

    Args:
        template: ``(V, 3)``, palm towards -y.
        faces: ``(F, 3)``.
    """
    downwards = -vertex_normals(template, faces)[:, 1]
    return np.clip(0.5 + downwards, 0, 1)


def paint_hand(
    rng: np.random.Generator, hand: Hand, faces: np.ndarray, palm: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint a hand over clutter.

    Args:
        rng: The generator to draw from.
        hand: The hand.
        faces: ``(F, 3)``, its triangles with normals outwards.
        palm: ``(V,)``, from :func:`palm_share`; palms are lighter.

    Returns:
        The picture, ``(size, size, 3)``, uint8, blue green red; the mask, ``(size, size)``,
        bool; and the depth of the surface in metres, ``(size, size)``, infinite beside it.
    """
    size, fine = hand.view.size, _OVERSAMPLING
    pixels = hand.view.project(hand.vertices)
    # The centre of a pixel lies in the middle of its fine pixels.
    on_fine_grid = fine * pixels + (fine - 1) / 2
    drawn = shade(
        hand.vertices,
        faces,
        np.column_stack([on_fine_grid, hand.vertices[:, 2]]),
        fine * size,
        fine * size,
        colour=_skin(rng, palm),
        towards_light=_draw_light(rng),
        ambient=rng.uniform(0.25, 0.5),
    )
    cover = _shrunk(drawn.mask)[..., None]
    tint = rng.uniform(0.75, 1.1) * rng.uniform(0.95, 1.05, 3)
    surface = np.minimum(_shrunk(drawn.image) * tint, 255)
    picture = surface + (1 - cover) * cluttered_background(rng, size, size)
    depth = np.min(_fine_pixels(drawn.depth), axis=0)
    return _photographed(rng, picture), cover[..., 0] >= 0.5, depth


def _skin(rng: np.random.Generator, palm: np.ndarray) -> np.ndarray:
    tone = _DARK_SKIN + rng.uniform() * (_LIGHT_SKIN - _DARK_SKIN)
    tone = tone * rng.uniform(0.95, 1.05, 3)
    share = palm[:, None] * rng.uniform(0.15, 0.35)
    return np.clip((1 - share) * tone + share * _PALM, 0, 255)


def _draw_light(rng: np.random.Generator) -> np.ndarray:
    """Return a direction towards the light, which is never behind the hand."""
    while True:
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        if direction[2] < -0.25:
            return direction


def _shrunk(values: np.ndarray) -> np.ndarray:
    """Average the fine pixels of every pixel."""
    return sum(_fine_pixels(values.astype(np.float32))) / _OVERSAMPLING**2


def _fine_pixels(values: np.ndarray) -> list[np.ndarray]:
    """Return the first fine pixels of all pixels, then the second, and so on."""
    steps = range(_OVERSAMPLING)
    return [values[row::_OVERSAMPLING, column::_OVERSAMPLING] for row in steps for column in steps]


def _photographed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    blur = rng.uniform(0.0, 0.9)
    if blur > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    noise = rng.normal(0, rng.uniform(0, 5), picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)
