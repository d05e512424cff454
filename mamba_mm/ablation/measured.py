"""What the trainings of a variant gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mamba_mm.measuring.training_curves import read_run

from .variants import METRICS, Variant

PREFIX = "mesh/"


@dataclass(frozen=True)
class Measured:
    """A variant and its finished trainings.

    Attributes:
        variant: The variant.
        parameters: Of the whole model.
        runs: By seed, the metrics of the last validation.
    """

    variant: Variant
    parameters: int
    runs: Mapping[int, Mapping[str, float]]

    def values(self, metric: str) -> dict[int, float]:
        """Return a metric by seed."""
        return {seed: run[metric] for seed, run in self.runs.items()}


def last_metrics(folder: Path) -> dict[str, float]:
    """Read the metrics of the last validation that a training logged.

    Raises:
        FileNotFoundError: There is no log.
        ValueError: The last validation lacks a metric.
    """
    found = {name: read_run(folder, PREFIX + name).metric for name in METRICS}
    if missing := [name for name, curve in found.items() if not curve]:
        raise ValueError(
            f"no validation of {folder} logged {', '.join(PREFIX + name for name in missing)}; the "
            f"recipe's val_evaluator must be mamba_mm.HandMeshMetric with metrics={list(METRICS)}"
        )
    return {name: curve[max(curve)] for name, curve in found.items()}
