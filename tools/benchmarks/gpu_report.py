"""What the GPU benchmark leaves: a JSON file, and one table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gpu_contenders import OURS, UNFUSED
from gpu_measure import OUT_OF_MEMORY, Record


def write_json(path: Path, head: dict[str, Any], records: Sequence[Record]) -> None:
    """Write all that is known so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(head | {"records": [asdict(record) for record in records]}, indent=1)
    path.write_text(text + "\n")


def table(records: Sequence[Record]) -> str:
    """Lay out a line for every case, dtype and pass: ours, then how many times longer others."""
    rivals = [name for name in dict.fromkeys(r.contender for r in records) if name != OURS]
    limits = list(dict.fromkeys(name for r in records for name in r.shares))
    head = ["case", "dtype", "pass", "ours ms", "quartiles", *(f"{name} x" for name in rivals)]
    head += [f"% of {name}" for name in limits]
    head += ["error", "peak MiB", "unfused MiB"]
    lines = [head]
    for key in dict.fromkeys(_key(r) for r in records):
        lines.append(
            [*key, *_cells({r.contender: r for r in records if _key(r) == key}, rivals, limits)]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _key(record: Record) -> tuple[str, str, str]:
    return record.case, record.dtype, record.work


def _cells(own: dict[str, Record], rivals: Sequence[str], limits: Sequence[str]) -> list[str]:
    ours = own[OURS]
    if ours.failure:
        cells = [_failure(ours), "-"]
    else:
        cells = [
            f"{ours.milliseconds:.4g}",
            f"{ours.lower_quartile:.4g}-{ours.upper_quartile:.4g}",
        ]
    cells += [_ratio(own.get(name)) for name in rivals]
    cells += [f"{ours.shares[name]:.0%}" if name in ours.shares else "-" for name in limits]
    cells.append("-" if ours.error is None else f"{ours.error:.0e}")
    return [*cells, *(_peak(own.get(name)) for name in (OURS, UNFUSED))]


def _ratio(record: Record | None) -> str:
    if record is None:
        return "-"
    if record.failure:
        return _failure(record)
    return f"{record.milliseconds:.4g} ms" if record.x_ours is None else f"{record.x_ours:.2f}"


def _failure(record: Record) -> str:
    return record.failure if record.failure == OUT_OF_MEMORY else "failed"


def _peak(record: Record | None) -> str:
    return "-" if record is None or record.peak_mib is None else f"{record.peak_mib:.1f}"
