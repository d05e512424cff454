"""What was measured of backbones: lines while it goes, then CSV and Markdown."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from backbone_measure import Measurement
from backbone_runs import Setting

from mamba_mm.measuring.image_shape import ImageShape
from mamba_mm.measuring.machine import Machine


def print_measurements(
    shape: ImageShape, setting: Setting, measurements: Sequence[Measurement]
) -> None:
    """Print one line per backbone."""
    print(f"\n{shape}, {setting.mode}, {setting.dtype}, {setting.execution}")
    print(
        f"  {'':20} {'median ms':>10} {'quartiles':>19} {'turns':>5} {'images/s':>9} "
        f"{'ratio':>6} {'growth':>6} {'peak MiB':>9}  format"
    )
    for m in measurements:
        if m.failure:
            print(f"  {m.model:20} {m.failure}")
            continue
        growth = "" if m.growth is None else f"{m.growth:.2f}"
        ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
        print(
            f"  {m.model:20} {m.milliseconds:10.1f} "
            f"{m.lower_quartile:9.1f} {m.upper_quartile:9.1f} {m.turns:5} "
            f"{m.images_per_second:9.2f} {ratio:>6} {growth:>6} {m.peak_mib:9.1f}  "
            f"{m.memory_format}"
        )
    print(end="", flush=True)


def write_csv(path: Path, machine: Machine, measurements: Sequence[Measurement]) -> None:
    """Write one row a measurement."""
    columns = [field.name for kind in (Machine, Measurement) for field in fields(kind)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for m in measurements:
            row = asdict(machine) | asdict(m)
            writer.writerow({name: _csv_cell(value) for name, value in row.items()})


def _csv_cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def write_markdown(path: Path, machine: Machine, measurements: Sequence[Measurement]) -> None:
    """Write the tables of every mode and dtype."""
    text = [
        "# Backbones",
        f"{machine}; measured {machine.date}. Shapes are HEIGHTxWIDTH@BATCH; medians of turns in "
        "one process; _cl_: in the channels-last memory format.",
    ]
    for setting in dict.fromkeys(m.setting for m in measurements):
        rows = [m for m in measurements if m.setting == setting]
        text += [f"## {', '.join(setting)}", *_tables(rows)]
    path.write_text("\n\n".join(text) + "\n")


def _tables(measurements: Sequence[Measurement]) -> list[str]:
    baseline = measurements[0].baseline
    text = [
        f"Images per second, and how many times faster than {baseline}:",
        _table(measurements, str, _speed_cell),
        "Peak memory above the weights, in MiB:",
        _table(measurements, str, lambda m: f"{m.peak_mib:.0f}"),
    ]
    grown = [m for m in measurements if m.pixel_ratio is not None]
    if grown:
        ratios = {m.shape: m.pixel_ratio for m in grown}
        text += [
            "Latency relative to the smallest shape of the same batch; growth in proportion to "
            "the pixels would be the number in the head:",
            _table(
                grown, lambda shape: f"{shape}: {ratios[shape]:.2f}", lambda m: f"{m.growth:.2f}"
            ),
        ]
    return text


def _speed_cell(m: Measurement) -> str:
    remarks = [] if m.ratio is None else [f"{m.ratio:.2f}x"]
    remarks += ["_cl_"] if m.memory_format == "channels_last" else []
    return (
        f"{m.images_per_second:.2f} ({', '.join(remarks)})"
        if remarks
        else (f"{m.images_per_second:.2f}")
    )


def _table(
    measurements: Sequence[Measurement],
    head: Callable[[ImageShape], str],
    cell: Callable[[Measurement], str],
) -> str:
    """Lay out backbones as rows and shapes as columns."""
    shapes = list(dict.fromkeys(m.shape for m in measurements))
    cells = {(m.model, m.shape): m.failure or cell(m) for m in measurements}
    lines = [["model", *map(head, shapes)], ["---"] + ["---:"] * len(shapes)]
    for model in dict.fromkeys(m.model for m in measurements):
        lines.append([model, *(cells.get((model, shape), "") for shape in shapes)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
