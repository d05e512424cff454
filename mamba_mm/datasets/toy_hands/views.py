"""The camera that looks at a hand: how the hand is turned, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Palm to the camera, fingers up: template's -x to -y, and its y away from the camera.
FACING = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])

# FreiHAND's images have 224 pixels a side; focal lengths scale with the size.
_REFERENCE_SIZE = 224
_FOCAL_LENGTHS = (400.0, 600.0)
_DISTANCES = (0.45, 0.8)
# Shares of the side that stay free of joints at every border, and that joints span at most.
_MARGIN = 0.05
_LARGEST = 0.8


@dataclass(frozen=True)
class View:
    """A pinhole camera, and a wish where the hand shall be.

    Args:
        size: Pixels of the sides of the picture.
        focal_length: In pixels.
        principal_point: ``(2,)``, in pixels.
        distance: Of the middle of the joints, in metres; it becomes larger where the hand would
            not fit.
        offset: ``(2,)``, -1..1: where the hand is in the room that its size leaves.
    """

    size: int
    focal_length: float
    principal_point: np.ndarray
    distance: float
    offset: np.ndarray

    @property
    def intrinsics(self) -> np.ndarray:
        """K, ``(3, 3)``."""
        (x, y), f = self.principal_point, self.focal_length
        return np.array([[f, 0, x], [0, f, y], [0, 0, 1.0]])

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project ``(N, 3)``, metres, to ``(N, 2)`` pixels."""
        return points[:, :2] / points[:, 2:] * self.focal_length + self.principal_point

    def place(self, joints: np.ndarray) -> np.ndarray:
        """Find the shift ``(3,)`` that brings ``joints`` ``(J, 3)`` where the view wants them."""
        shift = np.array([0, 0, self.distance]) - joints.mean(axis=0)
        shift[2] += self._step_back(joints + shift)
        free = self.size - 1 - 2 * _MARGIN * self.size
        # Perspective changes a little with every shift; four are exact to 0.01 pixels.
        for _ in range(4):
            pixels = self.project(joints + shift)
            low, high = pixels.min(axis=0), pixels.max(axis=0)
            wanted = (self.size - 1 + self.offset * np.maximum(free - (high - low), 0)) / 2
            depth = (joints + shift)[:, 2].mean()
            shift[:2] += (wanted - (low + high) / 2) * depth / self.focal_length
        return shift

    def _step_back(self, joints: np.ndarray) -> float:
        span = np.ptp(self.project(joints), axis=0).max() / (_LARGEST * self.size)
        return self.distance * max(span - 1.0, 0.0)


def draw_view(rng: np.random.Generator, size: int) -> View:
    """Draw a camera and a place for the hand, more often in the middle of the picture.

    Args:
        rng: The generator to draw from.
        size: Pixels of the sides of the picture.
    """
    middle = (size - 1) / 2
    return View(
        size=size,
        focal_length=round(rng.uniform(*_FOCAL_LENGTHS) * size / _REFERENCE_SIZE, 4),
        principal_point=np.round(middle + rng.uniform(-0.03, 0.03, 2) * size, 4),
        distance=rng.uniform(*_DISTANCES),
        offset=rng.uniform(-1, 1, 2) * rng.uniform(0, 1, 2),
    )


def draw_orientation(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Draw how the hand is turned, evenly over all rotations within an angle.

    Args:
        rng: The generator to draw from.
        spread: The largest angle from the palm to the camera and the fingers up, in degrees;
            180 gives all orientations the same chance.

    Returns:
        ``(3,)``, rotation vector of the model in the frame of the camera.
    """
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    largest = np.radians(spread)
    # The volume of rotations by an angle a grows as 1 - cos a.
    while True:
        angle = rng.uniform(0, largest)
        if rng.uniform() * (1 - np.cos(largest)) <= 1 - np.cos(angle):
            break
    turned = cv2.Rodrigues(axis * angle)[0] @ FACING
    return cv2.Rodrigues(turned)[0].ravel()
