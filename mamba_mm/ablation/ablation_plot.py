"""Ablations as a picture: every seed a point, published differences in a panel of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .report import Ablation
from .variants import FULL, HIGHER_IS_BETTER, METRICS, PAPER

SEED_COLORS = ("#0b5394", "#d95f02", "#1b9e77", "#7b3fa0", "#a6761d", "#c2338a")
PAPER_COLOR = "#8a8a8a"
_ROW_HEIGHT = 0.34  # inches
_SPREAD = 0.36  # of a row, that the points of all seeds take


def write_plot(path: Path, ablation: Ablation) -> None:
    """Write the picture of :func:`draw` to a file, whose suffix says in which format."""
    draw(ablation).savefig(path, dpi=130)


def draw(ablation: Ablation) -> Figure:
    """Draw the chosen metric: all runs, their differences to full by seed, and the paper's.

    Args:
        ablation: At least the full model.

    Returns:
        Three panels: our runs, our differences, the published differences.
    """
    rows = len(ablation.measured)
    figure = Figure(figsize=(13, 2.0 + _ROW_HEIGHT * rows), layout="constrained")
    values, differences, published = figure.subplots(1, 3, sharey=True)
    seeds = sorted({seed for measured in ablation.measured for seed in measured.runs})
    _draw_values(values, ablation, seeds)
    _draw_differences(differences, ablation, seeds)
    _draw_published(published, ablation)
    values.set_yticks(range(rows), [measured.variant.name for measured in ablation.measured])
    values.set_ylim(rows - 0.5, -0.5)
    for axes in (values, differences, published):
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    handles, labels = values.get_legend_handles_labels()
    by_label = dict(zip(labels, handles, strict=True))
    figure.legend(
        by_label.values(), by_label.keys(), loc="outside lower center", ncols=6, frameon=False
    )
    return figure


def _draw_values(axes: Axes, ablation: Ablation, seeds: list[int]) -> None:
    for row, measured in enumerate(ablation.measured):
        _draw_points(axes, row, measured.values(ablation.metric), seeds)
    if ablation.metric in ablation.mean_hand:
        axes.axvline(
            ablation.mean_hand[ablation.metric],
            color="0.5",
            linestyle=":",
            label="one hand for all images",
        )
    better = "higher" if ablation.metric in HIGHER_IS_BETTER else "lower"
    axes.set_xlabel(_label(ablation.metric))
    axes.set_title(f"{ablation.ours}\nall runs; {better} is better", fontsize=9)


def _draw_differences(axes: Axes, ablation: Ablation, seeds: list[int]) -> None:
    axes.axvline(0, color="0.4", linewidth=1)
    largest = 0.0
    for row, measured in enumerate(ablation.measured):
        if measured.variant.name == FULL.name:
            continue
        difference = ablation.difference(measured, ablation.metric)
        if np.isfinite(difference.margin_of_error):
            axes.errorbar(
                *(difference.mean, row),
                xerr=difference.margin_of_error,
                color="0.75",
                linewidth=4,
                zorder=1,
            )
        _draw_points(axes, row, difference.by_seed, seeds)
        largest = max([largest, *map(abs, difference.by_seed.values())])
    if largest:  # the interval of two seeds is so wide that it would squeeze all points together
        axes.set_xlim(-2 * largest, 2 * largest)
    axes.set_xlabel(f"difference of {_label(ablation.metric)}")
    axes.set_title(
        f"{ablation.ours}\nminus full, by seed; bars: 95 % interval of the mean", fontsize=9
    )


def _draw_published(axes: Axes, ablation: Ablation) -> None:
    axes.axvline(0, color="0.4", linewidth=1)
    metric = ablation.metric
    for row, measured in enumerate(ablation.measured):
        if measured.variant.name == FULL.name:
            continue
        if metric in measured.variant.published:
            difference = measured.variant.published[metric] - FULL.published[metric]
            axes.barh(row, difference, height=0.5, color=PAPER_COLOR)
        else:
            axes.text(0, row, "  not published", color=PAPER_COLOR, va="center", fontsize=8)
    axes.set_xlabel(f"difference of {_label(metric)}")
    axes.set_title(f"{PAPER}\nminus full, published; no spread given", fontsize=9)


def _draw_points(axes: Axes, row: int, by_seed: Mapping[int, float], seeds: list[int]) -> None:
    """Draw a point for each seed, each at its own height, and a line at their mean."""
    heights = row + np.linspace(-_SPREAD / 2, _SPREAD / 2, len(seeds)) * (len(seeds) > 1)
    for height, (index, seed) in zip(heights, enumerate(seeds), strict=True):
        if seed in by_seed:
            color = SEED_COLORS[index % len(SEED_COLORS)]
            axes.scatter(
                *(by_seed[seed], height), s=22, color=color, label=f"seed {seed}", zorder=3
            )
    if by_seed:
        mean = np.mean(list(by_seed.values()))
        axes.plot([mean, mean], [row - 0.32, row + 0.32], color="black", label="mean", zorder=2)


def _label(metric: str) -> str:
    return f"{metric} [{METRICS[metric]}]" if METRICS[metric] else metric
