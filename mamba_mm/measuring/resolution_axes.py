"""Axes over resolution that the plots of the benchmarks and comparisons share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

OURS = ("#0b5394", "#3d9be0", "#7b3fa0")
OTHERS = ("#d95f02", "#1b9e77", "#a6761d", "#666666", "#c2338a")


def assign_colors(models: Sequence[str], is_ours: Callable[[str], bool]) -> dict[str, str]:
    """Give every model a colour: blues and violet to ours."""
    models = list(dict.fromkeys(models))
    ours = [model for model in models if is_ours(model)]
    others = [model for model in models if not is_ours(model)]
    return {
        model: palette[i % len(palette)]
        for group, palette in ((ours, OURS), (others, OTHERS))
        for i, model in enumerate(group)
    }


def draw_line(
    axes: Axes, points: Sequence[tuple[int, float]], label: str, color: str, is_ours: bool
) -> None:
    """Draw values of one model over pixels; ours stand out."""
    axes.plot(
        *zip(*sorted(points), strict=True),
        marker="o",
        markersize=5 if is_ours else 4,
        linewidth=2.2 if is_ours else 1.3,
        zorder=3 if is_ours else 2,
        color=color,
        label=label,
    )


def draw_proportional_guide(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    """Show the slope of growth in proportion to the pixels, below all points."""
    pixels = sorted({x for x, _ in points})
    lowest = min(y / x for x, y in points) / 1.5
    axes.plot(
        [pixels[0], pixels[-1]],
        [lowest * pixels[0], lowest * pixels[-1]],
        linestyle=(0, (4, 3)),
        linewidth=1,
        color="0.45",
        label="in proportion to the pixels",
    )


def label_resolutions(axes: Axes, names: Mapping[int, str]) -> None:
    """Make both axes logarithmic and label the horizontal one with sizes.

    Args:
        axes: Where something is drawn over pixels.
        names: By pixels, what to write.
    """
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(names), list(names.values()), rotation=30, ha="right", fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("pixels of an image")
