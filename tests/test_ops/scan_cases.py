"""Arguments for the scan, and how far a result is from the float64 definition."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch

from mamba_mm.ops import selective_scan, selective_scan_ref

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")


@dataclass
class Case:
    batch: int = 2
    dim: int = 12
    length: int = 49
    states: int = 3
    groups: int = 1
    options: tuple[str, ...] = ("D", "z", "delta_bias")
    softplus: bool = True
    dtype: torch.dtype = torch.float32
    fixed: tuple[str, ...] = ()  # of B and C, those that are constant in time
    seed: int = 0
    delta_shift: float = -2.0
    arguments: dict = field(init=False, repr=False)

    def __post_init__(self):
        generator = torch.Generator().manual_seed(self.seed)

        def randn(*shape):
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        sequence = (self.batch, self.dim, self.length)
        projection = (self.batch, self.groups, self.states, self.length)
        delta = randn(*sequence) + self.delta_shift
        if not self.softplus:
            delta = torch.nn.functional.softplus(delta)
        values = {
            "u": randn(*sequence),
            "delta": delta,
            "A": -0.1 - 4 * randn(self.dim, self.states).abs(),
            "B": randn(self.dim, self.states) if "B" in self.fixed else randn(*projection),
            "C": randn(self.dim, self.states) if "C" in self.fixed else randn(*projection),
            "D": randn(self.dim),
            "z": randn(*sequence),
            "delta_bias": randn(self.dim) / 2 if self.softplus else randn(self.dim).abs() / 2,
        }
        # Parameters stay in float32 as in the models; activations take the case's dtype.
        wide = torch.promote_types(self.dtype, torch.float32)
        parameters = ("A", "D", "delta_bias", *self.fixed)
        self.arguments = {
            name: values[name].to(wide if name in parameters else self.dtype)
            if name in self.options or name not in ("D", "z", "delta_bias")
            else None
            for name in NAMES
        }

    @cached_property
    def expected(self):
        """What the definition gives in float64, with gradients."""
        arguments = leaves(self.arguments, torch.float64)
        return run_with_gradients(arguments, self.softplus, function=selective_scan_ref)


def leaves(arguments, dtype=None):
    """Copies that collect gradients, in the layout of the originals."""
    return {
        name: None if t is None else t.detach().to(dtype or t.dtype).requires_grad_()
        for name, t in arguments.items()
    }


# Sums over the whole sequence, which cancel: an error is measured against one at least.
SUMS = ("dA", "dD", "ddelta_bias")


def relative_error(actual, expected, floor=1e-30):
    """Largest error over the largest expected value; NaN where only one has a NaN."""
    if expected.numel() == 0:
        return 0.0
    scale = expected.abs().max().clamp_min(floor)
    return ((actual.double() - expected).abs().max() / scale).item()


def run_with_gradients(arguments, softplus, seed=1, function=selective_scan, **keywords):
    """Output, last state and the gradients of a random weighting of both."""
    generator = torch.Generator().manual_seed(seed)
    y, state = function(**arguments, delta_softplus=softplus, return_last_state=True, **keywords)
    weights = [
        # Rounded to what bfloat16 holds, so that no dtype changes the weights.
        torch.randn(t.shape, generator=generator, dtype=torch.float64).bfloat16().to(t.dtype)
        for t in (y, state)
    ]
    inputs = [t for t in arguments.values() if t is not None]
    loss = (y * weights[0]).sum() + (state * weights[1]).sum()
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    results = {"y": y, "last_state": state}
    names = [name for name, t in arguments.items() if t is not None]
    results |= {f"d{name}": g for name, g in zip(names, gradients, strict=True) if g is not None}
    return {name: t.detach() for name, t in results.items()}


def errors_against_definition(case, **keywords):
    """The relative error of the output, the last state and every gradient."""
    actual = run_with_gradients(leaves(case.arguments), case.softplus, **keywords)
    expected = case.expected
    assert actual.keys() == expected.keys()
    return {
        name: relative_error(actual[name], expected[name], 1.0 if name in SUMS else 1e-30)
        for name in expected
    }


def assert_exact(case, tolerance, **keywords):
    errors = errors_against_definition(case, **keywords)
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not wrong, f"{wrong} over {tolerance} for {case}"


def same_special_values(actual, expected):
    """Whether NaN and the infinities of either sign are at the same places."""
    kinds = (torch.isnan, torch.isposinf, torch.isneginf)
    return all(torch.equal(kind(actual), kind(expected)) for kind in kinds)


def assert_same_special_values(actual, expected):
    """Of every result by name."""
    assert actual.keys() == expected.keys()
    wrong = [name for name, t in expected.items() if not same_special_values(actual[name], t)]
    assert not wrong
