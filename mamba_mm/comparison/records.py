"""A comparison as CSV, one row a model and shape, and as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mamba_mm.comparison.accuracy import Accuracy
from mamba_mm.comparison.measurement import Contender, Measurement
from mamba_mm.measuring.machine import Machine

PROTOCOL = (
    'Whole models in eval mode with random weights, `forward(mode="tensor")`: backbone, neck and '
    "head, without pre- and post-processing; the proposals of a detector with two stages and their "
    "NMS are a part of it. Medians of turns in one process, with quartiles; a ratio is the median "
    "over turns of the same round. Peak memory is above weights and images. FLOPs are those of "
    "one image, a multiply-add is one, and the scans are counted."
)


@dataclass(frozen=True)
class ModelRecord:
    """What does not depend on the shape.

    Attributes:
        name: Name of the model.
        config: What the user wrote for its config.
        toolbox: What builds it.
        is_ours: Whether a part of it comes from ``mamba_mm``.
        parameters: Of the whole model.
        backbone_parameters: Of its backbone; ``None`` where it has none of that name.
        uncounted_operators: Operators from outside PyTorch that are not in the FLOPs.
        accuracies: What is known of it.
    """

    name: str
    config: str
    toolbox: str
    is_ours: bool
    parameters: int
    backbone_parameters: int | None
    uncounted_operators: tuple[str, ...]
    accuracies: tuple[Accuracy, ...]

    @classmethod
    def of(cls, contender: Contender) -> ModelRecord:
        """Take down a contender."""
        operators = {op for count in contender.operations.values() for op in count.uncounted}
        return cls(
            contender.config.name,
            contender.config.given,
            contender.config.toolbox,
            contender.config.is_ours,
            contender.parameters,
            contender.backbone_parameters,
            tuple(sorted(operators)),
            contender.accuracies,
        )


@dataclass(frozen=True)
class Comparison:
    """All that is known, for the writers.

    Attributes:
        machine: Where and when it was measured.
        baseline: Name of the model that ratios are against.
        models: The models.
        measurements: One a model and shape.
    """

    machine: Machine
    baseline: str
    models: tuple[ModelRecord, ...]
    measurements: tuple[Measurement, ...]


def write_json(path: Path, comparison: Comparison) -> None:
    """Write everything."""
    content = {"protocol": PROTOCOL, **asdict(comparison)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, comparison: Comparison) -> None:
    """Write one row a measurement, with a column for each metric and where it is known from."""
    rows = [_row(comparison, m) for m in comparison.measurements]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _row(comparison: Comparison, measurement: Measurement) -> dict[str, object]:
    record = next(r for r in comparison.models if r.name == measurement.model)
    row = asdict(comparison.machine) | asdict(measurement)
    for name in ("config", "toolbox", "parameters", "backbone_parameters"):
        row[name] = getattr(record, name)
    row |= {accuracy.column: accuracy.value for accuracy in record.accuracies}
    row["source of accuracy"] = "; ".join(_sources(record.accuracies))
    return row


def _sources(accuracies: Sequence[Accuracy]) -> list[str]:
    return list(dict.fromkeys(f"{a.kind}: {a.source}" for a in accuracies))
