"""Differences between two sets of trainings that have their seeds in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mamba_mm.measuring.training_curves import sample_std

CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """How far a variant is from its reference, seed by seed.

    Two trainings of one seed share the order of the images, so what a seed does to both cancels
    out of their difference.

    Attributes:
        by_seed: Variant minus reference, for every seed that both have.
    """

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds; NaN without any."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else math.nan

    @property
    def standard_error(self) -> float:
        """Of the mean: sample standard deviation (n - 1) over root n; NaN below two seeds."""
        return sample_std(list(self.by_seed.values())) / math.sqrt(max(len(self.by_seed), 1))

    @property
    def margin_of_error(self) -> float:
        """Half the width of the mean's 95 % interval, by Student's t; NaN below two seeds."""
        if len(self.by_seed) < 2:
            return math.nan
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, df=len(self.by_seed) - 1)
        return float(quantile) * self.standard_error

    def verdict(self, *, higher_is_better: bool) -> str:
        """Say in words whether the difference is beyond the spread over the seeds.

        Returns:
            ``"worse"`` or ``"better"`` if the 95 % interval of the mean leaves 0 out, ``"within
            the spread"`` if it does not, and ``"no spread known"`` below two seeds, or where a
            difference is not finite.
        """
        if not math.isfinite(self.margin_of_error):
            return "no spread known"
        if abs(self.mean) <= self.margin_of_error:
            return "within the spread"
        return "better" if (self.mean > 0) == higher_is_better else "worse"


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float]
) -> PairedDifference:
    """Subtract a reference's values, by seed, from a variant's; other seeds do not count."""
    return PairedDifference(
        {seed: value - reference[seed] for seed, value in values.items() if seed in reference}
    )
