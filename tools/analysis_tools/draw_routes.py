"""Draw the walks of route sets over a map: where a scan begins, goes, jumps and ends.

Every sequence is a panel. Its colour runs from the first step to the last, neighbouring
cells are joined by arrows, jumps by thin dashed lines, and the number in a corner of a cell
is the step that reads it; padded steps are counted where they occur. Routes that are joined
to one sequence stand side by side, and their colour and numbers run on.

Examples:
    python tools/analysis_tools/draw_routes.py cross atrous2 --size 6 8 --out routes.png
    python tools/analysis_tools/draw_routes.py --routes row "~zigzag:lr" "window(3)"
    python tools/analysis_tools/draw_routes.py "local_vim_tiny[4]" --size 14 14
    python tools/analysis_tools/draw_routes.py --import my_routes.py --routes my_walk
    python tools/analysis_tools/draw_routes.py --all --out pictures
"""

import argparse
import importlib
import importlib.util
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import ConnectionPatch, Rectangle
from matplotlib.text import Annotation

from mamba_mm.ops.routes import ROUTE_SETS, RouteSet, route_set

COLOURS = matplotlib.colormaps["viridis"]
INK, FAINT = "#222222", "#8a8a8a"
START, END, PAD = "#1a9850", "#d73027", "#b2182b"
MOST_NUMBERS = 200  # cells of a map up to which steps are numbered
LARGE = 14  # rows or columns from which arrows are larger than a cell's share, and fewer
ARROWS_IF_LARGE = 60
PIXELS_PER_INCH = 100
PANELS_IN_A_LINE = 4
TITLE_WIDTH = 24  # characters of a route that stand in one line
TIMES = "\u00d7"
CORNER = np.array([0.2, -0.33])  # of a cell, from its centre
EXTRA = 1.15  # cells below the map for the extra token


@dataclass(frozen=True)
class Panel:
    """One route of a sequence, ready to be drawn.

    Attributes:
        title: The route as text.
        note: What else is to be said of it.
        steps: Raster index of each step, -1 for a padded one, H W for the extra token.
        first: Number of the first step within the sequence.
        length: Steps of the whole sequence.
        joined: Whether the sequence goes on from the panel before.
    """

    title: str
    note: str
    steps: np.ndarray
    first: int
    length: int
    joined: bool


@dataclass(frozen=True)
class Row:
    """The sequences of a set that walk one map.

    Attributes:
        title: Name of the set.
        note: What else is to be said of it.
        height: Rows of the map.
        width: Columns of the map.
        panels: One or more for each sequence.
    """

    title: str
    note: str
    height: int
    width: int
    panels: tuple[Panel, ...]


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sets", nargs="*", metavar="SET", help="presets; NAME[I] is layer I of one with layers"
    )
    parser.add_argument("--routes", nargs="+", default=[], help="routes of a set of your own")
    parser.add_argument("--all", action="store_true", help="one picture for each preset")
    parser.add_argument(
        "--size", nargs=2, type=int, default=(6, 8), metavar=("H", "W"), help="default: 6 8"
    )
    parser.add_argument(
        "--out", help="the picture, or with --all the folder (default: routes.png, routes)"
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or .py file that registers routes or sets; may be repeated",
    )
    return parser.parse_args(arguments)


def import_own(name):
    """Import a module, by its name or as a file."""
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no file {name}")
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def named_sets(name):
    """Return the sets of a preset as (title, set): one, or one for each layer.

    Raises:
        ValueError: There is no such preset or layer.
    """
    match = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    preset, layer = match.groups() if match else (name, None)
    value = ROUTE_SETS.get(preset)
    if not isinstance(value, tuple):
        return [(preset, route_set(name))]
    titled = [(f"{preset}[{index}]", layer_set) for index, layer_set in enumerate(value)]
    if layer is None:
        return titled
    if int(layer) >= len(value):
        raise ValueError(f"{preset} has {len(value)} layers, 0 to {len(value) - 1}, not {layer}")
    return [titled[int(layer)]]


def rows_of(title, routes, height, width):
    """Return a :class:`Row` for each map that a set walks; lower branches are halved."""
    if routes.dynamic:
        routes = replace(routes, dynamic=False)
        title = f"{title} (on tokens in the order of the call)"
    rows = []
    for branch in range(routes.num_branches):
        own = routes.on_branch(branch)
        size = (height, width) if branch == 0 else (-(-height // 2), -(-width // 2))
        heading = title if routes.num_branches == 1 else f"{title}, branch {branch}"
        panels = panels_of(own, routes.groups_on_branch(branch), *size)
        rows.append(Row(heading, describe(routes, branch), *size, panels))
    return rows


def describe(routes, branch):
    """Say in a line how a set uses its walks."""
    merge = routes.merge.replace("_", " ")
    parts = [f"merge: {merge}" + (f" (t = {routes.threshold:g})" if routes.threshold else "")]
    if routes.permute == "input_only":
        parts.append("only the input walks")
    if routes.codes:
        parts.append("step codes")
    if routes.shift:
        parts.append("output one step later")
    if branch > 0:
        parts.append(f"{routes.upsample} upsampling")
    return ", ".join(parts)


def panels_of(routes, groups, height, width):
    """Return the panels of a set on one map.

    Args:
        routes: The set.
        groups: Numbers by which its parameter groups are called.
        height: Rows of the map.
        width: Columns of the map.
    """
    panels = []
    for k, sequence in enumerate(routes.sequences):
        walks = [routes.routes[index].table(height, width).numpy() for index in sequence]
        length = sum(map(len, walks))
        first = 0
        for place, (index, steps) in enumerate(zip(sequence, walks, strict=True)):
            pads = int((steps < 0).sum())
            notes = [f"group {groups[routes.param_group[k]]}"]
            notes += [f"{pads} padded {'step' if pads == 1 else 'steps'}"] * (pads > 0)
            notes += [f"part {place + 1} of {len(sequence)}"] * (len(sequence) > 1)
            note = ", ".join(notes)
            title = str(routes.routes[index])
            panels.append(Panel(title, note, steps, first, length, place > 0))
            first += len(steps)
    return tuple(panels)


def draw(rows):
    """Return a figure with the rows below one another, long ones broken into lines."""
    lines = [line for row in rows for line in broken(row)]
    cell = min(0.34, 2.9 / max(max(row.height, row.width) for row in rows))
    heights = [(line.height + EXTRA * has_extra(line)) * cell + margin(line) for line in lines]
    legend = 0.55
    width = max(*(len(line.panels) * pitch(line, cell) for line in lines), 4.6)
    figure = plt.figure(figsize=(width, sum(heights) + legend), dpi=PIXELS_PER_INCH)
    *parts, bar = figure.subfigures(len(lines) + 1, 1, height_ratios=[*heights, legend])
    for part, line, height in zip(parts, lines, heights, strict=True):
        draw_row(part, line, cell, (width, height))
    draw_legend(bar, width, pads=any((p.steps < 0).any() for row in rows for p in row.panels))
    return figure


def broken(row):
    """Break a row with many panels into lines; only the first has the heading."""
    starts = range(0, len(row.panels), PANELS_IN_A_LINE)
    return [
        replace(
            row,
            title="" if start else row.title,
            note="" if start else row.note,
            panels=row.panels[start : start + PANELS_IN_A_LINE],
        )
        for start in starts
    ]


def has_extra(row):
    """Whether a panel of the row shows an extra token below the map."""
    return any(row.height * row.width in panel.steps for panel in row.panels)


def margin(row):
    """Inches a row needs beside its map: for its heading and the titles of its panels."""
    lines = max(heading(panel).count("\n") + 1 for panel in row.panels)
    return 0.22 + 0.13 * lines + (0.26 if row.title else 0)


def heading(panel):
    """Return what stands above a panel."""
    title = panel.title
    if len(title) > TITLE_WIDTH:
        title = re.sub(r"[(:]", lambda mark: f"\n{mark.group()}", title, count=1)
    return f"{title}\n{panel.note}"


def pitch(row, cell):
    """Inches from one panel of a row to the next."""
    return max(row.width * cell, 1.45) + 0.3


def draw_row(figure, row, cell, inches):
    """Draw a heading and the panels of one map, all cells equally large.

    Args:
        figure: Where to draw.
        row: What to draw.
        cell: Inches of a cell.
        inches: Width and height of the figure.
    """
    across, up = inches
    if row.title:
        title = figure.text(
            0.15 / across, 1 - 0.08 / up, row.title, va="top", weight="bold", size=10, color=INK
        )
        note = Annotation(
            row.note, (1, 0), (10, 1), title, "offset points", va="bottom", size=8, color=FAINT
        )
        figure.add_artist(note)
    high = row.height + EXTRA * has_extra(row)
    axes = []
    for place, panel in enumerate(row.panels):
        middle = 0.075 + (place + 0.5) * pitch(row, cell)
        left = (middle - row.width * cell / 2) / across
        axis = figure.add_axes((left, 0.1 / up, row.width * cell / across, high * cell / up))
        draw_panel(axis, panel, row.height, row.width, high)
        if panel.joined:
            draw_join(figure, axes[-1], axis)
        axes.append(axis)


def draw_panel(axis, panel, height, width, high):
    """Draw one route over the cells of its map, on axes ``high`` cells high."""
    at = positions(panel.steps, height, width)
    shade = (panel.first + np.arange(len(at))) / max(panel.length - 1, 1)
    real = np.flatnonzero(panel.steps >= 0)
    prepare(axis, height, width, high)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    cells = at[real][:, None] + corners
    axis.add_collection(PolyCollection(cells, facecolors=COLOURS(shade[real], alpha=0.3), lw=0))
    if height * width <= MOST_NUMBERS:
        for step in real:
            x, y = at[step] - 0.43
            axis.text(x, y, panel.first + step, size=5, va="top", color=INK, alpha=0.75)
    draw_moves(axis, at, real, shade)
    draw_ends(axis, panel, at, real)
    axis.set_title(heading(panel), size=7.5, pad=4, color=INK, linespacing=1.25)


def prepare(axis, height, width, high):
    """Set up the axes with one unit a cell and draw the empty map."""
    axis.set_xlim(-0.55, width - 0.45)
    axis.set_ylim(high - 0.45, -0.55)
    axis.set_aspect("equal")
    axis.set_axis_off()
    lines = [((x - 0.5, -0.5), (x - 0.5, height - 0.5)) for x in range(width + 1)]
    lines += [((-0.5, y - 0.5), (width - 0.5, y - 0.5)) for y in range(height + 1)]
    axis.add_collection(LineCollection(lines, colors="#d5d5d5", linewidths=0.6, zorder=0))
    if high > height:
        x, y = extra_place(height, width)
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=FAINT, lw=0.8))
        axis.text(x + 0.65, y, "extra token", size=6, va="center", color=FAINT)


def extra_place(height, width):
    """Where the extra token is drawn: below the map."""
    return (width - 1) // 2, height + 0.1


def positions(steps, height, width):
    """Return the (x, y) of every step; padded ones have none and get (0, 0)."""
    rows, columns = np.divmod(np.maximum(steps, 0), width)
    at = np.stack((columns, rows), axis=1).astype(float)
    at[steps == height * width] = extra_place(height, width)
    return at


def draw_moves(axis, at, real, shade):
    """Draw how the walk gets from step to step: arrows, jumps, and pads on the way."""
    start, stop = at[real[:-1]], at[real[1:]]
    distance = np.abs(stop - start).max(axis=1, initial=0)
    skipped = np.diff(real) - 1
    near = (distance <= 1) & (skipped == 0)
    colours = COLOURS((shade[real[:-1]] + shade[real[1:]]) / 2) * [0.75, 0.75, 0.75, 1]
    # The longer a jump, the fainter: it crosses what others do nearby.
    colours[~near, 3] = np.clip(1.7 / np.maximum(distance[~near], 1), 0.35, 0.85)
    moves = np.stack((start, stop), axis=1)
    axis.add_collection(LineCollection(moves[near], colors=colours[near], lw=1.5, zorder=3))
    dashes = (0, (4, 2.5))
    axis.add_collection(
        LineCollection(moves[~near], colors=colours[~near], lw=0.8, linestyles=dashes, zorder=2)
    )
    scale = max(1.0, (at.max() + 1) / LARGE)
    every = 1 if scale == 1 else 1 + len(real) // ARROWS_IF_LARGE
    for kind, size in ((near, scale), (~near, 0.7 * scale)):
        chosen = np.flatnonzero(kind)[::every]
        point_arrows(axis, start[chosen], stop[chosen], colours[chosen], size)
    for move in np.flatnonzero(skipped):
        label_pads(axis, (start[move] + stop[move]) / 2, skipped[move])


def label_pads(axis, place, count):
    """Say how many steps the walk pads at a place."""
    if count:
        label = axis.text(*place, f"{count}{TIMES}", size=5, ha="center", va="center", color=PAD)
        label.set(zorder=8, bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"})


def point_arrows(axis, start, stop, colours, size):
    """Put an arrow head just past the middle of each move."""
    move = stop - start
    length = np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-9)
    tip = (start + stop) / 2 + 0.16 * size * move / length
    back = tip - 0.32 * size * move / length
    side = 0.14 * size * move[:, ::-1] * [-1, 1] / length
    heads = np.stack((tip, back + side, back - side), axis=1)
    axis.add_collection(PolyCollection(heads, facecolors=colours, edgecolors="none", zorder=4))


def draw_ends(axis, panel, at, real):
    """Mark where the sequence starts and ends, which joined parts do not, and pads there."""
    if not len(real):
        return
    first, last = at[real[0]], at[real[-1]]
    if panel.first == 0:
        axis.plot(*first, "o", ms=6, mfc=START, mec="white", mew=0.8, zorder=7)
    if panel.first + len(panel.steps) == panel.length:
        axis.plot(*last, "s", ms=5.5, mfc=END, mec="white", mew=0.8, zorder=7)
    label_pads(axis, first + CORNER, real[0])
    label_pads(axis, last + CORNER, len(panel.steps) - 1 - real[-1])


def draw_join(figure, before, after):
    """Draw an arrow from one part of a sequence to the next."""
    arrow = ConnectionPatch(
        (1.02, 0.5),
        (-0.02, 0.5),
        "axes fraction",
        "axes fraction",
        axesA=before,
        axesB=after,
        arrowstyle="-|>",
        mutation_scale=11,
        lw=1.2,
        color=INK,
    )
    figure.add_artist(arrow)


def draw_legend(figure, width, pads):
    """Draw the bar of colours and the marks that occur."""
    bar = figure.add_axes((0.12 / width, 0.55, 1.5 / width, 0.2))
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap=COLOURS, alpha=0.8)
    bar.set_axis_off()
    left = 0.12 / width
    figure.text(left, 0.45, "first step", size=7, va="top", color=INK)
    figure.text(left + 1.5 / width, 0.45, "last step", size=7, va="top", ha="right", color=INK)
    marks = figure.add_axes((1.85 / width, 0.3, (width - 1.9) / width, 0.6))
    marks.set_axis_off()
    marks.plot([], [], "o", ms=6, mfc=START, mec="white", label="start")
    marks.plot([], [], "s", ms=5.5, mfc=END, mec="white", label="end")
    marks.plot([], [], "-", lw=1.5, color=INK, label="step")
    marks.plot([], [], "--", lw=0.7, color=INK, alpha=0.6, label="jump")
    if pads:
        marks.plot([], [], " ", label=f"3{TIMES}  three padded steps")
    marks.legend(loc="center left", ncols=5, frameon=False, fontsize=7, columnspacing=1.2)


def save(rows, path):
    """Draw rows into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = draw(rows)
    figure.savefig(path, facecolor="white")
    plt.close(figure)
    print(path, flush=True)


def write_all(folder, height, width):
    """Draw every preset; presets of the same value share a picture."""
    names = {}
    for name, value in ROUTE_SETS.items():
        names.setdefault(value, []).append(name)
    for same in names.values():
        rows = [
            row
            for title, routes in named_sets(same[0])
            for row in rows_of(title.replace(same[0], ", ".join(same)), routes, height, width)
        ]
        save(rows, folder / f"{same[0]}.png")


def run(args):
    """Do what the command line asks for.

    Raises:
        ValueError: It names an unknown set or route, or asks for nothing.
        TypeError: Keywords of a route do not fit.
    """
    for name in args.imports:
        import_own(name)
    if args.all:
        if args.sets or args.routes:
            raise ValueError("--all draws every preset; name no sets and no routes with it")
        write_all(Path(args.out or "routes"), *args.size)
        return
    titled = [pair for name in args.sets for pair in named_sets(name)]
    if args.routes:
        titled.append(("routes", RouteSet(args.routes)))
    if not titled:
        raise ValueError(f"name a set, or use --routes or --all; sets: {', '.join(ROUTE_SETS)}")
    rows = [row for title, routes in titled for row in rows_of(title, routes, *args.size)]
    save(rows, Path(args.out or "routes.png"))


def main(arguments=None):
    """Draw what is asked for, or say in one line what is wrong."""
    args = parse_args(arguments)
    try:
        run(args)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
