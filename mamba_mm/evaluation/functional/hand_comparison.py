"""Distances between one predicted hand and its ground truth, aligned and not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hand_alignment import ALIGNMENTS

WRIST = 0
# Two points can always be made to coincide with two others: their aligned error says nothing.
_LEAST_TO_ALIGN = 3


@dataclass(frozen=True)
class PredictedHand:
    """What a model says about one hand; metres.

    Attributes:
        joints: ``(21, 3)``.
        vertices: ``(V, 3)``, or ``None`` where only joints are compared.
        translation: ``(3,)``, from the frame of joints and vertices to the camera's; ``None``:
            they are in camera coordinates.
    """

    joints: np.ndarray
    vertices: np.ndarray | None = None
    translation: np.ndarray | None = None

    @property
    def shift(self) -> np.ndarray:
        """The translation ``(3,)``, zero where there is none."""
        return np.zeros(3) if self.translation is None else self.translation


class HandComparison:
    """Distances of the joints and vertices of one hand from the ground truth.

    Args:
        hand: The prediction.
        joints: ``(21, 3)`` true joints in camera coordinates, in metres.
        valid: ``(21,)`` of bool: which of them are labelled. The others have the distance NaN and
            no influence.
        alignment: A key of :data:`ALIGNMENTS`.
        unit_scale: Unit of the results in metres, inverted: 1000 gives millimetres.
    """

    def __init__(
        self,
        hand: PredictedHand,
        joints: np.ndarray,
        valid: np.ndarray,
        alignment: str = "similarity",
        unit_scale: float = 1000.0,
    ) -> None:
        self.hand = hand
        self._joints = joints
        self._valid = valid
        self._align = ALIGNMENTS[alignment]
        self._unit_scale = unit_scale

    def joints_aligned(self) -> np.ndarray:
        """Distances ``(21,)`` after alignment by the labelled joints; NaN with fewer than three."""
        if self._valid.sum() < _LEAST_TO_ALIGN:
            return np.full(len(self._joints), np.nan)
        transform = self._align(self.hand.joints, self._joints, self._valid)
        return self._joint_distances(transform.apply(self.hand.joints), self._joints)

    def joints_wrist(self) -> np.ndarray:
        """Distances ``(21,)`` relative to the wrists; NaN where the wrist is not labelled."""
        return self._joint_distances(
            self.hand.joints - self.hand.joints[WRIST], self._joints - self._true_wrist
        )

    def joints_raw(self) -> np.ndarray:
        """Distances ``(21,)`` in camera coordinates."""
        return self._joint_distances(self.hand.joints + self.hand.shift, self._joints)

    def vertices_aligned(self, vertices: np.ndarray) -> np.ndarray:
        """Distances ``(V,)`` after alignment by the vertices."""
        return self._distances(self.aligned_vertices(vertices), vertices)

    def vertices_wrist(self, vertices: np.ndarray) -> np.ndarray:
        """Distances ``(V,)`` relative to the wrist joints; NaN where the wrist is not labelled."""
        return self._distances(
            self.hand.vertices - self.hand.joints[WRIST], vertices - self._true_wrist
        )

    def aligned_vertices(self, vertices: np.ndarray) -> np.ndarray:
        """Predicted vertices, aligned by vertices, or by joints where their numbers differ."""
        if len(self.hand.vertices) == len(vertices):
            transform = self._align(self.hand.vertices, vertices)
        else:
            transform = self._align(self.hand.joints, self._joints, self._valid)
        return transform.apply(self.hand.vertices)

    @property
    def _true_wrist(self) -> np.ndarray:
        """The labelled wrist; NaN, so that what is relative to it does not count, without label."""
        return self._joints[WRIST] if self._valid[WRIST] else np.full(3, np.nan)

    def _joint_distances(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return np.where(self._valid, self._distances(predicted, true), np.nan)

    def _distances(self, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return np.linalg.norm(predicted - true, axis=-1) * self._unit_scale
