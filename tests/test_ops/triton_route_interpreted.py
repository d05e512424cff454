"""The Triton route scan in Triton's interpreter, for a process that sets TRITON_INTERPRET=1 first.

Functions here are called in that process and return plain data.
"""

from __future__ import annotations

import route_cases
import torch
import triton_interpreter  # noqa: F401 - makes it faster
from route_cases import RouteCase, call, gradients_of, run
from scan_cases import leaves, relative_error, same_special_values
from torch import library

from mamba_mm.ops import route_scan
from mamba_mm.ops.routes import RouteSet
from mamba_mm.ops.triton import route_scan as backend

torch.set_num_threads(1)
TRITON = {"backend": "triton", "fused": True, "delta_projection": "inside"}


def with_constants(constants, function, *arguments, **keywords):
    """Call with other constants of the backend, to see at small sizes what large ones do."""
    before = {name: getattr(backend, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(backend, name, value)
        return function(*arguments, **keywords)
    finally:
        for name, value in before.items():
            setattr(backend, name, value)


def errors(case, constants=(), **keywords):
    """The relative error of the output and of every gradient."""
    actual = with_constants(dict(constants), run, case, **TRITON, **keywords)
    return route_cases.errors(actual, route_cases.expected(case))


def dynamic_errors(case, constants=()):
    def actual():
        arguments = leaves(case.arguments())
        return gradients_of(call(arguments, **case.keywords(), **TRITON), arguments)

    return route_cases.errors(with_constants(dict(constants), actual), case.reference())


def mixed_errors(walks, size, constants):
    """Of walks with and without tables side by side, against gather, scan, merge in float64."""
    case = RouteCase("cross", size, batch=1, dim=5, states=1, rank=2)
    rows = {n: t if t is None else t[: len(walks)] for n, t in case.arguments().items()}
    rows |= {n: case.arguments()[n] for n in ("x",)}
    rows["params"] = case.arguments()["params"][:, : len(walks)]
    routes = RouteSet(walks)
    results = []
    for dtype, how in ((torch.float32, TRITON), (torch.float64, {"backend": "torch"})):
        inputs = leaves(rows, dtype)
        y = with_constants(constants, call, inputs, routes=routes, **how)
        results.append(with_constants(constants, gradients_of, y, inputs))
    return route_cases.errors(*results)


def segments_of(case, constants):
    x, A = case.arguments()["x"].flatten(2), case.arguments()["A"]
    plan = with_constants(constants, backend.make_plan, x, A, None, None, *case.size)
    return plan.segments


def channels_last(t):
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def every_second(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], -1).flatten(-2)[..., ::2]


LAYOUTS = {
    "as it is": {},
    "channels last": {"x": channels_last},
    "every second column": {"x": every_second, "params": every_second, "delta": every_second},
}


def differing_bits(case, layout):
    """Names of results that are not the same for inputs laid out by ``layout``."""
    strided = dict(case.arguments())
    for name, change in LAYOUTS[layout].items():
        if strided[name] is not None:
            strided[name] = change(strided[name])
    actual = run(case, strided, **TRITON)
    expected = run(case, **TRITON)
    if layout == "channels last":
        assert actual["dx"].is_contiguous(memory_format=torch.channels_last)
    return [name for name, t in expected.items() if not torch.equal(actual[name], t)]


def poisoned(case, where, place, value):
    """Whether NaN and infinity are where the definition has them, and finite gradients stay so."""
    arguments = case.arguments()
    arguments[where][place] = value
    wide = leaves(arguments, torch.float64)
    y = call(wide, route_scan, **case.keywords(), backend="reference")
    expected = gradients_of(y, wide)
    actual = run(case, arguments, **TRITON)
    y, y_expected = actual["y"], expected["y"]
    same = torch.equal(y.isnan(), y_expected.isnan())
    same = same and torch.equal(y.isinf(), y_expected.isinf())
    finite = y_expected.isfinite()
    broken = [n for n, t in expected.items() if not actual[n][t.isfinite()].isfinite().all()]
    return same, relative_error(y[finite], y_expected[finite]), broken


def special_values_that_segments_change(case, where, places, constants):
    """Names of results whose NaN or infinities are not those of sequences in one piece."""
    arguments = case.arguments()
    for place in places:
        arguments[where][place] = float("inf")
    whole = run(case, arguments, **TRITON)
    cut = with_constants(constants, run, case, arguments, **TRITON)
    return [name for name, t in whole.items() if not same_special_values(cut[name], t)]


def repeats_of(table, tokens):
    table = torch.tensor(table, dtype=torch.int32)
    return backend._repeats(table, tokens).tolist()


def sequences_with_the_bits_of_a_whole(case, constants):
    """For every sequence, whether its gradients are those without segments, to the bit."""
    whole, cut = run(case, **TRITON), with_constants(constants, run, case, **TRITON)
    pairs = [(whole["dA"], cut["dA"]), (whole["dparams"].mT, cut["dparams"].mT)]
    of_A, of_params = ([a == b for a, b in zip(*pair, strict=True)] for pair in pairs)
    return [
        bool(of_A[k].all() and all(item[k].all() for item in of_params)) for k in range(len(of_A))
    ]


def results_without_elements(case):
    """Shapes of the results, and whether there is anything but zero in one."""
    results = run(case, **TRITON)
    return {name: (tuple(t.shape), t.count_nonzero().item()) for name, t in results.items()}


def _operands(tables):
    """Arguments of the op for a walk along a table."""
    generator = torch.Generator().manual_seed(0)
    x, A, W = torch.randn(1, 3, 6), -torch.rand(1, 3, 1), torch.randn(1, 3, 2, generator=generator)
    params = torch.randn(1, 1, 4, 6, generator=generator)
    return (x, params, None, A, W, None, None, [0], *tables, 2, 3, True, 1.0)


def one_table_is_three_equal_ones():
    torch.manual_seed(0)
    table = torch.tensor([[[4, 4, 0, -1, 2, 5, 9, 1]]], dtype=torch.int32)
    torch.manual_seed(0)
    alone = backend.route_scan_triton(*_operands((table, None, None)), torch.float32)
    torch.manual_seed(0)
    all_three = backend.route_scan_triton(*_operands((table,) * 3), torch.float32)
    return torch.equal(alone, all_three)


def message_of_too_many_steps():
    x = torch.empty(1, 1, 1_600_000_001, device="meta")
    try:
        backend.make_plan(x, x.new_empty(1, 1, 1), None, None, 1, x.shape[2])
    except ValueError as error:
        return str(error)
    return ""


def message_without_a_table():
    try:
        backend.route_scan_triton(*_operands((None,) * 3), torch.float32)
    except ValueError as error:
        return str(error)
    return ""


def message_of_too_few_steps():
    walks = (*_operands((torch.zeros(1, 1, 4, dtype=torch.int32), None, None)), torch.float32)
    try:
        backend.route_scan_triton(*walks[:7], [1], *walks[8:])
    except ValueError as error:
        return str(error)
    return ""


def message_without_checkpoints():
    table = torch.tensor([[[4, 0]]], dtype=torch.int32)
    arguments = _operands((table, None, None))
    arguments[0].requires_grad_()
    y, _ = torch.ops.mamba_mm.triton_route_scan_fwd(*arguments, False, torch.float32)
    return _message(lambda: y.sum().backward())


def message_of_second_derivative(case):
    arguments = leaves(case.arguments())
    y = call(arguments, **case.keywords(), **TRITON)
    (grad,) = torch.autograd.grad(y.sum(), arguments["x"], create_graph=True)
    return _message(lambda: grad.sum().backward())


def _message(function):
    try:
        function()
    except RuntimeError as error:
        return str(error)
    return ""


def check_registration():
    """What ``opcheck`` says of schema and autograd; tracing is tested without the interpreter."""
    table = torch.tensor([[[4, 0]]], dtype=torch.int32)
    arguments = _operands((table, None, None))
    arguments[0].requires_grad_()
    return library.opcheck(
        torch.ops.mamba_mm.triton_route_scan_fwd,
        (*arguments, True, torch.float32),
        test_utils=("test_schema", "test_autograd_registration"),
    )
