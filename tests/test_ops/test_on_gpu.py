"""Both scans on a GPU, on its kernels, against the definition in float64 on the CPU.

Without a GPU all of it is skipped. ``tools/benchmarks/gpu.py`` runs it too. With
``MAMBA_MM_TEST_DEVICE=cpu`` it runs on the kernels of the CPU, to try the file itself.
"""

import functools
import itertools
import os
from dataclasses import replace

import pytest
import torch
from route_cases import (
    DISTINCT,
    FUSED,
    SETS,
    DynamicCase,
    RouteCase,
    assert_close,
    assert_route_exact,
    assert_same_bits,
    call,
    gradients_of,
)
from route_cases import run as run_route
from scan_cases import (
    SUMS,
    Case,
    assert_exact,
    leaves,
    relative_error,
    run_with_gradients,
)
from test_route_scan import LAYOUTS as MAP_LAYOUTS
from test_route_scan import POISONED, expected_of_poison, poisoned
from test_route_scan import random_case as random_route_case
from test_selective_scan import LAYOUTS, OPTIONS, random_case
from torch import library

from mamba_mm.ops import backend_report, route_scan, selective_scan, selective_scan_ref
from mamba_mm.ops.backends import choose_backend
from mamba_mm.ops.routes import dynamic_index

DEVICE = os.environ.get("MAMBA_MM_TEST_DEVICE", "cuda")
BACKENDS = ("cuda", "triton") if DEVICE == "cuda" else (DEVICE,)
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("PyTorch finds no GPU", allow_module_level=True)

# Of the largest value. The exponential of a GPU errs by two units in the last place, which a
# slow decay adds up over time.
FLOAT32 = 1e-5
FLOAT64 = 1e-12
HALVES = [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)]
GIB = 2**30


@pytest.fixture(params=BACKENDS)
def backend(request):
    return usable(request.param)


@pytest.fixture(params=itertools.product(BACKENDS, ("fused", "unfused")), ids="-".join)
def way(request):
    """A backend of the route scan, and whether it is fused."""
    return usable(request.param[0]), request.param[1] == "fused"


@pytest.fixture(autouse=True)
def errors_of_kernels_belong_to_their_test():
    """Wait for the GPU: what a kernel does wrong may show in any later call.

    After an access out of bounds no call of the process succeeds any more, so it ends; in
    parallel runs another one takes over.
    """
    yield
    if DEVICE != "cuda":
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        if "PYTEST_XDIST_WORKER" in os.environ:
            os._exit(1)
        pytest.exit(f"the GPU is lost to this process: {error}", returncode=1)


def usable(name):
    status = next(status for status in backend_report() if status.name == name)
    if not status.usable:
        pytest.skip(f"backend {name!r} is not usable: {status.detail}")
    return name


@functools.cache
def memory():
    return torch.cuda.get_device_properties().total_memory if DEVICE == "cuda" else 0


def needs_memory(gibibytes):
    return pytest.mark.skipif(
        memory() < gibibytes * GIB, reason=f"needs a GPU with {gibibytes} GiB of memory"
    )


# In parallel runs one process has all of these, so that one is run at a time.
large = pytest.mark.xdist_group("large")


def there(t):
    return t.to(DEVICE) if isinstance(t, torch.Tensor) else t


def back(result):
    return result.cpu() if isinstance(result, torch.Tensor) else tuple(t.cpu() for t in result)


def on_gpu(function, layouts=None, **options):
    """The function with its tensors moved there, laid out there, and its results moved back."""

    def moved(*arguments, **keywords):
        keywords = {
            name: t if t is None else (layouts or {}).get(name, lambda t: t)(there(t))
            for name, t in keywords.items()
        }
        return back(function(*map(there, arguments), **keywords, **options))

    return moved


def scan_by(backend, **options):
    return on_gpu(selective_scan, backend=backend, **options)


def routes_by(way, **options):
    backend, fused = way
    return on_gpu(route_scan, backend=backend, fused=fused, **options)


def assert_scan(backend, case, tolerance=FLOAT32):
    assert_exact(case, tolerance, function=scan_by(backend))


def assert_routes(way, case, tolerance=FLOAT32):
    assert_route_exact(case, tolerance, function=routes_by(way))


# --- the selective scan


@pytest.mark.parametrize("states", [1, 16])
@pytest.mark.parametrize("length", [1, 2, 7, 22, 31, 32, 33, 49, 64, 192, 196, 197, 513, 1000])
def test_every_length(length, states, backend):
    assert_scan(backend, Case(length=length, dim=20, groups=2, states=states))


@pytest.mark.parametrize("states", [0, 1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 256])
def test_every_number_of_states(states, backend):
    assert_scan(backend, Case(states=states, dim=18, length=70))


@pytest.mark.parametrize(
    ("groups", "dim"), [(1, 1), (1, 37), (2, 38), (4, 76), (4, 260), (5, 5), (2, 1200)]
)
def test_groups_and_odd_channels(groups, dim, backend):
    assert_scan(backend, Case(groups=groups, dim=dim, length=40))


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize(
    "options", [o for n in range(4) for o in itertools.combinations(OPTIONS, n)]
)
def test_every_optional_argument(options, softplus, backend):
    assert_scan(backend, Case(options=options, softplus=softplus))


@pytest.mark.parametrize("fixed", [("B",), ("C",), ("B", "C")])
def test_projections_constant_in_time(fixed, backend):
    assert_scan(backend, Case(fixed=fixed, groups=2, dim=36, length=70))


@pytest.mark.parametrize("states", [1, 16, 20])
def test_float64_is_computed_in_float64(states, backend):
    case = Case(dtype=torch.float64, dim=22, groups=2, length=197, states=states)
    assert_scan(backend, case, FLOAT64)


@pytest.mark.parametrize("states", [1, 16])
@pytest.mark.parametrize(("dtype", "tolerance"), HALVES)
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, states, backend):
    case = Case(dtype=dtype, dim=22, groups=2, length=197, states=states)
    assert_scan(backend, case, tolerance)
    y = scan_by(backend)(**case.arguments, delta_softplus=True, out_dtype=torch.float32)
    wide = {k: None if t is None else t.double() for k, t in case.arguments.items()}
    assert y.dtype == torch.float32
    assert relative_error(y, selective_scan_ref(**wide, delta_softplus=True)) < FLOAT32


def test_mixed_dtypes(backend):
    case = Case(dtype=torch.bfloat16, dim=22)
    case.arguments["delta"] = case.arguments["delta"].float()
    case.arguments["B"] = case.arguments["B"].half()
    assert_scan(backend, case, 2**-8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_inputs_give_the_same_bits(layout, dtype, backend):
    case = Case(dim=37, length=75, dtype=dtype, states=2)
    layouts = dict.fromkeys(("u", "delta", "z", "B", "C"), LAYOUTS[layout])
    strided, plain = (
        run_with_gradients(leaves(case.arguments), True, function=scan_by(backend, layouts=each))
        for each in (layouts, {})
    )
    assert_same_bits(strided, plain)


@pytest.mark.parametrize("empty", ["batch", "length", "dim"])
def test_empty_inputs(empty, backend):
    case = Case(**{empty: 0})
    results = run_with_gradients(leaves(case.arguments), True, function=scan_by(backend))
    assert results["last_state"].shape == (case.batch, case.dim, case.states)
    for name, t in case.arguments.items():
        assert results[f"d{name}"].shape == t.shape
        assert results[f"d{name}"].count_nonzero() == 0


@pytest.mark.parametrize("shift", [-15.0, -8.0, 5.0, 25.0, 60.0])
def test_tiny_and_large_steps(shift, backend):
    for options in (OPTIONS, ()):
        assert_scan(backend, Case(delta_shift=shift, dim=18, states=4, options=options))


def test_growing_states_overflow_to_infinity_like_the_definition(backend):
    case = Case(options=(), delta_shift=1.0, length=30, states=1)
    case.arguments["A"] = case.arguments["A"].abs() * 20
    actual = scan_by(backend)(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    assert torch.isinf(expected).any()
    assert torch.equal(torch.isfinite(actual), torch.isfinite(expected))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_and_infinity_reach_the_output(name, poison, backend):
    case = Case(length=20, dim=9)
    t = case.arguments[name]
    t[(0,) * t.dim()] = poison
    actual = scan_by(backend)(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    assert torch.equal(actual.isnan(), expected.isnan())
    finite = expected.isfinite()
    assert torch.equal(actual.isinf(), expected.isinf())
    assert relative_error(actual[finite], expected[finite].double()) < FLOAT32


@pytest.mark.parametrize("block", range(8))
def test_random_shapes(block, backend):
    for seed in range(block * 10, block * 10 + 10):
        assert_scan(backend, random_case(seed), 2 * FLOAT32)


@pytest.mark.parametrize(
    "case",
    [
        Case(batch=3, dim=150, groups=2, length=130),
        Case(batch=1, dim=24, length=6000, states=1),
        Case(batch=1, dim=24, length=3000, states=16, dtype=torch.bfloat16),
        Case(batch=8, dim=768, length=784, states=1, groups=4),
        Case(batch=2, dim=40, length=100, states=40, fixed=("B", "C")),
    ],
    ids=str,
)
def test_repeats_give_the_same_bits(case, backend):
    results = [
        run_with_gradients(leaves(case.arguments), True, function=scan_by(backend))
        for _ in range(4)
    ]
    for other in results[1:]:
        assert_same_bits(other, results[0], case)


@large
@pytest.mark.parametrize("states", [1, 16])
@pytest.mark.parametrize("length", [64_000, 1_000_003])
def test_detection_sized_maps_and_a_million_steps(length, states, backend):
    # Plain PyTorch in float64 equals the definition, which would walk step by step.
    case = Case(batch=1, dim=4, length=length, states=states, groups=2)
    actual = run_with_gradients(leaves(case.arguments), True, function=scan_by(backend))
    wide = leaves(case.arguments, torch.float64)
    expected = run_with_gradients(wide, True, function=scan_by("torch"))
    for name, exact in expected.items():
        floor = 1.0 if name in SUMS else 1e-30
        assert relative_error(actual[name], exact, floor) <= 4 * FLOAT32, name


def on_place(*shape, value=None):
    filled = torch.randn if value is None else functools.partial(torch.full, fill_value=value)
    return filled(shape, device=DEVICE, dtype=torch.float16)


@large
@needs_memory(60)
@pytest.mark.parametrize(
    ("batch", "dim", "length"), [(70_000, 64, 512), (1, 2, 2**30 + 77)], ids=["items", "steps"]
)
def test_more_than_two_to_the_31_elements(batch, dim, length, backend):
    u, B, C = (on_place(batch, *sizes) for sizes in ((dim, length), (1, length), (1, length)))
    delta = on_place(batch, 1, 1, value=1.0).expand(batch, dim, length)
    A = -torch.ones(dim, 1, device=DEVICE)
    u.requires_grad_()
    y = selective_scan(u, delta, A, B, C, delta_softplus=True, backend=backend)
    assert y.numel() > 2**31
    # Decays forget within a hundred steps, so the end of the last item can be done alone.
    last = slice(-1, None), slice(None), slice(-200, None)
    tail = u.detach()[last].clone().requires_grad_()
    small = selective_scan(
        *(tail, delta[last], A, B[last], C[last]), delta_softplus=True, backend=backend
    )
    assert relative_error(y[last][..., 100:], small[..., 100:].double()) < 2**-9
    (gradient,) = torch.autograd.grad(y, u, y.new_ones(()).expand_as(y))
    (of_tail,) = torch.autograd.grad(small, tail, torch.ones_like(small))
    assert relative_error(gradient[last][..., 100:], of_tail[..., 100:].double()) < 2**-9


# --- the route scan


@pytest.mark.parametrize("name", DISTINCT)
def test_every_set_of_routes(name, way):
    for size in ((1, 1), (1, 5), (5, 1), (5, 7), (13, 9)):
        assert_routes(way, RouteCase(name, size))


@pytest.mark.parametrize("name", [name for name in SETS if name not in FUSED])
def test_sets_without_a_fused_form(name, backend):
    # Where maps agree, the gated merge divides by their small differences.
    assert_routes((backend, False), RouteCase(name, (5, 7)), 4 * FLOAT32)


@pytest.mark.parametrize("name", ["cross", "hydra", "vim", "atrous2", "serpentine", "fer", "mean"])
@pytest.mark.parametrize("states", [1, 3, 16])
def test_sequences_of_several_chunks(states, name, way):
    assert_routes(way, RouteCase(name, (11, 19), batch=1, dim=36, states=states))


@pytest.mark.parametrize("name", ["cross", "serpentine"])
@pytest.mark.parametrize("dim", [1, 7, 33, 130, 300])
def test_every_number_of_channels(dim, name, way):
    for states in (1, 2):
        assert_routes(way, RouteCase(name, (5, 8), dim=dim, states=states, batch=1))


@pytest.mark.parametrize("name", ["cross", "atrous2"])
@pytest.mark.parametrize("states", [0, 1, 5, 16, 20])
def test_every_number_of_states_of_routes(states, name, way):
    assert_routes(way, RouteCase(name, (5, 8), states=states))


@pytest.mark.parametrize("rank", [None, 1, 2, 3, 5, 6, 12, 24, 48])
def test_every_rank(rank, way):
    for states in (0, 1, 3):
        assert_routes(way, RouteCase(size=(5, 8), states=states, rank=rank))


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_step_sizes_made_inside_and_outside(where, backend):
    function = on_gpu(route_scan, backend=backend, fused=True, delta_projection=where)
    for rank in (6, 50):
        assert_route_exact(RouteCase("cross", (7, 6), rank=rank), FLOAT32, function=function)


@pytest.mark.parametrize("options", [(), ("D",), ("delta_bias",)])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("rank", [None, 3])
def test_every_optional_argument_of_routes(rank, softplus, options, way):
    for name in ("cross", "hydra", "input only"):
        case = RouteCase(name, (6, 8), rank=rank, softplus=softplus, options=options)
        assert_routes(way, case)


@pytest.mark.parametrize("name", ["cross", "vim", "serpentine", "mean"])
@pytest.mark.parametrize("rank", [None, 3])
def test_every_dtype_of_routes(rank, name, way):
    case = RouteCase(name, (9, 8), rank=rank, batch=1)
    assert_routes(way, replace(case, dtype=torch.float64), FLOAT64)
    for dtype, tolerance in HALVES:
        # Without fusion values are rounded once more on their way along the routes.
        assert_routes(way, replace(case, dtype=dtype), 2 * tolerance)


@pytest.mark.parametrize("layout", MAP_LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_maps_give_the_same_bits(dtype, layout, way):
    for name, states in (("cross", 1), ("atrous2", 2)):
        case = RouteCase(name, (9, 8), dim=37, states=states, dtype=dtype)
        strided, plain = (
            run_route(case, function=routes_of_layout(way, each))
            for each in (MAP_LAYOUTS[layout], {})
        )
        assert_same_bits(strided, plain, case)


def routes_of_layout(way, layouts):
    """The route scan with all tensors given by name, so that each can be laid out."""
    moved = routes_by(way, layouts=layouts)

    def function(x, params, A, D, delta_bias, **keywords):
        return moved(x=x, params=params, A=A, D=D, delta_bias=delta_bias, **keywords)

    return function


@pytest.mark.parametrize("orders", [((4, 0, 7, 2, 9, 1),), ((3, -1, 4, 0), (-1, 2, 5, 1))])
@pytest.mark.parametrize("extra", [True, False])
def test_orders_of_the_call(extra, orders, way):
    case = DynamicCase(orders, 10, extra and -1 not in orders[0])
    order = there(torch.tensor(orders))
    index = dynamic_index(case.routes, order[0] if len(orders) == 1 else order, case.tokens)
    arguments = leaves(case.arguments())
    y = call(arguments, routes_by(way), routes=case.routes, index=index)
    assert_close(gradients_of(y, arguments), case.reference(), FLOAT32, case)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", POISONED)
@pytest.mark.parametrize("name", ["cross", "unidirectional"])
def test_nan_and_infinity_go_where_the_definition_sends_them(name, where, value, way):
    case = RouteCase(name, (5, 6), dim=20, states=2)
    expected = expected_of_poison(case, where, value)["y"]
    actual = run_route(case, poisoned(case, where, value), function=routes_by(way))["y"]
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(actual.isinf(), expected.isinf())
    finite = expected.isfinite()
    assert relative_error(actual[finite], expected[finite]) < FLOAT32


@pytest.mark.parametrize("block", range(4))
def test_random_cases_of_routes(block, way):
    for seed in range(block * 8, block * 8 + 8):
        assert_routes(way, random_route_case(seed), 2 * FLOAT32)


@pytest.mark.parametrize(
    "case",
    [
        RouteCase("cross", (9, 15), batch=2, dim=150, states=1),
        RouteCase("cross", (56, 56), batch=1, dim=96, states=1),
        RouteCase("cross", (28, 28), batch=2, dim=70, states=16, dtype=torch.bfloat16),
        RouteCase("fer", (6, 7), batch=3, dim=33, rank=None),
        RouteCase("two groups, twice each", (16, 16), batch=2, dim=40),
    ],
    ids=str,
)
def test_repeats_of_routes_give_the_same_bits(case, way):
    results = [run_route(case, function=routes_by(way)) for _ in range(4)]
    for other in results[1:]:
        assert_same_bits(other, results[0], case)


@large
@pytest.mark.parametrize(
    ("size", "states"),
    [
        ((200, 320), 1),
        ((200, 320), 16),
        ((1000, 1001), 1),
        # Plain PyTorch keeps a dozen tensors of all states.
        pytest.param((1000, 1001), 16, marks=needs_memory(60)),
    ],
    ids=str,
)
def test_large_maps_equal_plain_pytorch_in_float64(size, states, way):
    case = RouteCase("cross", size, batch=1, dim=3, states=states, rank=2)
    wide = {n: t if t is None else t.double() for n, t in case.arguments().items()}
    expected = run_route(case, wide, function=routes_by(("torch", False)))
    assert_close(run_route(case, function=routes_by(way)), expected, 4 * FLOAT32, case)


# --- what PyTorch does with both


def prepared(which, backend, dtype=torch.float32):
    """A call without arguments, and the leaves that it wants gradients of."""
    case = Case(dim=40, length=300) if which == "selective_scan" else RouteCase("cross", (12, 13))
    given = case.arguments if which == "selective_scan" else case.arguments()
    tensors = leaves({name: t if t is None else there(t) for name, t in given.items()})
    wanted = [t for t in tensors.values() if t is not None]

    def run():
        if which == "selective_scan":
            return selective_scan(**tensors, delta_softplus=True, backend=backend)
        return call(tensors, **case.keywords(), backend=backend)

    return run, wanted


def output_and_gradients(run, wanted):
    y = run()
    return y.detach(), *torch.autograd.grad(y, wanted, torch.ones_like(y))


BOTH = ("selective_scan", "route_scan")


@pytest.mark.parametrize("which", BOTH)
def test_autocast_keeps_parameters_and_lowers_the_rest(which, backend):
    run, wanted = prepared(which, backend)
    wide = output_and_gradients(run, wanted)
    with torch.autocast(DEVICE, torch.bfloat16):
        narrow = output_and_gradients(run, wanted)
    assert narrow[0].dtype == torch.bfloat16
    assert [t.dtype for t in narrow[1:]] == [t.dtype for t in wanted]
    for a, b in zip(narrow, wide, strict=True):
        assert relative_error(a, b.double()) < 2**-5


@pytest.mark.parametrize("which", BOTH)
def test_a_compiler_sees_through_both(which, backend):
    run, wanted = prepared(which, backend)
    torch.compiler.reset()
    compiled = torch.compile(run, fullgraph=True)
    results = output_and_gradients(run, wanted), output_and_gradients(compiled, wanted)
    for a, b in zip(*results, strict=True):
        assert relative_error(b, a.double()) < FLOAT32


@pytest.mark.skipif(DEVICE != "cuda", reason="graphs are CUDA's")
@pytest.mark.parametrize("which", BOTH)
def test_a_captured_graph_replays_both_with_the_same_bits(which, backend):
    run, wanted = prepared(which, backend)
    expected = output_and_gradients(run, wanted)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        output_and_gradients(run, wanted)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = output_and_gradients(run, wanted)
    for t in captured:
        t.zero_()
    graph.replay()
    for a, b in zip(captured, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(DEVICE != "cuda", reason="streams are CUDA's")
@pytest.mark.parametrize("which", BOTH)
def test_kernels_run_on_the_current_stream(which, backend):
    run, wanted = prepared(which, backend)
    expected = output_and_gradients(run, wanted)
    values = [t.detach().clone() for t in wanted]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.no_grad():
        for t in wanted:
            t.fill_(torch.nan)
        torch.cuda._sleep(50_000_000)  # a scan on another stream would read the NaN
        for t, value in zip(wanted, values, strict=True):
            t.copy_(value)
        with torch.enable_grad():
            actual = output_and_gradients(run, wanted)
    torch.cuda.synchronize()
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


def test_the_registrations_are_complete(backend):
    if backend == "triton":
        pytest.skip("the ops of Triton are traced, not registered kernel by kernel")
    given = {n: t if t is None else there(t) for n, t in Case().arguments.items()}
    arguments = (*leaves(given).values(), True, True, torch.float32)
    library.opcheck(torch.ops.mamba_mm.selective_scan_fwd, arguments)


def test_the_choice_is_the_fastest_that_is_usable():
    usable_here = [status.name for status in backend_report() if status.usable]
    assert choose_backend(None, DEVICE) == next(name for name in BACKENDS if name in usable_here)
