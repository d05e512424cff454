"""Accuracy that a training or a test of a toolbox wrote into its work directory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mamba_mm.comparison.accuracy import MEASURED, Accuracy
from mamba_mm.comparison.errors import ComparisonError

NO_METRICS = ("time", "data_time", "step", "epoch", "iter")


@dataclass(frozen=True)
class Choice:
    """Which of the evaluations of a work directory counts.

    Attributes:
        metric: The metric whose best validation counts; empty for the newest test, or else the
            last validation.
        highest: Whether the best is the highest, else the lowest.
    """

    metric: str = ""
    highest: bool = True


def accuracy_of_work_dir(folder: Path, choice: Choice) -> list[Accuracy]:
    """Read the metrics that MMEngine wrote.

    A test leaves ``TIMESTAMP/TIMESTAMP.json``, a training ``TIMESTAMP/vis_data/scalars.json``.
    All metrics come from the same evaluation.

    Args:
        folder: The work directory.
        choice: Which evaluation counts.

    Raises:
        ComparisonError: The folder does not exist, nothing was evaluated, or no validation has
            the metric.
    """
    if not folder.is_dir():
        raise ComparisonError(f"there is no work directory {folder} (looked from {Path.cwd()})")
    if choice.metric:
        return _best_validation(folder, choice)
    tests = [path for path in folder.glob("*/*.json") if path.stem == path.parent.name]
    if tests:
        newest = max(tests)
        return _accuracies(_load(newest), newest, "the newest test")
    path, record = _validations(folder)[-1]
    return _accuracies(record, path, f"the last validation, step {record['step']}")


def _best_validation(folder: Path, choice: Choice) -> list[Accuracy]:
    validations = _validations(folder)
    having = [(path, record) for path, record in validations if choice.metric in record]
    if not having:
        known = sorted({name for _, record in validations for name in _metrics(record)})
        raise ComparisonError(
            f"no validation in {folder} has the metric {choice.metric!r}; there are "
            f"{', '.join(known)}"
        )
    best = max if choice.highest else min
    path, record = best(having, key=lambda found: found[1][choice.metric])
    word = "highest" if choice.highest else "lowest"
    return _accuracies(
        record, path, f"the validation of the {word} {choice.metric}, step {record['step']}"
    )


def _validations(folder: Path) -> list[tuple[Path, dict]]:
    """Return what validations logged, the earliest first.

    Lines of training name their iteration, those of validation do not.
    """
    found = []
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if "iter" not in record and _metrics(record):
                found.append((path, record))
    if not found:
        raise ComparisonError(
            f"nothing was evaluated in {folder}: it has neither TIMESTAMP/TIMESTAMP.json of a "
            "test nor a validation in TIMESTAMP/vis_data/scalars.json"
        )
    return found


def _load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _metrics(record: dict) -> dict[str, float]:
    return {
        name: value
        for name, value in record.items()
        if name not in NO_METRICS and isinstance(value, int | float)
    }


def _accuracies(record: dict, path: Path, which: str) -> list[Accuracy]:
    return [
        Accuracy(MEASURED, name, float(value), "", f"{which}, in {path}")
        for name, value in _metrics(record).items()
    ]
