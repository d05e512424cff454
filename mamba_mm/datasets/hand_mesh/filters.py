"""Which labels HaMeR trusts, and which hands it trains on (Pavlakos et al., CVPR 2024).

In the order of its data configuration: weak 2-D joints are dropped; shapes far from the mean are
distrusted; pose and shape are trusted together or not at all; hands with few joints are left out,
and so are hands to which the model did not fit. Last, HaMeR draws unknown shapes to the mean; that
is no matter of data here, but ``absent_weight`` of the loss of the shape.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class HandFilters:
    """HaMeR's thresholds. All methods work on one hand or on leading dimensions of many.

    Attributes:
        min_confidence: A 2-D joint of less confidence counts as not labelled.
        max_abs_beta: Pose and shape are not trusted if a shape coefficient is beyond that.
        more_joints_than: A hand needs more 2-D joints than that.
        max_fitting_loss: A hand is left out if the reprojection loss, with which its pose was
            fitted, reaches that. One that tells no loss stays.

    Raises:
        ValueError: A threshold is negative or not a number.
    """

    min_confidence: float = 0.3
    max_abs_beta: float = 3.0
    more_joints_than: int = 4
    max_fitting_loss: float = 31000.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or not value >= 0:
                raise ValueError(f"filters: {field.name} must be a number from 0 up, got {value!r}")

    def suppressed(self, confidence: np.ndarray) -> np.ndarray:
        """Confidences (..., 21), zero where they are too low."""
        return np.where(confidence < self.min_confidence, 0, confidence)

    def trusts_parameters(
        self, has_pose: np.ndarray, has_betas: np.ndarray, betas: np.ndarray
    ) -> np.ndarray:
        """Whether pose and shape are labels to learn from, (...), given betas (..., 10)."""
        usual = (np.abs(betas) <= self.max_abs_beta).all(axis=-1)
        return (np.asarray(has_pose) > 0) & (np.asarray(has_betas) > 0) & usual

    def keeps(self, confidence: np.ndarray, fitting_loss: np.ndarray) -> np.ndarray:
        """Whether to train on a hand, (...).

        Args:
            confidence: Of the 2-D joints, before :meth:`suppressed`, (..., 21).
            fitting_loss: (...), NaN where it is not known.
        """
        joints = (self.suppressed(confidence) > 0).sum(axis=-1)
        fits = ~(np.asarray(fitting_loss) >= self.max_fitting_loss)
        return (joints > self.more_joints_than) & fits
