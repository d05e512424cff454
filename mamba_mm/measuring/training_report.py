"""Compared trainings as CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .training_curves import RunCurves, Spread, sample_std, spread_over_runs

CAUTION = (
    "Seconds per iteration come from the trainings' logs, data loading included, on whatever else "
    "the machine did meanwhile. They tell what these trainings cost, and are no benchmark."
)
NO_VALUE = "none"


@dataclass(frozen=True)
class Compared:
    """One config's finished trainings.

    Attributes:
        name: Short name, for tables and legends.
        config: The config file.
        ours: Whether the backbone is one of this package.
        parameters: Of the whole model.
        backbone_parameters: Of its backbone.
        runs: What the trainings logged, by seed.
    """

    name: str
    config: str
    ours: bool
    parameters: int
    backbone_parameters: int
    runs: Mapping[int, RunCurves]

    @property
    def loss(self) -> Spread:
        """Of the loss over the seeds, by iteration."""
        return spread_over_runs([run.loss for run in self.runs.values()])

    @property
    def metric(self) -> Spread:
        """Of the metric over the seeds, by epoch."""
        return spread_over_runs([run.metric for run in self.runs.values()])

    @property
    def seconds_per_iteration(self) -> float:
        """The median over the seeds; NaN without finished trainings."""
        seconds = [run.seconds_per_iteration for run in self.runs.values()]
        return float(np.median(seconds)) if seconds else math.nan


def short_names(names: Sequence[str]) -> list[str]:
    """Leave out the parts, between underscores, that all names begin and end with."""
    if len(names) < 2:
        return list(names)
    parts = [name.split("_") for name in names]
    most = min(map(len, parts)) - 1  # something must be left of each
    first = _alike(parts, most)
    last = _alike([list(reversed(p)) for p in parts], most - first)
    return ["_".join(p[first : len(p) - last]) for p in parts]


def _alike(parts: Sequence[Sequence[str]], most: int) -> int:
    for i in range(most):
        if len({p[i] for p in parts}) > 1:
            return i
    return max(most, 0)


def write_csv(path: Path, compared: Sequence[Compared], metric: str) -> None:
    """Write a row for each model, quantity and step: mean, spread, and the number of runs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("model", "quantity", "step", "mean", "std", "min", "max", "runs"))
        for model in compared:
            for quantity, spread in (("loss", model.loss), (metric, model.metric)):
                for row in zip(*_columns(spread).values(), strict=True):
                    writer.writerow((model.name, quantity, *row))


def write_json(
    path: Path, compared: Sequence[Compared], metric: str, circumstances: Mapping[str, object]
) -> None:
    """Write every curve of every seed, and the curves over the seeds."""
    models = [
        {
            "name": model.name,
            "config": model.config,
            "parameters": model.parameters,
            "backbone_parameters": model.backbone_parameters,
            "runs": {
                seed: {
                    "loss": _without_nan(run.loss),
                    metric: _without_nan(run.metric),
                    "seconds_per_iteration": _or_none(run.seconds_per_iteration),
                }
                for seed, run in model.runs.items()
            },
            "over_seeds": {"loss": _columns(model.loss), metric: _columns(model.metric)},
        }
        for model in compared
    ]
    content = {**circumstances, "metric": metric, "models": models}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def summary(compared: Sequence[Compared], metric: str, rule: str, notes: Sequence[str] = ()) -> str:
    """Return Markdown: the last and the best metric, parameters and relative cost.

    Models are also compared with the first one seed by seed, as far as they share seeds.

    Args:
        compared: The first is what the others' cost is told in.
        metric: Its name.
        rule: ``"greater"`` or ``"less"``: which is better, as of MMEngine's checkpoint hook.
        notes: Lines to be said below.
    """
    columns = (
        "model",
        "parameters",
        "of the backbone",
        f"{metric}, last",
        f"{metric}, best",
        "runs",
        "seconds per iteration, relative",
    )
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join(['---'] * len(columns))} |"]
    # The same for all, so that no run's last value is an earlier one than another's.
    last_step = max(
        (step for m in compared for r in m.runs.values() for step in r.metric), default=0
    )
    best_of = {"greater": max, "less": min}[rule]
    for model in compared:
        curves = [run.metric for run in model.runs.values()]
        cells = (
            model.name,
            f"{model.parameters / 1e6:.2f} M",
            f"{model.backbone_parameters / 1e6:.2f} M",
            mean_and_std([curve[last_step] for curve in curves if last_step in curve]),
            mean_and_std([best_of(curve.values()) for curve in curves if curve]),
            str(len(curves)),
            _ratio(model.seconds_per_iteration, compared[0].seconds_per_iteration),
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Mean ± standard deviation over the runs, one a seed (n - 1)."]
    lines += _differences_by_seed(compared, last_step)
    lines += _runs_without_a_value(compared, metric, last_step)
    lines += [CAUTION, *notes]
    return "\n".join(lines) + "\n"


def mean_and_std(values: Sequence[float]) -> str:
    """Write ``0.411 ± 0.012``, or the value alone if there is one."""
    if not values:
        return NO_VALUE
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ± {sample_std(values):.3f}"


def _differences_by_seed(compared: Sequence[Compared], last_step: int) -> list[str]:
    """Say by how much the last metric of models exceeds that of the first, with the same seed."""
    first, *others = compared
    lines = []
    for model in others:
        pairs = {
            seed: (run.metric, first.runs[seed].metric)
            for seed, run in model.runs.items()
            if seed in first.runs
        }
        gains = {
            seed: ours[last_step] - theirs[last_step]
            for seed, (ours, theirs) in pairs.items()
            if last_step in ours and last_step in theirs
        }
        if gains:
            each = ", ".join(f"{gain:+.3f}" for gain in gains.values())
            lines.append(
                f"{model.name} minus {first.name}, last, seed by seed: "
                f"{mean_and_std(list(gains.values()))} ({each})."
            )
    return lines


def _runs_without_a_value(compared: Sequence[Compared], metric: str, last_step: int) -> list[str]:
    return [
        f"{model.name}, seed {seed}: the last validation gave no {metric}, so the mean lacks it."
        for model in compared
        for seed, run in model.runs.items()
        if last_step not in run.metric
    ]


def _ratio(value: float, reference: float) -> str:
    return NO_VALUE if math.isnan(value / reference) else f"{value / reference:.2f}"


def _columns(spread: Spread) -> dict[str, list]:
    return {
        "step": spread.steps.tolist(),
        "mean": [_or_none(value) for value in spread.mean],
        "std": [_or_none(value) for value in spread.std],
        "min": [_or_none(value) for value in spread.low],
        "max": [_or_none(value) for value in spread.high],
        "runs": spread.runs.tolist(),
    }


def _without_nan(curve: Mapping[int, float]) -> dict[int, float | None]:
    return {step: _or_none(value) for step, value in curve.items()}


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
