"""Curves of compared trainings as a picture: loss and metric, mean and range over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .training_curves import Spread, running_mean, spread_over_runs
from .training_report import Compared

OURS = ("#0b5394", "#3d9be0", "#7b3fa0")
OTHERS = ("#d95f02", "#1b9e77", "#a6761d", "#666666", "#c2338a")


def write_plot(
    path: Path, compared: Sequence[Compared], metric: str, smoothing: int, window: int, unit: str
) -> None:
    """Draw loss against iteration and metric against epoch.

    Lines are means over the seeds, bands run from the least to the largest. Steps that not all
    runs of a model have are left out, for a mean over fewer seeds is not on the same line.

    Args:
        path: Where the picture goes; the suffix says in which format.
        compared: At least one model.
        metric: Its name.
        smoothing: The loss of each run is a running mean of so many logged values.
        window: Iterations that MMEngine averages each logged value over.
        unit: What the metric's steps count: ``"epoch"`` or ``"iteration"``.
    """
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    for model, color in zip(compared, _colors(compared), strict=True):
        smooth = [running_mean(run.loss, smoothing) for run in model.runs.values()]
        label = (
            f"{model.name}: {model.parameters / 1e6:.2f} M parameters, "
            f"{len(model.runs)} seed{'s' * (len(model.runs) != 1)}"
        )
        _draw(loss_axes, spread_over_runs(smooth), len(model.runs), color, label, marker="")
        _draw(metric_axes, model.metric, len(model.runs), color, label, marker="o")
    loss_axes.set_xlabel("iteration")
    loss_axes.set_ylabel("training loss")
    loss_axes.set_title(
        f"means of {window} iterations, and of {smoothing} such values around each", fontsize=9
    )
    metric_axes.set_xlabel(unit)
    metric_axes.set_ylabel(metric)
    metric_axes.set_title("lines: mean over the seeds; bands: least to largest", fontsize=9)
    for axes in (loss_axes, metric_axes):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = metric_axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)


def _colors(compared: Sequence[Compared]) -> list[str]:
    ours, others = cycle(OURS), cycle(OTHERS)
    return [next(ours) if model.ours else next(others) for model in compared]


def _draw(axes: Axes, spread: Spread, runs: int, color: str, label: str, marker: str) -> None:
    whole = spread.runs == runs
    mean, low, high = (
        np.where(whole, values, np.nan) for values in (spread.mean, spread.low, spread.high)
    )
    axes.fill_between(spread.steps, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(
        spread.steps, mean, color=color, label=label, linewidth=1.8, marker=marker, markersize=4
    )
