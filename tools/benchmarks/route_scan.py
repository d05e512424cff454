#!/usr/bin/env python
"""Time the fused route scan of VMamba's mixer against what it replaces, on this machine's CPU.

All contenders get the same map and compute the same, from the projection of the map to the
merged output:

* ours: the fused op, on a channels-last map, as the mixer calls it;
* torch routes + our scan: the routes walked and merged in PyTorch around our compiled
  ``selective_scan``, on a contiguous (NCHW) and on a channels-last (NHWC) map; the faster of
  the two, pass by pass, is the contender;
* pure torch: the same routes around a loop over the steps or a log-depth scan (NCHW).

The parameters are those of a mixer of ratio 2: R = ceil(D / 2 / 16). All run in one process,
in turns; ratios to ours are from turns of the same round. Run it on an idle machine.

    python tools/benchmarks/route_scan.py
    python tools/benchmarks/route_scan.py --dims 192 --maps 56x56 --isa avx2 --out routes.csv
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from machine_limits import MachineLimits
from route_contenders import (
    CHOICES,
    UNFUSED,
    Contender,
    Inputs,
    backward_run,
    chosen_contenders,
    error_against_float64,
    forward_run,
    make_inputs,
    training_run,
)
from route_records import (
    BACKWARD,
    FASTER_UNFUSED,
    FORWARD,
    TRAINING,
    WRITERS,
    Conditions,
    Record,
    write_records,
)
from route_work import FUSED_FIXED, RouteShape, backward_floor, forward_floor
from scan_options import add_options, set_up
from scan_report import print_share, print_table

from mamba_mm.measuring.interleaved import Timing, ratio, time_interleaved
from mamba_mm.measuring.peak_memory import peak_bytes

MAPS = ["14x14", "28x28", "56x56", "112x112", "200x320"]
PASSES = {FORWARD: forward_run, TRAINING: training_run}


@dataclass(frozen=True)
class Effort:
    """How much to measure: turns, seconds per contender, and where pure torch takes part."""

    rounds: int
    budget: float
    largest_pure_torch: dict[str, int]

    def takes_part(self, contender: Contender, work: str, shape: RouteShape) -> bool:
        """Tell whether a contender runs a pass over maps of this shape."""
        return not contender.pure_torch or shape.positions <= self.largest_pure_torch[work]


def measure_pass(
    work: str, shape: RouteShape, inputs: Inputs, contenders: dict[str, Contender], effort: Effort
) -> dict[str, Timing]:
    """Time one pass of all contenders that take part and print the table."""
    runs = {
        name: PASSES[work](contender, inputs)
        for name, contender in contenders.items()
        if effort.takes_part(contender, work, shape)
    }
    timings = time_interleaved(runs, effort.rounds, effort.budget)
    print_table(work, timings)
    return timings


def print_peak(
    work: str, shape: RouteShape, inputs: Inputs, name: str, contender: Contender
) -> float:
    """Print and return the most memory that a pass holds at once, in sizes of the map."""
    maps = peak_bytes(PASSES[work](contender, inputs)) / shape.map_bytes
    print(f"  {work}, peak memory of {name}: {maps:.1f} maps of {shape.map_bytes / 2**20:.1f} MiB")
    return maps


def make_record(work: str, shape: RouteShape, name: str, timing: Timing, ours: Timing) -> Record:
    """Bring a timing into the form of the files."""
    return Record(
        shape.batch,
        shape.dim,
        shape.states,
        shape.rank,
        shape.height,
        shape.width,
        work,
        name,
        timing.median * 1e3,
        timing.best * 1e3,
        timing.spread,
        len(timing.seconds),
        ratio(timing, ours),
    )


def make_records(
    work: str,
    shape: RouteShape,
    inputs: Inputs,
    contenders: dict[str, Contender],
    timings: dict[str, Timing],
) -> dict[str, Record]:
    """Record a pass with its peaks; the faster unfused contender gets a record more."""
    ours = timings["ours"]
    records = {
        name: make_record(work, shape, name, timing, ours) for name, timing in timings.items()
    }
    peak = print_peak(work, shape, inputs, "ours", contenders["ours"])
    records["ours"] = replace(records["ours"], peak_maps=peak)
    unfused = [name for name in timings if name in UNFUSED]
    if unfused:
        name = min(unfused, key=lambda name: timings[name].median)
        print(f"  {work}, the faster memory format: {name}, {records[name].x_ours:.2f} x ours")
        peak = print_peak(work, shape, inputs, name, contenders[name])
        records[FASTER_UNFUSED] = replace(records[name], contender=FASTER_UNFUSED, peak_maps=peak)
    return records


def run_shape(
    shape: RouteShape, contenders: dict[str, Contender], limits: MachineLimits, effort: Effort
) -> list[Record]:
    """Print all tables of one shape and return what they say."""
    inputs = make_inputs(shape)
    error = error_against_float64(inputs)
    print(f"\n=== {shape}, R={shape.rank}: output error {error:.1e} ===")

    timings = measure_pass(FORWARD, shape, inputs, contenders, effort)
    floor = forward_floor(shape, limits)
    strict = forward_floor(shape, limits, FUSED_FIXED)
    print_share("forward", floor, timings["ours"])
    print_share("forward, without transposes", strict, timings["ours"])
    forward = make_records(FORWARD, shape, inputs, contenders, timings)
    forward["ours"] = replace(
        forward["ours"],
        floor_share=floor.seconds / timings["ours"].median,
        fused_floor_share=strict.seconds / timings["ours"].median,
        error=error,
    )

    timings = measure_pass(TRAINING, shape, inputs, contenders, effort)
    training = make_records(TRAINING, shape, inputs, contenders, timings)

    runs = {"ours": backward_run(contenders["ours"], inputs)}
    timing = time_interleaved(runs, effort.rounds, effort.budget)["ours"]
    floor = backward_floor(shape, limits)
    print(f"  backward alone: median {timing.median * 1e3:.3f} ms, best {timing.best * 1e3:.3f}")
    print_share("backward", floor, timing)
    backward = make_record(BACKWARD, shape, "ours", timing, timing)
    backward = replace(backward, floor_share=floor.seconds / timing.median)
    print(end="", flush=True)
    return [*forward.values(), *training.values(), backward]


def map_size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"map {text!r} is not of the form HEIGHTxWIDTH")
    return int(match[1]), int(match[2])


def channels(text: str) -> int:
    """Read a number of channels: even, for a mixer of ratio 2."""
    if not re.fullmatch(r"[1-9]\d*", text) or int(text) % 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not an even number of channels")
    return int(text)


def report_path(text: str) -> Path:
    """Read the name of a file that can be written."""
    path = Path(text)
    if path.suffix not in WRITERS:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(WRITERS)}")
    return path


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [map_size(text) for text in MAPS]
    parser.add_argument("--dims", nargs="+", type=channels, default=[96, 192, 384])
    parser.add_argument("--states", nargs="+", type=int, default=[1, 16])
    parser.add_argument(
        "--maps", nargs="+", type=map_size, default=sizes, metavar="HxW", help=" ".join(MAPS)
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--contenders", nargs="+", choices=CHOICES, default=["unfused", "loop"], help="beside ours"
    )
    parser.add_argument(
        "--pure-forward",
        type=map_size,
        default=(56, 56),
        metavar="HxW",
        help="largest map that pure torch runs forward (56x56)",
    )
    parser.add_argument(
        "--pure-training",
        type=map_size,
        default=(28, 28),
        metavar="HxW",
        help="the same with backward (28x28): several nodes of graph a step take long",
    )
    parser.add_argument(
        "--out",
        nargs="+",
        type=report_path,
        default=[],
        metavar="FILE",
        help="files to write after every shape: .csv for all figures, .md for a table",
    )
    add_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = parse_options()
    limits = set_up(options)
    conditions = Conditions.here(options.fresh)
    largest = {
        FORWARD: math.prod(options.pure_forward),
        TRAINING: math.prod(options.pure_training),
    }
    effort = Effort(options.rounds, options.budget, largest)
    contenders = chosen_contenders(options.contenders)
    records: list[Record] = []
    for dim, states, size in itertools.product(options.dims, options.states, options.maps):
        shape = RouteShape(options.batch, dim, states, *size)
        records += run_shape(shape, contenders, limits, effort)
        for path in options.out:
            write_records(path, conditions, records)


if __name__ == "__main__":
    main()
