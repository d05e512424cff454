"""One image: which shapes it holds, where, what of each stays visible, and its pixels.

Outlines are filled on a grid ``OVERSAMPLING`` times finer than the image. The share of
fine cells that a shape covers is its opacity at a pixel, which gives smooth edges, and
polygons traced on the fine grid are exact to a fraction of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .outlines import CATEGORIES, turned
from .textures import (
    SUBPIXEL_BITS,
    box_around,
    clouds,
    cluttered_background,
    textured,
    to_fixed_point,
    typical_colour,
)

OVERSAMPLING = 4

# The longer side of a shape, as a share of the image's shorter side.
SMALLEST, LARGEST = 1 / 20, 1 / 2

# Of every shape at least this share stays visible, whatever lies on top of it and
# however far it reaches over the border. So no visible shape is without a label.
LEAST_VISIBLE = 0.5

FEWEST_SHAPES, MOST_SHAPES = 2, 6
_ATTEMPTS_PER_SHAPE = 20
_CHANCE_OF_CROWDING = 0.35


@dataclass(frozen=True)
class PlacedShape:
    """One shape of a scene.

    Attributes:
        category: Index into ``CATEGORIES``.
        keypoints: ``(K, 2)``, in pixels; some may lie outside the image.
        visible: ``(OVERSAMPLING * H, OVERSAMPLING * W)``, bool: the cells of the fine
            grid where this shape is the topmost one.
        covered: The same for the whole shape as far as the image reaches, hidden or not.
    """

    category: int
    keypoints: np.ndarray
    visible: np.ndarray
    covered: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A drawn image and what is in it.

    Attributes:
        image: ``(H, W, 3)``, uint8, in OpenCV's channel order (BGR).
        shapes: The shapes, from the hindmost to the frontmost.
    """

    image: np.ndarray
    shapes: list[PlacedShape]


@dataclass
class _Draft:
    """A shape while others are still being put in front of it."""

    category: int
    keypoints: np.ndarray
    covered: np.ndarray
    visible: np.ndarray
    full_area: float  # in cells of the fine grid, beyond the border included
    centre: np.ndarray
    size: float

    def visible_share_behind(self, covered: np.ndarray) -> float:
        return np.count_nonzero(self.visible & ~covered) / self.full_area


def draw_scene(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw one image.

    Args:
        rng: The only source of chance: the same generator state gives the same scene.
        height: Rows of the image, in pixels.
        width: Columns of the image, in pixels.

    Returns:
        The image and its shapes; there is at least one.
    """
    drafts = _lay_out(rng, height, width)
    image = _paint(rng, drafts, height, width)
    shapes = [PlacedShape(d.category, d.keypoints, d.visible, d.covered) for d in drafts]
    return Scene(image, shapes)


def _lay_out(rng: np.random.Generator, height: int, width: int) -> list[_Draft]:
    drafts: list[_Draft] = []
    wanted = int(rng.integers(FEWEST_SHAPES, MOST_SHAPES + 1))
    for _ in range(wanted * _ATTEMPTS_PER_SHAPE):
        if len(drafts) == wanted:
            break
        new = _propose(rng, drafts, height, width)
        if _is_acceptable(new, drafts):
            for old in drafts:
                old.visible &= ~new.covered
            drafts.append(new)
    return drafts


def _propose(rng: np.random.Generator, drafts: list[_Draft], height: int, width: int) -> _Draft:
    size = min(height, width) * rng.uniform(SMALLEST, LARGEST)
    if drafts and rng.uniform() < _CHANCE_OF_CROWDING:
        neighbour = drafts[rng.integers(len(drafts))]
        reach = (neighbour.size + size) / 2
        centre = neighbour.centre + rng.uniform(-reach, reach, 2)
        centre = np.clip(centre, 0, [width - 1, height - 1])
    else:
        centre = rng.uniform([0, 0], [width, height])
    category = int(rng.integers(len(CATEGORIES)))
    return _place(rng, category, centre, size, height, width)


def _place(
    rng: np.random.Generator,
    category: int,
    centre: np.ndarray,
    size: float,
    height: int,
    width: int,
) -> _Draft:
    kind = CATEGORIES[category]
    turn = rng.uniform(-kind.max_turn, kind.max_turn)
    contours = [turned(contour, turn) for contour in kind.contours]
    scale = size / np.ptp(contours[0], axis=0).max()
    contours = [contour * scale + centre for contour in contours]
    covered = np.zeros((height * OVERSAMPLING, width * OVERSAMPLING), np.uint8)
    # Cell i of the fine grid spans i / OVERSAMPLING to (i + 1) / OVERSAMPLING; OpenCV
    # counts from the middle of cell 0.
    fine = [to_fixed_point(contour * OVERSAMPLING - 0.5) for contour in contours]
    cv2.fillPoly(covered, fine, 1, cv2.LINE_8, SUBPIXEL_BITS)
    areas = [abs(cv2.contourArea(contour.astype(np.float32))) for contour in contours]
    covered = covered.astype(bool)
    return _Draft(
        category=category,
        keypoints=turned(kind.keypoints, turn) * scale + centre,
        covered=covered,
        visible=covered.copy(),
        full_area=(areas[0] - sum(areas[1:])) * OVERSAMPLING**2,
        centre=centre,
        size=size,
    )


def _is_acceptable(new: _Draft, drafts: list[_Draft]) -> bool:
    inside_enough = np.count_nonzero(new.covered) >= LEAST_VISIBLE * new.full_area
    return inside_enough and all(
        old.visible_share_behind(new.covered) >= LEAST_VISIBLE for old in drafts
    )


def _paint(rng: np.random.Generator, drafts: list[_Draft], height: int, width: int) -> np.ndarray:
    canvas = cluttered_background(rng, height, width)
    for draft in drafts:
        opacity = _share_of_cells(draft.covered)
        box = box_around(opacity)
        behind, opacity = canvas[box], opacity[box]
        contrast = behind[opacity > 0].mean(axis=0)
        colour = typical_colour(rng, draft.category, len(CATEGORIES), away_from=contrast)
        behind += opacity[..., None] * (textured(rng, *opacity.shape, colour) - behind)
    return _photograph(rng, canvas)


def _share_of_cells(fine: np.ndarray) -> np.ndarray:
    steps = range(OVERSAMPLING)
    cells = sum(
        fine[i::OVERSAMPLING, j::OVERSAMPLING].astype(np.uint8) for i in steps for j in steps
    )
    return cells / OVERSAMPLING**2


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Uneven light, a lens that may be out of focus, and a noisy sensor."""
    height, width = canvas.shape[:2]
    light = 0.7 + 0.6 * clouds(rng, height, width, cell=max(4, min(height, width) // 2))
    exposed = np.clip(canvas * light[..., None], 0, 255).astype(np.uint8)
    if rng.uniform() < 0.5:
        exposed = cv2.GaussianBlur(exposed, (5, 5), float(rng.uniform(0.4, 1.1)))
    noise = rng.normal(0, rng.uniform(1, 6), exposed.shape)
    return np.clip(np.rint(exposed + noise), 0, 255).astype(np.uint8)
