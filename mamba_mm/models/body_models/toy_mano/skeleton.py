"""Bones of the synthetic right hand. Every size is a round number of our own choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MM = 1e-3

WRIST = np.array([90.0, 0.0, 0.0]) * MM
"""Joint 0; deliberately not the origin, as in MANO."""

WRIST_HALF_WIDTH = 27.5 * MM
WRIST_HALF_HEIGHT = 19.0 * MM


@dataclass(frozen=True)
class Digit:
    """A finger or the thumb, stretched: three joints and the tip.

    Attributes:
        name: Such as ``"index"``.
        joints: MANO's indices of its three joints.
        points: Places of the three joints and the tip, metres, (4, 3).
        radii: There, metres, (4,).
    """

    name: str
    joints: tuple[int, int, int]
    points: np.ndarray
    radii: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors of the three segments, (3, 3)."""
        segments = np.diff(self.points, axis=0)
        return segments / np.linalg.norm(segments, axis=1, keepdims=True)

    @property
    def marks(self) -> np.ndarray:
        """Distance of joints and tip from the first joint along the digit, metres, (4,)."""
        lengths = np.linalg.norm(np.diff(self.points, axis=0), axis=1)
        return np.concatenate(([0.0], np.cumsum(lengths)))


def _digit(
    name: str,
    first_joint: int,
    base: tuple[float, float, float],
    directions: list[tuple[float, float, float]],
    lengths: tuple[float, float, float],
    radii: tuple[float, float, float, float],
) -> Digit:
    """Build a digit; sizes in millimetres."""
    points = [np.array(base)]
    for direction, length in zip(directions, lengths, strict=True):
        points.append(points[-1] + length * np.array(direction) / np.linalg.norm(direction))
    joints = (first_joint, first_joint + 1, first_joint + 2)
    return Digit(name, joints, np.stack(points) * MM, np.array(radii) * MM)


def _finger(
    name: str,
    first_joint: int,
    base: tuple[float, float, float],
    spread_degrees: float,
    lengths: tuple[float, float, float],
    radii: tuple[float, float, float, float],
) -> Digit:
    """Build a straight finger, turned towards the thumb by its spread."""
    spread = np.radians(spread_degrees)
    direction = (-np.cos(spread), 0.0, np.sin(spread))
    return _digit(name, first_joint, base, [direction] * 3, lengths, radii)


FINGERS: tuple[Digit, ...] = (
    _finger("index", 1, (2, 0, 27), 4, (38, 24, 22), (9.0, 8.0, 7.2, 6.2)),
    _finger("middle", 4, (-1, 0, 5), 0, (42, 27, 23), (9.2, 8.2, 7.4, 6.4)),
    _finger("ring", 10, (4, 0, -16), -5, (38, 25, 23), (8.8, 7.8, 7.0, 6.0)),
    _finger("pinky", 7, (13, 0, -35), -11, (30, 19, 21), (7.8, 7.0, 6.3, 5.4)),
)
"""From the thumb side on."""

THUMB: Digit = _digit(
    "thumb",
    13,
    (64, -10, 27),
    [(-0.74, -0.22, 0.64), (-0.84, -0.20, 0.50), (-0.90, -0.16, 0.40)],
    (40, 31, 29),
    (13.5, 10.5, 9.2, 7.4),
)

DIGITS: tuple[Digit, ...] = (THUMB, *FINGERS)
"""In the order of the fingertips: thumb, index, middle, ring, pinky."""
