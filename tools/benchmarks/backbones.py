#!/usr/bin/env python
r"""Time VMamba and Vim backbones against MMPretrain's of the same class, on this machine.

All run in one process, in turns, as dense backbones with random weights and no stochastic
depth; ratios are medians over turns of the same round. A training step is a forward pass,
the sum of the mean squares of the maps as the loss, a backward pass and SGD. bfloat16 means
autocast over float32 weights. Each backbone runs in the memory format in which a short
probe finds it faster. Growth compares a shape with the smallest one of the same batch, in
turns too. Writes backbones.csv (after every table, so that nothing is lost), backbones.md
and backbones.png. Run it on an idle machine.

    python tools/benchmarks/backbones.py --out work_dirs/backbones
    python tools/benchmarks/backbones.py --class small --modes eval --shapes 224@8 800x1280
    python tools/benchmarks/backbones.py --device cuda --graphs --class headline \
        --shapes 224@32 1248@32 --modes eval
    python tools/benchmarks/backbones.py --profile vmamba_tiny_s1l8 --shapes 224 --threads 1
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from backbone_measure import Effort, Measurement, measure
from backbone_plot import write_plot
from backbone_report import print_measurements, write_csv, write_markdown
from backbone_runs import DTYPES, MEMORY_FORMATS, MODES, Setting, prepare
from backbone_zoo import BACKBONES, CLASSES
from torch.profiler import ProfilerActivity, profile

from mamba_mm.measuring.image_shape import ImageShape, shape_argument
from mamba_mm.measuring.interleaved import keep_freed_memory
from mamba_mm.measuring.machine import Machine

SHAPES = ("224@8", "224", "512", "800x1280", "1248")
PROFILED_RUNS = 3
MOST_COMPILATIONS = 256


def main() -> None:
    """Parse the command line and run."""
    options = _parse_options()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    if options.compile:
        # Every contender is a compilation of the same functions.
        torch._dynamo.config.recompile_limit = MOST_COMPILATIONS
    if options.profile:
        # The operators of a graph's replay have no names.
        setting = Setting(options.modes[0], options.dtypes[0], options.device, options.compile)
        print_profile(options.profile, options.shapes[0], setting, options.format)
    else:
        run_benchmark(options)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--class", dest="model_class", choices=CLASSES, default="tiny")
    parser.add_argument(
        "--models",
        nargs="+",
        choices=BACKBONES,
        metavar="MODEL",
        help="instead of those of the class; the baseline is always measured",
    )
    parser.add_argument(
        "--baseline", choices=BACKBONES, metavar="MODEL", help="instead of the class's"
    )
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=shape_argument,
        default=[ImageShape.parse(text) for text in SHAPES],
        metavar="SHAPE",
        help=f"SIZE or HEIGHTxWIDTH, with @BATCH if not 1 (default: {' '.join(SHAPES)})",
    )
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument(
        "--format",
        choices=("faster", *MEMORY_FORMATS),
        default="faster",
        help="memory format of weights and images",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile by torch.compile")
    parser.add_argument(
        "--graphs", action="store_true", help="replay every pass as a CUDA graph (--device cuda)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=21, help="turns of each backbone at most")
    parser.add_argument(
        "--budget", type=float, default=10, help="seconds per backbone and table, after two turns"
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/backbones"), metavar="FOLDER")
    parser.add_argument(
        "--profile",
        choices=BACKBONES,
        metavar="MODEL",
        help="print the operators of one backbone at the first shape, mode and dtype instead",
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device; use --device cpu")
    if options.graphs and options.device != "cuda":
        parser.error("--graphs: CUDA graphs need --device cuda")
    if options.rounds < 2:
        parser.error(f"--rounds must be at least 2, for quartiles; got {options.rounds}")
    return options


def run_benchmark(options: argparse.Namespace) -> None:
    """Measure every mode, dtype and shape, and write the report even when interrupted."""
    names = _names(options)
    machine = Machine.here(options.device)
    print(f"{machine}, baseline: {names[0]}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    effort = Effort(options.rounds, options.budget)
    measurements: list[Measurement] = []
    try:
        for mode, dtype, shape in product(options.modes, options.dtypes, options.shapes):
            setting = Setting(mode, dtype, options.device, options.compile, options.graphs)
            smallest = _smallest_of_batch(options.shapes, shape.batch)
            if options.compile:
                torch.compiler.reset()  # forgets, and frees, what the table before compiled
            measured = measure(names, shape, smallest, setting, options.format, effort)
            print_measurements(shape, setting, measured)
            measurements += measured
            write_csv(options.out / "backbones.csv", machine, measurements)
    finally:
        if any(not m.failure for m in measurements):
            write_markdown(options.out / "backbones.md", machine, measurements)
            write_plot(options.out / "backbones.png", f"{machine}, {machine.date}", measurements)
            print(f"\nwrote backbones.csv, backbones.md and backbones.png to {options.out}")


def _names(options: argparse.Namespace) -> list[str]:
    """Return the backbones to measure, the baseline first."""
    chosen = CLASSES[options.model_class]
    baseline = options.baseline or chosen.baseline
    return list(dict.fromkeys((baseline, *(options.models or chosen.others))))


def _smallest_of_batch(shapes: Sequence[ImageShape], batch: int) -> ImageShape:
    return min((s for s in shapes if s.batch == batch), key=lambda s: s.pixels)


def print_profile(name: str, shape: ImageShape, setting: Setting, memory_format: str) -> None:
    """Print the operators in which a backbone itself spends most time."""
    contender = prepare(name, shape, setting, memory_format)
    activities = [ProfilerActivity.CPU]
    if setting.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as trace:
        for _ in range(PROFILED_RUNS):
            contender.run()
    print(
        f"{name}, {shape}, {setting.mode}, {setting.dtype}, {contender.memory_format}, "
        f"{PROFILED_RUNS} runs"
    )
    column = f"self_{setting.device}_time_total"
    print(trace.key_averages().table(sort_by=column, row_limit=30, max_name_column_width=60))


if __name__ == "__main__":
    main()
