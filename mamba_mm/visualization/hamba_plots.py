"""Plots of where Hamba samples tokens, and of the adjacency it has learnt, over the crop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .finger_colours import FINGERS, finger_colour, joint_colours, joint_names

_INCHES = 5.0
_WIDEST = 9.0
# Of the differences from a plain mean: blue is less, red is more.
_DIFFERENCES = "coolwarm"
# Below that the colours would show rounding.
_LEAST_DIFFERENCE = 0.01


def write_sampled_tokens(
    path: Path,
    crop: np.ndarray,
    points: np.ndarray,
    columns: np.ndarray,
    rows: np.ndarray,
    edges: Sequence[tuple[int, int]],
    title: str,
) -> None:
    """Draw where tokens are sampled, over the crop and the grid of tokens.

    Grid lines are the borders between tokens, small crosses their centres. A token is read between
    the four centres around its joint. What lies outside of the crop is drawn at the border, where
    it is read.

    Args:
        path: Where to; the suffix says in which format.
        crop: The network's input, (H, W, 3), uint8, RGB.
        points: (K, 2), pixels of the crop.
        columns: x of the token centres, (w,).
        rows: y of the token centres, (h,).
        edges: Pairs of joints that are joined.
        title: Above it.
    """
    figure, axes = _figure(crop, columns=1)
    axes = axes[0]
    _show(axes, crop, title)
    for borders, line in ((_borders(columns), axes.axvline), (_borders(rows), axes.axhline)):
        for place in borders:
            line(place, color="white", linewidth=0.6, alpha=0.55)
    axes.plot(
        *(grid.ravel() for grid in np.meshgrid(columns, rows)),
        linestyle="",
        marker="+",
        markersize=4,
        color="white",
        alpha=0.8,
    )
    height, width = crop.shape[:2]
    places = np.clip(points, 0, [width - 1, height - 1])
    colours = joint_colours(len(points))
    for i, j in edges:
        axes.plot(*places[[i, j]].T, color=colours[j], linewidth=1.5, alpha=0.8)
    outside = (places != points).any(axis=1)
    for marker, chosen in (("o", ~outside), ("X", outside)):
        axes.scatter(
            *places[chosen].T,
            s=60,
            c=[colour for colour, is_chosen in zip(colours, chosen, strict=True) if is_chosen],
            marker=marker,
            edgecolors="white",
            linewidths=1.2,
            zorder=3,
        )
    if len(points) == len(joint_names(21)):
        patches = [Patch(color=finger_colour(finger), label=finger) for finger in FINGERS]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    _save(figure, path)


def half_edges(points: np.ndarray, mixing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the directed edges of a graph as lines, each half as long as its bone.

    Args:
        points: (N, 2).
        mixing: (N, N): what share of neighbour j joint i takes.

    Returns:
        Lines (E, 2, 2) from joint i halfway to its neighbour j; their shares (E,); and by how much
        these are above the plain mean of i's neighbours (E,).
    """
    i, j = np.nonzero(mixing)
    lines = np.stack([points[i], (points[i] + points[j]) / 2], axis=1)
    shares = mixing[i, j]
    return lines, shares, shares - 1 / np.bincount(i, minlength=len(mixing))[i]


def write_adjacency(
    path: Path, crop: np.ndarray, points: np.ndarray, mixings: Sequence[np.ndarray], title: str
) -> None:
    """Draw the learnt adjacency of each GSS block over the hand, and below as a matrix.

    Each bone is drawn in two halves: the half at joint i shows what share i takes from the joint at
    the other end. Its width is the share, its colour by how much that is above (red) or below
    (blue) the plain mean of i's neighbours, with which a training starts.

    Args:
        path: Where to; the suffix says in which format.
        crop: The network's input, (H, W, 3), uint8, RGB.
        points: The joints, (N, 2), pixels of the crop.
        mixings: Of each block, as in :func:`half_edges`.
        title: Above all.
    """
    differences = [half_edges(points, mixing)[2] for mixing in mixings]
    limit = max(_LEAST_DIFFERENCE, *(np.abs(d).max() for d in differences))
    norm = TwoSlopeNorm(0, -limit, limit)
    # Pale, or the image would hide the colours.
    pale = np.rint(255 - 0.55 * (255 - crop.astype(float))).astype(np.uint8)
    figure, axes = _figure(crop, columns=len(mixings), rows=2)
    over, matrices = axes[: len(mixings)], axes[len(mixings) :]
    for number, (mixing, upper, lower) in enumerate(zip(mixings, over, matrices, strict=True), 1):
        _show(upper, pale, f"GSS block {number}")
        lines, shares, difference = half_edges(points, mixing)
        for colour, extra in (("black", 1.6), (None, 0)):
            collection = LineCollection(
                lines,
                linewidths=_WIDEST * shares + extra,
                colors=colour or mpl.colormaps[_DIFFERENCES](norm(difference)),
                capstyle="butt",
            )
            upper.add_collection(collection)
        upper.scatter(*points.T, s=16, color="black", zorder=3)
        image = _draw_matrix(lower, mixing)
    figure.colorbar(
        ScalarMappable(norm, mpl.colormaps[_DIFFERENCES]),
        ax=list(over),
        label="share above the plain mean of the neighbours",
        fraction=0.06,
    )
    figure.colorbar(image, ax=list(matrices), label="share that the row takes", fraction=0.06)
    figure.suptitle(title, fontsize=11)
    _save(figure, path)


def _draw_matrix(axes: Axes, mixing: np.ndarray) -> object:
    shown = np.where(mixing > 0, mixing, np.nan)
    image = axes.imshow(shown, vmin=0, vmax=1, cmap="viridis_r")
    names = joint_names(len(mixing))
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_xlabel("takes from", fontsize=8)
    axes.set_ylabel("joint", fontsize=8)
    between = np.arange(len(names) - 1) + 0.5
    axes.set_xticks(between, minor=True)
    axes.set_yticks(between, minor=True)
    axes.grid(which="minor", color="0.92", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    return image


def _figure(crop: np.ndarray, columns: int, rows: int = 1) -> tuple[Figure, np.ndarray]:
    """A figure with axes in rows, those of the first as high as the crop is."""
    ratio = crop.shape[0] / crop.shape[1]
    heights = [ratio * _INCHES * 0.8, *[_INCHES * 0.8] * (rows - 1)]
    figure = Figure(
        figsize=(_INCHES * 0.8 * columns + 1.2, sum(heights) + 0.9), layout="constrained"
    )
    return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=heights).ravel()


def _show(axes: Axes, crop: np.ndarray, title: str) -> None:
    axes.imshow(crop)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()
    axes.set_xlim(-0.5, crop.shape[1] - 0.5)
    axes.set_ylim(crop.shape[0] - 0.5, -0.5)


def _borders(centres: np.ndarray) -> np.ndarray:
    return (centres[1:] + centres[:-1]) / 2


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
