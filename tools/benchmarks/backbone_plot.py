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
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

OURS = ("#0b5394", "#3d9be0", "#7b3fa0")
OTHERS = ("#d95f02", "#1b9e77", "#a6761d", "#666666", "#c2338a")
PANEL = (4.2, 3.6)


def write_plot(path: Path, title: str, measurements: Sequence[Measurement]) -> None:
    """Draw one column of panels for every mode and dtype.

    Above, latency over pixels at the batch that has the most shapes, on logarithmic axes,
    with the slope of growth in proportion; below, images per second at the first shape.
    """
    measured = [m for m in measurements if not m.failure]
    settings = list(dict.fromkeys(m.setting for m in measured))
    colors = _colors(measured)
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


def _colors(measurements: Sequence[Measurement]) -> dict[str, str]:
    """Blues and violet for VMamba; a colour means the same backbone in all panels."""
    models = list(dict.fromkeys(m.model for m in measurements))
    ours = [model for model in models if _is_ours(model)]
    others = [model for model in models if not _is_ours(model)]
    return {
        model: palette[i % len(palette)]
        for group, palette in ((ours, OURS), (others, OTHERS))
        for i, model in enumerate(group)
    }


def _is_ours(model: str) -> bool:
    return model.startswith("vmamba")


def _draw_latency(axes: Axes, measurements: Sequence[Measurement], colors: dict[str, str]) -> None:
    batches = Counter(shape.batch for shape in {m.shape for m in measurements})
    batch = max(batches, key=batches.get)
    drawn = [m for m in measurements if m.batch == batch]
    for model in dict.fromkeys(m.model for m in drawn):
        line = sorted((m.shape.pixels, m.milliseconds) for m in drawn if m.model == model)
        ours = _is_ours(model)
        axes.plot(
            *zip(*line, strict=True),
            marker="o",
            markersize=5 if ours else 4,
            linewidth=2.2 if ours else 1.3,
            zorder=3 if ours else 2,
            color=colors[model],
            label=model,
        )
    _draw_guide(axes, drawn)
    _label_shapes(axes, drawn)
    axes.set_xlabel("pixels of an image")
    axes.set_ylabel(f"milliseconds, batch {batch}")


def _draw_guide(axes: Axes, measurements: Sequence[Measurement]) -> None:
    """Show the slope of growth in proportion to the pixels, below all lines."""
    pixels = sorted({m.shape.pixels for m in measurements})
    lowest = min(m.milliseconds / m.shape.pixels for m in measurements) / 1.5
    axes.plot(
        [pixels[0], pixels[-1]],
        [lowest * pixels[0], lowest * pixels[-1]],
        linestyle=(0, (4, 3)),
        linewidth=1,
        color="0.45",
        label="in proportion to the pixels",
    )


def _label_shapes(axes: Axes, measurements: Sequence[Measurement]) -> None:
    names = {m.shape.pixels: f"{m.height}x{m.width}" for m in measurements}
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(names), list(names.values()), rotation=30, ha="right", fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


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
