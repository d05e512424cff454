"""The Triton scan in Triton's interpreter, for a process that sets TRITON_INTERPRET=1 first.

Functions here are called in that process and return plain data.
"""

# Triton's language has no starred tuples.
# ruff: noqa: RUF005

from __future__ import annotations

import torch
import triton
import triton.language as tl
import triton_interpreter  # noqa: F401 - makes it faster
from scan_cases import (
    SUMS,
    leaves,
    relative_error,
    run_with_gradients,
    same_special_values,
)
from torch import library

from mamba_mm.ops import selective_scan_ref
from mamba_mm.ops.triton import lanes, math
from mamba_mm.ops.triton import selective_scan as backend

# Tensors are tiny here, threads would only get in the way.
torch.set_num_threads(1)


def triton_scan(**arguments):
    arguments.pop("return_last_state")
    return backend.selective_scan_triton(**arguments)


def with_constants(function, *arguments, **constants):
    """Call with other constants of the backend, to see at small sizes what large ones do."""
    before = {name: getattr(backend, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(backend, name, value)
        return function(*arguments)
    finally:
        for name, value in before.items():
            setattr(backend, name, value)


def errors(case, **constants):
    """The relative error of the output, the last state and every gradient."""
    run = run_with_gradients
    actual = with_constants(
        lambda: run(leaves(case.arguments), case.softplus, function=triton_scan), **constants
    )
    wide = leaves(case.arguments, torch.float64)
    expected = run(wide, case.softplus, function=selective_scan_ref)
    assert actual.keys() == expected.keys()
    for name, t in actual.items():
        assert t.shape == expected[name].shape, name
    return {
        name: relative_error(actual[name], expected[name], 1.0 if name in SUMS else 1e-30)
        for name in expected
    }


def segments_of(case, **constants):
    u, A, B, C = (case.arguments[name] for name in ("u", "A", "B", "C"))
    return with_constants(backend.make_plan, u, A, B, C, **constants).segments


def plan_of_shape(batch, dim, length):
    u = torch.empty(batch, dim, length, device="meta")
    projection = torch.empty(batch, 1, 1, length, device="meta")
    return backend.make_plan(u, u.new_empty(dim, 1), projection, projection)


def segments_of_shape(batch, dim, length):
    return plan_of_shape(batch, dim, length).segments


def ends_of_longest_sequences():
    """Where the last segments end, for different numbers of channels."""
    plans = [plan_of_shape(1, dim, backend.MOST_STEPS) for dim in range(1, 25_000, 37)]
    return [plan.segments * plan.segment_length for plan in plans]


def message_of_too_many_steps():
    try:
        plan_of_shape(1, 1, backend.MOST_STEPS + 1)
    except ValueError as error:
        return str(error)
    return ""


def float32_error(case):
    """Of a float32 output of 16-bit inputs."""
    y, _ = backend.selective_scan_triton(
        **case.arguments, delta_softplus=case.softplus, out_dtype=torch.float32
    )
    assert y.dtype == torch.float32
    wide = {k: None if t is None else t.double() for k, t in case.arguments.items()}
    return relative_error(y, selective_scan_ref(**wide, delta_softplus=case.softplus))


def differing_bits(case, layout):
    """Names of results that are not the same for inputs laid out by ``layout``."""
    strided = dict(case.arguments)
    for name in ("u", "delta", "z", "B", "C"):
        strided[name] = LAYOUTS[layout](case.arguments[name])
        assert torch.equal(strided[name], case.arguments[name])
    inputs = {k: t.requires_grad_() for k, t in strided.items()}
    actual = run_with_gradients(inputs, True, function=triton_scan)
    expected = run_with_gradients(leaves(case.arguments), True, function=triton_scan)
    return [name for name, t in expected.items() if not torch.equal(actual[name], t)]


LAYOUTS = {
    "as it is": lambda t: t.clone(),
    "channels last": lambda t: t.transpose(1, -1).contiguous().transpose(1, -1),
    "every second step": lambda t: torch.stack([t, t], -1).flatten(-2)[..., ::2],
    "time outermost": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
}


def shapes_of_results(case):
    """Shapes, and whether there is anything but zero in a result."""
    results = run_with_gradients(leaves(case.arguments), True, function=triton_scan)
    return {n: (tuple(t.shape), t.count_nonzero().item()) for n, t in results.items()}


def poisoned(case, name, poison):
    """Whether NaN and infinity are where the definition has them, and the error elsewhere."""
    t = case.arguments[name]
    t[(0,) * t.dim()] = poison
    actual, _ = backend.selective_scan_triton(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    finite = expected.isfinite()
    same = torch.equal(actual.isnan(), expected.isnan())
    same = same and torch.equal(actual.isinf(), expected.isinf())
    return same, relative_error(actual[finite], expected[finite].double())


def special_values_that_segments_change(case, **constants):
    """Names of results whose NaN or infinities are not those of the sequence in one piece."""
    results = [
        with_constants(
            lambda: run_with_gradients(leaves(case.arguments), case.softplus, function=triton_scan),
            **which,
        )
        for which in ({}, constants)
    ]
    whole, cut = results
    return [name for name, t in whole.items() if not same_special_values(cut[name], t)]


def message_without_checkpoints(case):
    op = torch.ops.mamba_mm.triton_selective_scan_fwd
    y, *_ = op(*leaves(case.arguments).values(), True, False, torch.float32)
    return _message(lambda: y.sum().backward())


def message_of_second_derivative(case):
    arguments = leaves(case.arguments)
    y, _ = backend.selective_scan_triton(**arguments, delta_softplus=True)
    (grad,) = torch.autograd.grad(y.sum(), arguments["u"], create_graph=True)
    return _message(lambda: grad.sum().backward())


def _message(function):
    try:
        function()
    except RuntimeError as error:
        return str(error)
    return ""


def check_registration(case):
    """What ``opcheck`` says of schema and autograd; tracing is tested without the interpreter."""
    arguments = (*leaves(case.arguments).values(), True, True, torch.float32)
    tests = ("test_schema", "test_autograd_registration")
    return library.opcheck(
        torch.ops.mamba_mm.triton_selective_scan_fwd, arguments, test_utils=tests
    )


@triton.jit
def _functions(x, plain, with_slope, slope, gated, gate_slope, COUNT: tl.constexpr):
    at = tl.arange(0, COUNT)
    value = tl.load(x + at)
    tl.store(plain + at, math.softplus(value))
    both = math.softplus_and_slope(value)
    tl.store(with_slope + at, both[0])
    tl.store(slope + at, both[1])
    tl.store(gated + at, math.silu(value))
    tl.store(gate_slope + at, math.silu_and_slope(value)[1])


def function_errors(dtype):
    """Largest error of each function, relative to its own value at every point."""
    x = torch.cat([torch.linspace(-40, 40, 509), torch.tensor([0.0, -1e-4, 1e-4])])
    exact = x.double().requires_grad_()
    softplus = exact.clamp_min(0) + torch.log1p(torch.exp(-exact.abs()))
    sigmoid = torch.sigmoid(exact)
    silu = exact * sigmoid
    (silu_slope,) = torch.autograd.grad(silu.sum(), exact)
    x = x.to(dtype)
    results = [torch.empty_like(x) for _ in range(5)]
    _functions[(1,)](x, *results, COUNT=512)
    expected = [softplus, softplus, sigmoid, silu, silu_slope]
    errors = []
    for actual, value in zip(results, expected, strict=True):
        difference = (actual.double() - value).abs().detach()
        errors.append((difference / (value.abs() + 1e-30)).nan_to_num().max().item())
    # SiLU's slope has a zero, where no relative error makes sense.
    errors[4] = (results[4].double() - silu_slope).abs().max().item()
    return errors


@triton.jit
def _sums(x, out, COUNT: tl.constexpr, DONE: tl.constexpr, STEPS: tl.constexpr):
    lane = tl.arange(0, 1 << STEPS)
    vectors = ()
    for v in tl.static_range(COUNT):
        vectors = vectors + (tl.load(x + v * (1 << STEPS) + lane),)
    if DONE == 1:
        pairs = ()
        for v in tl.static_range(COUNT // 2):
            pairs = pairs + (lanes.share(vectors[2 * v], vectors[2 * v + 1], lane, 1),)
        vectors = pairs
    tl.store(out + lane, lanes.sum_lanes(vectors, lane, DONE, STEPS))


def lane_sums_are_right(count, done, steps):
    x = torch.randint(-1000, 1000, (count, 1 << steps)).float()
    out = torch.empty(1 << steps)
    _sums[(1,)](x, out, COUNT=count, DONE=done, STEPS=steps)
    return torch.equal(out[:count], x.sum(1))
