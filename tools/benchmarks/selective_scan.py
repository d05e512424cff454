#!/usr/bin/env python
"""Time the compiled selective scan against what PyTorch offers, on this machine's CPU.

All contenders run in one process, in turns; the table gives medians, the spread between the
quartiles, the ratio to ours from turns of the same round, and how close ours comes to what
this machine was just measured to do at best. Run it on an idle machine.

    python tools/benchmarks/selective_scan.py
    python tools/benchmarks/selective_scan.py --shapes vim --threads 1 --isa avx2
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

import torch
from machine_limits import MachineLimits
from scan_options import add_options, set_up
from scan_report import Floor, print_share, print_table
from torch_scans import associative_recurrence, materialised_scan, odd_even_recurrence

from mamba_mm.measuring.interleaved import time_interleaved
from mamba_mm.ops import selective_scan, selective_scan_ref


@dataclass(frozen=True)
class Shape:
    """Sizes of one scan: batch, channels, steps, states and groups."""

    batch: int
    dim: int
    length: int
    states: int
    groups: int

    @property
    def elements(self) -> int:
        """Number of elements of u."""
        return self.batch * self.dim * self.length


SHAPES = {
    "vmamba": Shape(1, 4 * 192, 3136, 1, 4),  # first stage of VMamba-T at 224 x 224
    "vim": Shape(1, 384, 197, 16, 1),  # one direction of Vim-T at 224 x 224
    "long": Shape(2, 384, 3136, 16, 1),
}


def forward_floor(shape: Shape, limits: MachineLimits) -> Floor:
    """Per element 10 N + 40 multiply-adds: 7 an exponential, 3 a state, and the softplus."""
    n = shape.states
    projections = 2 * n * shape.groups / shape.dim
    return Floor(
        shape.elements * (10 * n + 40) / limits.fma,
        shape.elements * (n + 1) / limits.exp,
        shape.elements * 4 * (3 + projections) / limits.bandwidth,
    )


def backward_floor(shape: Shape, limits: MachineLimits) -> Floor:
    """Per element 18 N + 63 multiply-adds: states computed again, then eight sums each."""
    n = shape.states
    projections = 4 * n * shape.groups / shape.dim
    return Floor(
        shape.elements * (18 * n + 63) / limits.fma,
        shape.elements * (n + 2) / limits.exp,
        shape.elements * 4 * (5 + projections + n / 32) / limits.bandwidth,
    )


def make_arguments(shape: Shape) -> dict[str, torch.Tensor]:
    """Random inputs with the step sizes of a freshly initialised model."""
    torch.manual_seed(0)
    sequence = (shape.batch, shape.dim, shape.length)
    projection = (shape.batch, shape.groups, shape.states, shape.length)
    return {
        "u": torch.randn(sequence),
        "delta": torch.randn(sequence) / 2 - 4,
        "A": -torch.arange(1.0, shape.states + 1).repeat(shape.dim, 1),
        "B": torch.randn(projection),
        "C": torch.randn(projection),
        "D": torch.ones(shape.dim),
        "delta_bias": torch.randn(shape.dim) / 4,
    }


CONTENDERS = {
    "ours": partial(selective_scan, delta_softplus=True, backend="cpu"),
    "reference loop": partial(selective_scan_ref, delta_softplus=True),
    "log-depth torch": partial(materialised_scan, odd_even_recurrence),
    "associative_scan": partial(materialised_scan, associative_recurrence),
    "our torch backend": partial(selective_scan, delta_softplus=True, backend="torch"),
}


def forward_runs(arguments):
    """Return a forward call per contender."""

    def run(function):
        with torch.no_grad():
            return function(**arguments)

    return {name: partial(run, function) for name, function in CONTENDERS.items()}


def training_runs(arguments):
    """Return a forward and backward call per contender."""
    weight = torch.randn_like(arguments["u"])

    def run(function):
        leaves = {name: t.detach().requires_grad_() for name, t in arguments.items()}
        torch.autograd.backward(function(**leaves), weight)

    return {name: partial(run, function) for name, function in CONTENDERS.items()}


def backward_run(arguments):
    """Return a call of our backward pass alone."""
    a = arguments
    tensors = (a["u"], a["delta"], a["A"], a["B"], a["C"], a["D"], None, a["delta_bias"])
    y, _, checkpoints = torch.ops.mamba_mm.selective_scan_fwd(*tensors, True, True, torch.float32)
    gradient = torch.randn_like(y)
    return partial(
        torch.ops.mamba_mm.selective_scan_bwd, gradient, None, *tensors, True, checkpoints
    )


def error_against_float64(arguments) -> float:
    """Largest error of our output over its largest value."""
    y = CONTENDERS["ours"](**arguments)
    exact = selective_scan_ref(**{k: t.double() for k, t in arguments.items()}, delta_softplus=True)
    return ((y - exact).abs().max() / exact.abs().max()).item()


def run_shape(name: str, shape: Shape, limits: MachineLimits, rounds: int, budget: float) -> None:
    """Print all tables of one shape."""
    arguments = make_arguments(shape)
    sizes = f"(B, D, L, N, G) = {tuple(vars(shape).values())}"
    print(f"\n=== {name}: {sizes}, output error {error_against_float64(arguments):.1e} ===")
    forward = time_interleaved(forward_runs(arguments), rounds, budget)
    print_table("forward", forward)
    print_share("forward", forward_floor(shape, limits), forward["ours"])
    training = time_interleaved(training_runs(arguments), rounds, budget)
    print_table("forward and backward", training)
    backward = time_interleaved({"ours": backward_run(arguments)}, rounds, budget)["ours"]
    print(
        f"  backward alone: median {backward.median * 1e3:.3f} ms, best {backward.best * 1e3:.3f}"
    )
    print_share("backward", backward_floor(shape, limits), backward)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    add_options(parser)
    options = parser.parse_args()
    limits = set_up(options)
    for name in options.shapes:
        run_shape(name, SHAPES[name], limits, options.rounds, options.budget)


if __name__ == "__main__":
    main()
