"""The categories of the set: what is drawn, and which points of it are labelled.

Coordinates are those of images: x to the right, y downwards. An outline is one closed
contour, followed by those of its holes. Its unit does not matter, because a shape is
scaled to the size that is asked for when it is placed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Keypoints lie a little inside the outline, so that the pixel under a keypoint that
# nothing hides belongs to the shape.
_INSET = 0.88


@dataclass(frozen=True)
class ShapeCategory:
    """One class of shapes.

    Attributes:
        name: The name of the category.
        contours: Closed contours, each ``(P, 2)``; those after the first are holes.
        keypoint_names: One name a keypoint; every category has the same number.
        keypoints: ``(K, 2)``, in the coordinates of ``contours``.
        skeleton: Pairs of keypoints that are joined, counted from 1 as COCO does.
        max_turn: The shape is turned by at most this many degrees either way: less
            than half its symmetry angle, or "top" would name another corner.
    """

    name: str
    contours: tuple[np.ndarray, ...]
    keypoint_names: tuple[str, ...]
    keypoints: np.ndarray
    skeleton: tuple[tuple[int, int], ...]
    max_turn: float


def turned(points: np.ndarray, degrees: float) -> np.ndarray:
    """Return ``points`` ``(P, 2)`` turned clockwise about the origin."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def ring_of_points(angles: list[float], radii: list[float]) -> np.ndarray:
    """Return points ``(P, 2)`` at ``radii`` and ``angles`` (degrees clockwise from the top)."""
    turns = np.radians(angles)
    return np.stack([np.sin(turns), -np.cos(turns)], axis=1) * np.array(radii)[:, None]


def _regular(count: int, first: float = 0.0, radius: float = 1.0) -> np.ndarray:
    return ring_of_points([first + 360 * i / count for i in range(count)], [radius] * count)


def _with_centre(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points * _INSET, np.zeros((1, 2))])


_SIDES = ("top", "right", "bottom", "left")
_CORNERS = ("top_right", "bottom_right", "bottom_left", "top_left")
_SPOKES = ((1, 5), (2, 5), (3, 5), (4, 5))


def _disc() -> ShapeCategory:
    keypoints = _with_centre(_regular(4))
    return ShapeCategory("disc", (_regular(72),), (*_SIDES, "centre"), keypoints, _SPOKES, 0)


def _square() -> ShapeCategory:
    corners = _regular(4, first=45)
    names = (*_CORNERS, "centre")
    return ShapeCategory("square", (corners,), names, _with_centre(corners), _SPOKES, 30)


def _triangle() -> ShapeCategory:
    corners = _regular(3)
    base = (corners[1] + corners[2]) / 2
    keypoints = _with_centre(np.concatenate([corners, base[None]]))
    names = ("top", "bottom_right", "bottom_left", "base", "centre")
    skeleton = ((1, 5), (2, 4), (3, 4), (4, 5))
    return ShapeCategory("triangle", (corners,), names, keypoints, skeleton, 40)


def _star() -> ShapeCategory:
    outline = ring_of_points([36 * i for i in range(10)], [1.0, 0.45] * 5)
    names = ("top", "right", "bottom_right", "bottom_left", "left")
    skeleton = ((1, 3), (3, 5), (5, 2), (2, 4), (4, 1))
    # A tip is thin: its keypoint goes further in than that of a blunt corner.
    return ShapeCategory("star", (outline,), names, _regular(5) * 0.8, skeleton, 25)


def _cross() -> ShapeCategory:
    arm = np.array([[-0.32, -0.32], [-0.32, -1.0], [0.32, -1.0]])
    outline = np.concatenate([turned(arm, 90 * i) for i in range(4)])
    keypoints = _with_centre(_regular(4))
    return ShapeCategory("cross", (outline,), (*_SIDES, "centre"), keypoints, _SPOKES, 30)


def _ring() -> ShapeCategory:
    hole = 0.55
    inner_top = np.array([[0.0, -hole / _INSET]])
    keypoints = np.concatenate([_regular(4) * _INSET, inner_top])
    skeleton = ((1, 2), (2, 3), (3, 4), (4, 1), (1, 5))
    contours = (_regular(72), _regular(48, radius=hole))
    return ShapeCategory("ring", contours, (*_SIDES, "inner_top"), keypoints, skeleton, 0)


CATEGORIES = (_disc(), _square(), _triangle(), _star(), _cross(), _ring())
