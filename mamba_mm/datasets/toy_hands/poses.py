"""How far the joints of a hand bend, and the poses that hands take.

A rotation vector of a joint is read in a frame of its own: *flexion* closes the hand,
*abduction* turns the digit sideways, to the side of the thumb, and *twist* is about the digit.
"""

from __future__ import annotations

import numpy as np

from mamba_mm.models.body_models import MANOModel

DIGITS: dict[str, tuple[int, int, int]] = {
    "thumb": (13, 14, 15),
    "index": (1, 2, 3),
    "middle": (4, 5, 6),
    "ring": (10, 11, 12),
    "pinky": (7, 8, 9),
}
"""MANO's indices of the joints of every digit, from the palm on."""

_FINGER_LIMITS = (
    ((-15, 85), (-14, 14), (-4, 4)),
    ((0, 105), (-3, 3), (-3, 3)),
    ((-5, 75), (-3, 3), (-3, 3)),
)
_THUMB_LIMITS = (
    ((-10, 45), (-15, 25), (-10, 10)),
    ((-5, 55), (-5, 5), (-3, 3)),
    ((-15, 75), (-3, 3), (-3, 3)),
)

_TO_THE_PALM = np.array([0.0, -1.0, 0.0])
# The thumb goes mostly across the palm, and in front of it.
_ACROSS_THE_PALM = np.array([0.1, -0.55, -0.83])

# For each digit how far the first joint is closed and how far the others are; the last number
# says how far the fingers are spread.
GESTURES: dict[str, tuple[tuple[tuple[float, float], ...], float]] = {
    "open": (((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), 0.2),
    "spread": (((-0.2, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), 1.0),
    "relaxed": (((0.3, 0.3), (0.3, 0.3), (0.35, 0.35), (0.4, 0.4), (0.45, 0.4)), 0.2),
    "fist": (((0.9, 0.8), (0.95, 0.95), (0.95, 0.95), (0.95, 0.95), (0.95, 0.95)), 0.0),
    "point": (((0.8, 0.7), (0.0, 0.0), (0.9, 0.9), (0.9, 0.95), (0.9, 0.95)), 0.0),
    "victory": (((0.9, 0.7), (0.0, 0.0), (0.0, 0.0), (0.9, 0.9), (0.9, 0.9)), 1.0),
    "three": (((0.9, 0.6), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.9, 0.9)), 0.7),
    "four": (((0.9, 0.8), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)), 0.6),
    "thumb up": (((-0.2, 0.0), (0.9, 0.95), (0.9, 0.95), (0.9, 0.95), (0.9, 0.95)), 0.0),
    "horns": (((0.8, 0.6), (0.0, 0.0), (0.9, 0.9), (0.9, 0.9), (0.0, 0.0)), 0.5),
    "phone": (((-0.2, 0.0), (0.9, 0.9), (0.9, 0.9), (0.9, 0.9), (0.0, 0.0)), 0.5),
    "pinch": (((0.5, 0.4), (0.55, 0.5), (0.2, 0.2), (0.15, 0.15), (0.1, 0.1)), 0.4),
    "hook": (((0.0, 0.1), (0.0, 0.9), (0.0, 0.9), (0.0, 0.9), (0.0, 0.9)), 0.1),
    "beak": (((0.5, 0.1), (0.85, 0.1), (0.9, 0.1), (0.9, 0.1), (0.9, 0.1)), 0.0),
    "grasp": (((0.4, 0.3), (0.5, 0.4), (0.5, 0.45), (0.5, 0.45), (0.5, 0.45)), 0.5),
}
"""Poses to start from: closures of thumb, index, middle, ring and pinky; spread of the fingers."""

_CLOSURES = np.array([closures for closures, _ in GESTURES.values()])
_SPREADS = np.array([spread for _, spread in GESTURES.values()])

# Degrees of abduction at full spread; the middle finger stays.
_FAN = {"index": 9.0, "middle": 0.0, "ring": -6.0, "pinky": -12.0}


class HandAnatomy:
    """Joint frames and joint limits of a right hand model of MANO's format.

    Args:
        model: The hand.
    """

    limits: np.ndarray
    """``(15, 3, 2)``, radians: least and most flexion, abduction and twist of MANO's joints 1
    to 15."""

    def __init__(self, model: MANOModel) -> None:
        joints = model.joint_regressor @ model.v_template
        self._frames = np.zeros((15, 3, 3))
        self.limits = np.zeros((15, 3, 2))
        for name, chain in DIGITS.items():
            limits, closes_towards = _FINGER_LIMITS, _TO_THE_PALM
            if name == "thumb":
                limits, closes_towards = _THUMB_LIMITS, _ACROSS_THE_PALM
            for place, joint in enumerate(chain):
                # The last joint lies on the line of the segment before it, near enough.
                start = min(place, 1)
                along = joints[chain[start + 1]] - joints[chain[start]]
                self._frames[joint - 1] = _frame(along, closes_towards)
                self.limits[joint - 1] = np.radians(limits[place])

    def pose_of(self, angles: np.ndarray) -> np.ndarray:
        """Turn ``(15, 3)`` of flexion, abduction and twist into ``(45,)``, absolute axis-angle."""
        return np.einsum("ja,jac->jc", angles, self._frames).ravel()

    def angles_of(self, pose: np.ndarray) -> np.ndarray:
        """Undo :meth:`pose_of`."""
        return np.einsum("jc,jac->ja", np.reshape(pose, (15, 3)), self._frames)

    def draw_pose(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a pose: a gesture, or one on the way to another, never done the same way twice.

        Two poses in ten follow no gesture. All are within the limits.

        Args:
            rng: The generator to draw from.

        Returns:
            ``(45,)``, absolute axis-angle, radians.
        """
        closures, spread = _draw_closures(rng)
        angles = np.zeros((15, 3))
        for (name, chain), (first, others) in zip(DIGITS.items(), closures, strict=True):
            rows = [joint - 1 for joint in chain]
            most = self.limits[rows, 0, 1]
            # The last joint follows the one before it, as its tendon makes it.
            angles[rows, 0] = most * [first, others, others * rng.uniform(0.6, 1.0)]
            if name in _FAN:
                # A closed finger cannot be moved sideways.
                angles[rows[0], 1] = np.radians(_FAN[name]) * spread * (1 - max(first, 0.0))
            else:
                angles[rows[0], 1] = rng.normal(0, np.radians(8))
        angles += rng.normal(0, np.radians([4.0, 2.0, 1.5]), (15, 3))
        return self.pose_of(np.clip(angles, self.limits[..., 0], self.limits[..., 1]))


def _draw_closures(rng: np.random.Generator) -> tuple[np.ndarray, float]:
    one, other = rng.choice(len(_CLOSURES), 2, replace=False)
    share = rng.uniform() if rng.uniform() < 0.5 else 0.0
    closures = (1 - share) * _CLOSURES[one] + share * _CLOSURES[other]
    spread = (1 - share) * _SPREADS[one] + share * _SPREADS[other]
    if rng.uniform() < 0.2:
        closures, spread = rng.uniform(0, 1, closures.shape), rng.uniform()
    return closures + rng.normal(0, 0.06, closures.shape), spread


def _frame(along: np.ndarray, closes_towards: np.ndarray) -> np.ndarray:
    """Return the axes of flexion, abduction and twist as rows of ``(3, 3)``."""
    twist = along / np.linalg.norm(along)
    flexion = np.cross(twist, closes_towards)
    flexion /= np.linalg.norm(flexion)
    return np.stack([flexion, np.cross(twist, flexion), twist])
