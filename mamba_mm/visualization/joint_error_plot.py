"""Errors of each joint over a set, as box plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mamba_mm.evaluation.functional import mean_error

from .finger_colours import FINGERS, finger_colour, joint_colours, joint_names

# Whiskers: nine of ten hands are between them.
_WHISKERS = (5, 95)


def write_joint_errors(path: Path, errors: Mapping[str, np.ndarray], title: str) -> None:
    """Draw the distribution of each joint's error, one plot below the other.

    A box reaches from the lower to the upper quartile, with the median in it and the mean as a
    dot; whiskers end at the 5th and the 95th percentile. The dashed line is the mean over all.

    Args:
        path: Where to; the suffix says in which format.
        errors: By name of the metric, ``(hands, joints)``, millimetres; NaN where there is no
            label.
        title: Above all.

    Raises:
        ValueError: A metric has no error at all.
    """
    figure = Figure(figsize=(11, 3.1 * len(errors) + 0.9), layout="constrained")
    rows = figure.subplots(len(errors), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (name, values) in zip(rows, errors.items(), strict=True):
        if np.isnan(values).all():
            raise ValueError(f"no hand has labels for {name}")
        _draw(axes, name, values)
    count = next(iter(errors.values())).shape[1]
    rows[-1].set_xticks(range(count), joint_names(count), rotation=60, ha="right", fontsize=9)
    if count == len(joint_names(21)):
        patches = [Patch(color=finger_colour(finger), label=finger) for finger in FINGERS]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=len(FINGERS), frameon=False
        )
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _draw(axes: Axes, name: str, values: np.ndarray) -> None:
    known = [column[~np.isnan(column)] for column in values.T]
    boxes = axes.boxplot(
        known,
        positions=range(len(known)),
        widths=0.65,
        whis=_WHISKERS,
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        medianprops=dict(color="white", linewidth=1.5),
        meanprops=dict(marker="o", markersize=4, markerfacecolor="white", markeredgecolor="black"),
    )
    colours = joint_colours(len(known))
    for box, colour in zip(boxes["boxes"], colours, strict=True):
        box.set(facecolor=colour, edgecolor=colour)
    for number, line in enumerate(boxes["whiskers"] + boxes["caps"]):
        line.set_color(colours[number % (2 * len(colours)) // 2])
    mean = mean_error(values)
    axes.axhline(mean, color="0.35", linestyle="--", linewidth=1)
    axes.set_title(f"{name} {mean:.2f} mm", fontsize=10, loc="left")
    axes.set_ylabel("error in mm")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
