"""Accuracy that is known of a config, and where it is known from."""

from __future__ import annotations

from dataclasses import dataclass

MEASURED = "measured here"
PUBLISHED = "published"


@dataclass(frozen=True)
class Accuracy:
    """One metric of one model.

    Attributes:
        kind: :data:`MEASURED` or :data:`PUBLISHED`.
        metric: Name of the metric, as its source has it.
        value: In the unit of its source: MMPose's AP is a share, MMDetection's a percentage.
        dataset: What it was evaluated on; empty where the source does not say.
        source: Where the value stands, and which value it is.
    """

    kind: str
    metric: str
    value: float
    dataset: str
    source: str

    @property
    def column(self) -> str:
        """Head of its column: kind, metric and data set."""
        where = f" ({self.dataset})" if self.dataset else ""
        return f"{self.kind}: {self.metric}{where}"
