"""A comparison as Markdown, and as lines while it goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from mamba_mm.comparison.accuracy import Accuracy
from mamba_mm.comparison.measurement import Measurement
from mamba_mm.comparison.records import PROTOCOL, Comparison, ModelRecord
from mamba_mm.measuring.image_shape import ImageShape

FAILED = "failed, see below"


def print_measurements(shape: ImageShape, measurements: Sequence[Measurement]) -> None:
    """Print one line a model."""
    width = max(len(m.model) for m in measurements)
    print(f"\n{shape}")
    print(
        f"  {'':{width}} {'GFLOPs':>8} {'median ms':>10} {'quartiles':>19} {'turns':>5} "
        f"{'images/s':>9} {'ratio':>6} {'peak MiB':>9}"
    )
    for m in measurements:
        if m.failure:
            print(f"  {m.model:{width}} {m.failure}")
            continue
        flops = "" if m.flops is None else f"{m.flops / 1e9:.4g}"
        ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
        print(
            f"  {m.model:{width}} {flops:>8} {m.milliseconds:10.1f} "
            f"{m.lower_quartile:9.1f} {m.upper_quartile:9.1f} {m.turns:5} "
            f"{m.images_per_second:9.2f} {ratio:>6} {m.peak_mib:9.1f}"
        )
    print(end="", flush=True)


def write_markdown(path: Path, comparison: Comparison) -> None:
    """Write the tables, shapes as columns."""
    measurements = comparison.measurements
    first = measurements[0]
    settings = f"{first.dtype}, memory format {first.memory_format.replace('_', ' ')}"
    sections = [
        "# Comparison",
        f"{comparison.machine}; measured {comparison.machine.date}; {settings}.",
        PROTOCOL,
        "## Models",
        _models(comparison),
        "## Accuracy",
        "Of the weights that the sources name, in their units, each with a recipe of its own; it "
        "was not evaluated in this run.",
        _accuracy(comparison.models),
        "## Time",
        f"Milliseconds of a batch, quartiles in brackets, and how many times as fast as "
        f"{comparison.baseline}; shapes are HEIGHTxWIDTH@BATCH:",
        _by_shape(measurements, _time_cell),
        "Images per second, quartiles in brackets:",
        _by_shape(measurements, _throughput_cell),
        "## Memory",
        "Peak above weights and images, in MiB:",
        _by_shape(measurements, lambda m: f"{m.peak_mib:.0f}"),
        *_failures(measurements),
    ]
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _models(comparison: Comparison) -> str:
    sizes = list(dict.fromkeys((m.height, m.width) for m in comparison.measurements))
    counted = {(m.model, (m.height, m.width)): m for m in comparison.measurements}
    head = ["model", "config", "parameters", "of the backbone"]
    head += [f"GFLOPs {height}x{width}" for height, width in sizes]
    rows = [
        [
            record.name,
            f"`{record.config}`",
            _millions(record.parameters),
            _millions(record.backbone_parameters),
            *(_flops_cell(counted[record.name, size]) for size in sizes),
        ]
        for record in comparison.models
    ]
    return _table(head, rows, left=2)


def _flops_cell(m: Measurement) -> str:
    if m.flops is None:
        return "not counted"
    scans = f" ({m.scan_flops / 1e9:.3g} scans)" if m.scan_flops else ""
    return f"{m.flops / 1e9:.4g}{scans}"


def _millions(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.2f} M"


def _accuracy(models: Sequence[ModelRecord]) -> str:
    rows = []
    for record in models:
        groups = groupby(record.accuracies, lambda a: (a.kind, a.dataset, a.source))
        rows += [
            [record.name, kind, dataset, _metrics(group), source]
            for (kind, dataset, source), group in groups
        ]
    if not rows:
        return "None is known: no metafile lists the configs, and no work directory was given."
    return _table(["model", "", "data set", "metrics", "from"], rows, left=5)


def _metrics(accuracies: Sequence[Accuracy]) -> str:
    return ", ".join(f"{a.metric} {a.value:g}" for a in accuracies)


def _by_shape(measurements: Sequence[Measurement], cell: Callable[[Measurement], str]) -> str:
    shapes = list(dict.fromkeys(m.shape for m in measurements))
    cells = {(m.model, m.shape): FAILED if m.failure else cell(m) for m in measurements}
    rows = [
        # A shape is missing where the comparison was interrupted.
        [model, *(cells.get((model, shape), "") for shape in shapes)]
        for model in dict.fromkeys(m.model for m in measurements)
    ]
    return _table(["model", *map(str, shapes)], rows)


def _time_cell(m: Measurement) -> str:
    ratio = "" if m.ratio is None else f", {m.ratio:.2f}x"
    return f"{_spread(m.milliseconds, m.lower_quartile, m.upper_quartile)}{ratio}"


def _throughput_cell(m: Measurement) -> str:
    return _spread(m.images_per_second, m.images_per_second_lower, m.images_per_second_upper)


def _spread(middle: float, low: float, high: float) -> str:
    return f"{_short(middle)} ({_short(low)} to {_short(high)})"


def _short(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _failures(measurements: Sequence[Measurement]) -> list[str]:
    """List each reason once, with all shapes that it holds for."""
    where: dict[tuple[str, str], list[str]] = {}
    for m in measurements:
        if m.failure:
            where.setdefault((m.model, m.failure), []).append(str(m.shape))
        elif m.flops_failure:
            size = f"FLOPs {m.height}x{m.width}"
            where.setdefault((m.model, m.flops_failure), []).append(size)
    lines = [
        f"- {model} at {', '.join(dict.fromkeys(shapes))}: {reason}"
        for (model, reason), shapes in where.items()
    ]
    return ["## What failed", "\n".join(lines)] if lines else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out a table whose first ``left`` columns are words."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))
