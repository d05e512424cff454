"""The panels of a picture: a mesh over a photograph, a hand from its side, and their layout.

Pictures are ``(H, W, 3)``, uint8, RGB; integer coordinates are the centres of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from mamba_mm.rendering import project_to_pixels, shade

from .hand_scene import Hand, Pinhole

_PAPER = 245
_GAP = 4
FROM_THE_FRONT = np.eye(3)
"""Turns points as the camera sees them: not at all."""
FROM_THE_SIDE = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Turns points to how they are seen from the right of the camera: what was far is right, what was
left is far."""
# From over the viewer's left shoulder, for a relief.
_LIGHT = (-0.4, -0.5, -1.0)
# Of the picture that the hand fills in a view from the side.
_FILL = 0.8


@dataclass(frozen=True)
class Enlargement:
    """Pixels of an image that is drawn ``factor`` times as large."""

    factor: float

    def image(self, image: np.ndarray) -> np.ndarray:
        """Return the enlarged image."""
        if self.factor == 1:
            return image.copy()
        size = [round(side * self.factor) for side in image.shape[1::-1]]
        return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)

    def pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Return where pixels ``(..., 2)`` lie in the enlarged image."""
        return (pixels + 0.5) * self.factor - 0.5

    def camera(self, camera: Pinhole) -> Pinhole:
        """Return the camera of the enlarged image."""
        return Pinhole(camera.focal_length * self.factor, self.pixels(camera.principal_point))


def mesh_over(
    image: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Pinhole,
    colour: tuple[int, int, int],
    alpha: float,
) -> np.ndarray:
    """Return the image with a shaded mesh over it.

    Args:
        image: The photograph.
        vertices: ``(V, 3)``, in the frame of the camera.
        faces: ``(F, 3)``.
        camera: The camera of the photograph.
        colour: Of the mesh, RGB.
        alpha: Opacity of the mesh, 0..1.
    """
    pixels = project_to_pixels(vertices, camera.focal_length, camera.principal_point)
    height, width = image.shape[:2]
    shaded = shade(vertices, faces, pixels, height, width, colour=colour, towards_light=_LIGHT)
    result = image.copy()
    mixed = alpha * shaded.image[shaded.mask] + (1 - alpha) * image[shaded.mask]
    result[shaded.mask] = np.rint(mixed)
    return result


@dataclass(frozen=True)
class SideView:
    """A view of hands without perspective, from the right of the camera unless told otherwise.

    Attributes:
        side: Of the square picture, in pixels.
        metres: What the larger extent of a hand may be to fill the picture.
        turn: Rotation ``(3, 3)`` that brings points into the frame of who looks at them.
    """

    side: int
    metres: float
    turn: np.ndarray = field(default_factory=FROM_THE_SIDE.copy)

    @classmethod
    def fitting(
        cls, hands: Sequence[Hand], side: int, turn: np.ndarray = FROM_THE_SIDE
    ) -> SideView:
        """Return one that each of these hands fits into, all in one scale."""
        extents = [np.ptp(_points_of(hand) @ turn.T, axis=0)[:2].max() for hand in hands]
        return cls(side, max(extents, default=0.0) or 1.0, turn)

    def mesh(
        self, hand: Hand, faces: np.ndarray, colour: tuple[int, int, int] | np.ndarray
    ) -> np.ndarray:
        """Return a picture of the hand's mesh, in one colour or that of each vertex ``(V, 3)``."""
        pixels = self.pixels(hand.vertices, hand)
        shaded = shade(
            hand.vertices @ self.turn.T,
            faces,
            pixels,
            self.side,
            self.side,
            colour=colour,
            towards_light=_LIGHT,
        )
        picture = self.paper()
        picture[shaded.mask] = shaded.image[shaded.mask]
        return picture

    def pixels(self, points: np.ndarray, hand: Hand) -> np.ndarray:
        """Return where points ``(N, 3)`` of the hand lie, with a depth, ``(N, 3)``."""
        own = _points_of(hand) @ self.turn.T
        low, high = own.min(0), own.max(0)
        middle = (low + high) / 2
        points = points @ self.turn.T
        factor = _FILL * self.side / self.metres
        planar = (points[:, :2] - middle[:2]) * factor + (self.side - 1) / 2
        # Far away in comparison with its extent, so that perspective does not matter.
        depth = points[:, 2:] - low[2] + 1e3 * self.metres
        return np.concatenate([planar, depth], axis=1)

    def paper(self, grey: int = _PAPER) -> np.ndarray:
        """Return an empty picture of this grey, 0..255."""
        return np.full((self.side, self.side, 3), grey, np.uint8)


def empty_panel(image: np.ndarray, reason: str) -> np.ndarray:
    """Return an empty picture of the image's size that says why."""
    panel = np.full_like(image, _PAPER)
    return captioned(panel, reason)


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """Return the picture with a line of text in its upper left corner, readable on any ground."""
    picture = np.ascontiguousarray(picture)
    scale = max(0.4, picture.shape[0] / 800)
    place = (round(12 * scale), round(32 * scale))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(
            picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA
        )
    return picture


def stacked(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return rows of pictures as one, white where a row is shorter.

    Args:
        rows: Pictures of one height in each row; rows may differ in length.
    """
    height = sum(row[0].shape[0] for row in rows) + _GAP * (len(rows) - 1)
    widths = [sum(picture.shape[1] for picture in row) + _GAP * (len(row) - 1) for row in rows]
    result = np.full((height, max(widths), 3), 255, np.uint8)
    top = 0
    for row in rows:
        left = 0
        for picture in row:
            result[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + _GAP
        top += row[0].shape[0] + _GAP
    return result


def _points_of(hand: Hand) -> np.ndarray:
    return hand.joints[hand.joints_known] if hand.vertices is None else hand.vertices
