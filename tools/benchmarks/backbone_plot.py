"""Latency against pixels, and throughput as bars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there may be no display
import matplotlib.pyplot as plt
from backbone_measure import Measurement
from matplotlib.axes import Axes

from mamba_mm.measuring.resolution_axes import (
    assign_colors,
    draw_line,
    draw_proportional_guide,
    label_resolutions,
)

PANEL = (4.2, 3.6)


def write_plot(path: Path, title: str, measurements: Sequence[Measurement]) -> None:
    """Draw one column of panels for every mode and dtype.

    Above, latency over pixels at the batch that has the most shapes, on logarithmic axes,
    with the slope of growth in proportion; below, images per second at the first shape.
    """
    measured = [m for m in measurements if not m.failure]
    settings = list(dict.fromkeys(m.setting for m in measured))
    colors = assign_colors([m.model for m in measured], _is_ours)
    width, height = PANEL
    figure, axes = plt.subplots(
        2,
        len(settings),
        figsize=(width * len(settings) + 0.6, 2 * height + 0.9),
        squeeze=False,
        layout="constrained",
    )
    for column, setting in enumerate(settings):
        rows = [m for m in measured if m.setting == setting]
        axes[0, column].set_title(", ".join(setting), weight="bold")
        _draw_latency(axes[0, column], rows, colors)
        _draw_throughput(axes[1, column], rows, colors)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(settings))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    figure.suptitle(title, fontsize=10, wrap=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _is_ours(model: str) -> bool:
    return model.startswith("vmamba")


def _draw_latency(axes: Axes, measurements: Sequence[Measurement], colors: dict[str, str]) -> None:
    batches = Counter(shape.batch for shape in {m.shape for m in measurements})
    batch = max(batches, key=batches.get)
    drawn = [m for m in measurements if m.batch == batch]
    for model in dict.fromkeys(m.model for m in drawn):
        points = [(m.shape.pixels, m.milliseconds) for m in drawn if m.model == model]
        draw_line(axes, points, model, colors[model], _is_ours(model))
    draw_proportional_guide(axes, [(m.shape.pixels, m.milliseconds) for m in drawn])
    label_resolutions(axes, {m.shape.pixels: f"{m.height}x{m.width}" for m in drawn})
    axes.set_ylabel(f"milliseconds, batch {batch}")


def _draw_throughput(
    axes: Axes, measurements: Sequence[Measurement], colors: dict[str, str]
) -> None:
    shape = measurements[0].shape
    drawn = [m for m in measurements if m.shape == shape]
    bars = axes.barh(
        [m.model for m in drawn],
        [m.images_per_second for m in drawn],
        color=[colors[m.model] for m in drawn],
    )
    axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
    axes.invert_yaxis()  # the first on top
    axes.margins(x=0.14)
    axes.set_xlabel(f"images per second at {shape.height}x{shape.width}, batch {shape.batch}")
    axes.spines[["top", "right"]].set_visible(False)
