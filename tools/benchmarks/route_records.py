"""What was measured of the route scan: CSV and Markdown, written anew after every shape."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

import torch

from mamba_mm.measuring.processor import processor_name

FORWARD, TRAINING, BACKWARD = "forward", "forward + backward", "backward"
OURS, FASTER_UNFUSED = "ours", "torch routes + our scan"


@dataclass(frozen=True)
class Conditions:
    """Where, when and how the measurements were made."""

    date: str
    cpu: str
    threads: int
    isa: str
    torch: str
    memory: str

    @classmethod
    def here(cls, fresh: bool) -> Conditions:
        """Describe this process."""
        return cls(
            date.today().isoformat(),
            processor_name(),
            torch.get_num_threads(),
            torch.ops.mamba_mm.cpu_instruction_set(),
            torch.__version__,
            "fresh" if fresh else "recycled",
        )

    def __str__(self) -> str:
        return (
            f"{self.cpu}, threads: {self.threads}, {self.isa} kernels, torch {self.torch}, "
            f"{self.memory} memory; measured {self.date}"
        )


@dataclass(frozen=True)
class Record:
    """One contender in one pass over one shape.

    Attributes:
        batch: Maps at once.
        dim: Channels D.
        states: States N.
        rank: Rank R of the step sizes.
        height: Rows of the map.
        width: Columns of the map.
        work: Which pass, one of the constants of this module.
        contender: Who.
        median_ms: Median turn, in milliseconds a call.
        best_ms: Fastest turn.
        spread: Distance between the quartiles over the median.
        turns: How many turns.
        x_ours: How many times as long as ours, the median of turns of the same round.
        floor_share: Floor over median.
        fused_floor_share: The same by the stricter count, without transposes.
        peak_maps: Most memory held at once, in sizes of the input map.
        error: Largest error of the output against float64, over its largest value.
    """

    batch: int
    dim: int
    states: int
    rank: int
    height: int
    width: int
    work: str
    contender: str
    median_ms: float
    best_ms: float
    spread: float
    turns: int
    x_ours: float
    floor_share: float | None = None
    fused_floor_share: float | None = None
    peak_maps: float | None = None
    error: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """What the tables have a line for."""
        return self.batch, self.dim, self.states, self.height, self.width


def write_records(path: Path, conditions: Conditions, records: Sequence[Record]) -> None:
    """Write a file in the format that its suffix names, ``.csv`` or ``.md``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](path, conditions, records)


def _write_csv(path: Path, conditions: Conditions, records: Sequence[Record]) -> None:
    columns = [field.name for kind in (Conditions, Record) for field in fields(kind)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for record in records:
            row = asdict(conditions) | asdict(record)
            writer.writerow({name: _csv_cell(value) for name, value in row.items()})


def _csv_cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_markdown(path: Path, conditions: Conditions, records: Sequence[Record]) -> None:
    """Write a line per shape: our time, how many times longer others take, shares, memory."""
    rivals = {r.contender: r for r in records if r.contender != OURS}
    rivals = [name for name in rivals if not name.startswith(FASTER_UNFUSED + ",")]
    head = ["B", "D", "N", "R", "map"]
    for work in (FORWARD, TRAINING):
        head += [f"{work}: ours, ms", *rivals]
    head += ["forward: share of the floor", "without transposes", "backward: share of the floor"]
    head += ["peak memory in maps, forward: ours", FASTER_UNFUSED]
    head += ["forward + backward: ours", FASTER_UNFUSED, "error"]
    lines = [_line(head), _line(["---"] * len(head))]
    for shape in dict.fromkeys(r.shape for r in records):
        own = {(r.work, r.contender): r for r in records if r.shape == shape}
        lines.append(_line(_cells(own, rivals)))
    text = f"{conditions}. Medians of turns in one process.\n\n" + "\n".join(lines) + "\n"
    path.write_text(text)


def _cells(own: dict[tuple[str, str], Record], rivals: Sequence[str]) -> list[str]:
    forward = own[FORWARD, OURS]
    cells = [str(n) for n in (forward.batch, forward.dim, forward.states, forward.rank)]
    cells.append(f"{forward.height}x{forward.width}")
    for work in (FORWARD, TRAINING):
        cells.append(f"{own[work, OURS].median_ms:.3g}")
        cells += [_cell(own.get((work, rival)), "x_ours", "{:.3g}x") for rival in rivals]
    cells.append(_cell(forward, "floor_share", "{:.0%}"))
    cells.append(_cell(forward, "fused_floor_share", "{:.0%}"))
    cells.append(_cell(own.get((BACKWARD, OURS)), "floor_share", "{:.0%}"))
    for work in (FORWARD, TRAINING):
        for name in (OURS, FASTER_UNFUSED):
            cells.append(_cell(own.get((work, name)), "peak_maps", "{:.1f}"))
    return [*cells, _cell(forward, "error", "{:.0e}")]


def _cell(record: Record | None, name: str, form: str) -> str:
    value = None if record is None else getattr(record, name)
    return "-" if value is None else form.format(value)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


WRITERS = {".csv": _write_csv, ".md": _write_markdown}
