"""Curves of trainings as MMEngine logs them, and their spread over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class RunCurves:
    """What one training logged.

    Attributes:
        loss: The loss by iteration, each the mean over the iterations of MMEngine's log window.
        metric: The chosen metric by epoch, or by iteration where a training counts those. A
            validation that gave no such metric is left out, as MMDetection's is when nothing
            at all was detected.
        seconds_per_iteration: Median over the log, data loading included; NaN without a log.
        metrics_found: Names of all that validations logged.
    """

    loss: dict[int, float]
    metric: dict[int, float]
    seconds_per_iteration: float
    metrics_found: tuple[str, ...]


@dataclass(frozen=True)
class Spread:
    """A curve over seeds; all arrays have shape (N,), one value a step.

    Attributes:
        steps: Iterations or epochs, ascending: all that at least one run has.
        mean: Over the runs that have the step.
        std: Sample standard deviation (n - 1); NaN for a single run.
        low: The least value.
        high: The largest value.
        runs: How many runs have the step.
    """

    steps: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray


def read_run(work_dir: str | Path, metric: str) -> RunCurves:
    """Read the ``scalars.json`` of a work directory.

    A training that was resumed left one in each ``TIME/vis_data``. Where they overlap, because
    the iterations after the last checkpoint were done again, the later one holds.

    Args:
        work_dir: Of one training.
        metric: Name of a validation metric, such as ``"coco/bbox_mAP"``.

    Raises:
        FileNotFoundError: There is no log.
        ValueError: A log is damaged elsewhere than at the end that an interruption cuts.
    """
    # The folders are named by the time that they were made, so their order is that of time.
    logs = sorted(Path(work_dir).glob("*/vis_data/scalars.json"))
    if not logs:
        raise FileNotFoundError(
            f"{work_dir} has no TIME/vis_data/scalars.json: no training logged there; the "
            "config's visualizer needs LocalVisBackend"
        )
    loss: dict[int, float] = {}
    seconds: dict[int, float] = {}
    validations: dict[int, dict[str, float]] = {}
    for line in (line for log in logs for line in _lines(log)):
        if "iter" not in line:  # only lines of training have it
            validations[line["step"]] = line
        elif "loss" in line:
            loss[line["iter"]] = line["loss"]
            seconds[line["iter"]] = line.get("time", np.nan)
    return RunCurves(
        loss=dict(sorted(loss.items())),
        metric={step: line[metric] for step, line in sorted(validations.items()) if metric in line},
        seconds_per_iteration=float(np.median(list(seconds.values()))) if seconds else np.nan,
        metrics_found=tuple(dict.fromkeys(name for line in validations.values() for name in line)),
    )


def spread_over_runs(curves: Sequence[Mapping[int, float]]) -> Spread:
    """Aggregate curves, each a value by step, that need not have the same steps.

    Args:
        curves: One a run; those of different lengths are aggregated over whoever has a step.
    """
    steps = sorted({step for curve in curves for step in curve})
    values = [[curve[step] for curve in curves if step in curve] for step in steps]
    return Spread(
        steps=np.array(steps, dtype=int),
        mean=np.array([np.mean(v) for v in values]),
        std=np.array([sample_std(v) for v in values]),
        low=np.array([np.min(v) for v in values]),
        high=np.array([np.max(v) for v in values]),
        runs=np.array([len(v) for v in values], dtype=int),
    )


def sample_std(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample (n - 1); NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def running_mean(curve: Mapping[int, float], window: int) -> dict[int, float]:
    """Smooth a curve by the mean of ``window`` neighbouring values, centred on each.

    At both ends the window is cut, on both sides alike, so that no value is shifted.

    Args:
        curve: A value by step.
        window: An odd number of values; 1 changes nothing.

    Raises:
        ValueError: ``window`` is even or below 1.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"the window must be an odd number of values, 1 or more; got {window}")
    steps, values = list(curve), list(curve.values())
    smooth = {}
    for i, step in enumerate(steps):
        reach = min(window // 2, i, len(values) - 1 - i)
        smooth[step] = float(np.mean(values[i - reach : i + reach + 1]))
    return smooth


def _lines(log: Path) -> Iterator[dict[str, float]]:
    texts = log.read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(texts, start=1):
        try:
            yield json.loads(text)
        except json.JSONDecodeError as error:
            if number == len(texts):  # a training that was killed while it wrote
                return
            raise ValueError(
                f"{log}, line {number} is no JSON: {error}; remove the line, or train again"
            ) from error
