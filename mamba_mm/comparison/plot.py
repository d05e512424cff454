"""Latency and memory against resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # before pyplot: there may be no display
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mamba_mm.comparison.measurement import Measurement
from mamba_mm.comparison.records import Comparison
from mamba_mm.measuring.resolution_axes import (
    assign_colors,
    draw_line,
    draw_proportional_guide,
    label_resolutions,
)

PANEL = (5.0, 4.2)


def write_plot(path: Path, comparison: Comparison) -> None:
    """Draw two panels at the batch that has the most shapes, one line a model.

    Both have logarithmic axes and show the slope of growth in proportion to the pixels.
    """
    drawn = _drawn(comparison.measurements)
    width, height = PANEL
    figure, (time, memory) = plt.subplots(
        1, 2, figsize=(2 * width, height + 0.9), layout="constrained"
    )
    batch = drawn[0].batch
    ours = {record.name for record in comparison.models if record.is_ours}
    _draw(time, drawn, ours, lambda m: m.milliseconds)
    time.set_ylabel(f"milliseconds, batch {batch}")
    _draw(memory, drawn, ours, lambda m: m.peak_mib)
    memory.set_ylabel(f"peak MiB above weights and images, batch {batch}")
    handles, labels = time.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 4), frameon=False
    )
    machine = comparison.machine
    figure.suptitle(f"{machine}, {drawn[0].dtype}, {machine.date}", fontsize=9, wrap=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _drawn(measurements: Sequence[Measurement]) -> list[Measurement]:
    measured = [m for m in measurements if not m.failure]
    batches = Counter(shape.batch for shape in {m.shape for m in measured})
    batch = max(sorted(batches), key=batches.__getitem__)
    return [m for m in measured if m.batch == batch]


def _draw(
    axes: Axes,
    measurements: Sequence[Measurement],
    ours: set[str],
    value: Callable[[Measurement], float],
) -> None:
    colors = assign_colors([m.model for m in measurements], ours.__contains__)
    for model, color in colors.items():
        points = [(m.shape.pixels, value(m)) for m in measurements if m.model == model]
        draw_line(axes, points, model, color, model in ours)
    draw_proportional_guide(axes, [(m.shape.pixels, value(m)) for m in measurements])
    label_resolutions(axes, {m.shape.pixels: f"{m.height}x{m.width}" for m in measurements})
