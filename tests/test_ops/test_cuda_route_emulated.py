"""The CUDA kernels of the route scan, executed on the CPU by the emulation of csrc/cuda.

The whole of ``mamba_mm.ops.route_scan`` runs, with the emulated op in the place of the compiled
one; see csrc/cuda/emulation.h for the misuse that the emulation detects.
"""

from dataclasses import replace

import pytest
import torch
from cuda_builds import emulation
from route_cases import (
    FLOAT32,
    DynamicCase,
    RouteCase,
    assert_close,
    assert_route_exact,
    assert_same_bits,
    call,
    errors,
    expected,
    gradients_of,
    run,
    slow_route_scan,
)
from scan_cases import assert_same_special_values, leaves, relative_error

from mamba_mm.ops.compiled_scan import CHECKPOINT_LANES, CHECKPOINT_STEPS
from mamba_mm.ops.extension import EXTENSION
from mamba_mm.ops.routes import RouteSet

LONG = (9, 8)  # three chunks of 32 steps, the last one not full


class EmulatedRouteScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *arguments):
        out, checkpoints = torch.ops.mamba_mm_emulated.route_scan_fwd(*arguments)
        ctx.options = arguments[7:8], arguments[11:15]
        ctx.save_for_backward(*arguments[:7], *arguments[8:11], checkpoints)
        return out, checkpoints

    @staticmethod
    def backward(ctx, grad_out, _):
        *tensors, checkpoints = ctx.saved_tensors
        walks, options = ctx.options
        grads = torch.ops.mamba_mm_emulated.route_scan_bwd(
            grad_out, *tensors[:7], *walks, *tensors[7:], *options, checkpoints
        )
        # In the order of the op's inputs: x, params, delta, A, W, D, bias.
        for t, grad in zip(tensors[:7], grads, strict=True):
            assert grad.shape == ((0,) if t is None else t.shape)
        pairs = zip(tensors[:7], grads, strict=True)
        return (*(None if t is None else grad for t, grad in pairs), *(None,) * 10)


@pytest.fixture(scope="module", autouse=True)
def library():
    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op, which is replaced, is not built: {EXTENSION.detail}")
    emulation()


@pytest.fixture(autouse=True)
def emulated(monkeypatch, library):
    """Put the emulated op in the place of the compiled one, which is returned."""
    compiled = torch.ops.mamba_mm.route_scan_fwd
    monkeypatch.setattr(torch.ops.mamba_mm, "route_scan_fwd", EmulatedRouteScan.apply)
    return compiled


@pytest.fixture(autouse=True)
def new_memory_is_nan():
    """What a kernel should have written, or the host cleared, then shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["whole", "segments"])
def segmentation(request, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", "1" if request.param == "whole" else "3")


@pytest.mark.parametrize(
    "name",
    [
        "cross",
        "serpentine",
        "vim",
        "atrous2",
        "fer",
        "two groups, twice each",
        "mean",
        "msvmamba_v2, half map",
        "joined, of unequal lengths, with pads",
        "shifted, with pads",
        "some tokens",
        "input only",
        "input only, shifted",
        "two heads",
    ],
)
def test_every_kind_of_routes(name, segmentation):
    assert_route_exact(RouteCase(name, LONG), fused=True)


@pytest.mark.parametrize(
    ("dtype", "states"),
    [
        *((torch.float32, n) for n in (0, 1, 16, 17, 64, 128, 256)),
        *((torch.float64, n) for n in (0, 1, 16, 17, 32, 64)),
    ],
)
def test_blocks_fit_into_the_shared_memory_of_every_gpu(dtype, states, monkeypatch):
    """The emulation refuses more; with segments, all kernels run.

    In float64 the backward pass takes more from about 100 states on, which only some GPUs have.
    """
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", "2")
    for rank in (None, 32):
        case = RouteCase("unidirectional", (2, 17), 1, 130, states, rank, dtype=dtype)
        run(case, fused=True, delta_projection="inside")


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 2), (13, 7), (4, 16)])
def test_every_size(size, segmentation):
    for name in ("cross", "atrous2"):
        assert_route_exact(RouteCase(name, size, dim=6, batch=1))


@pytest.mark.parametrize("states", [0, 1, 3, 4, 16, 17, 40])
def test_every_number_of_states(states, segmentation):
    assert_route_exact(RouteCase("cross", LONG, dim=6, states=states, batch=1))
    assert_route_exact(RouteCase("vim", (5, 7), dim=9, states=states, batch=1))


def test_the_largest_number_of_states(segmentation):
    assert_route_exact(RouteCase("bidirectional", (5, 9), dim=3, states=256, batch=1))


@pytest.mark.parametrize("rank", [None, 1, 2, 4, 5, 8, 12, 24, 40, 70])
@pytest.mark.parametrize("states", [1, 2])
def test_every_rank(rank, states):
    # Ranks are staged 32 at a time, and records of up to 16 entries summed together.
    assert_route_exact(
        RouteCase("bidirectional", (5, 8), dim=10, states=states, rank=rank, batch=1)
    )


@pytest.mark.parametrize("dim", [1, 7, 33, 150])
@pytest.mark.parametrize("states", [1, 3, 5, 9])
def test_every_number_of_channels(dim, states):
    assert_route_exact(RouteCase("cross", (5, 7), dim=dim, states=states, batch=1))


@pytest.mark.parametrize("options", [(), ("D",), ("delta_bias",)])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("rank", [None, 3])
def test_every_optional_argument(rank, softplus, options):
    for name, states in (("cross", 1), ("atrous2", 2), ("input only", 16)):
        case = RouteCase(
            name, (6, 8), dim=5, rank=rank, softplus=softplus, options=options, states=states
        )
        assert_route_exact(case)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("name", ["cross", "joined, of unequal lengths, with pads"])
@pytest.mark.parametrize("states", [1, 3])
def test_float64_is_computed_in_float64(states, name, rank, segmentation):
    case = RouteCase(name, LONG, dim=5, dtype=torch.float64, rank=rank, states=states)
    assert_route_exact(case, 1e-12)


@pytest.mark.parametrize("name", ["cross", "atrous2", "mean"])
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, rank, name, segmentation):
    case = RouteCase(name, LONG, dim=6, dtype=dtype, rank=rank, batch=1, states=1)
    results = run(case, fused=True)
    assert results["y"].dtype == dtype
    assert_close(results, expected(case), tolerance, case)
    # With a float32 output only gradients of 16-bit inputs are rounded.
    found = errors(run(case, fused=True, out_dtype=torch.float32), expected(case))
    rounded = ("dx", "dparams", "ddelta")
    assert max(error for error_of, error in found.items() if error_of not in rounded) < FLOAT32
    assert max(found.values()) < tolerance


@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["unidirectional", "cross", "atrous2"])
def test_the_dtype_of_the_output_can_be_told(name, out_dtype):
    case = RouteCase(name, dim=6)
    results = run(case, out_dtype=out_dtype)
    assert results["y"].dtype == out_dtype
    tolerance = max(torch.finfo(out_dtype).eps, FLOAT32)
    assert_close(results, expected(case), tolerance, case)


def test_mixed_dtypes():
    case = RouteCase(dtype=torch.bfloat16)
    arguments = case.arguments()
    arguments["params"] = arguments["params"].float()
    results = run(case, arguments)
    assert results["dparams"].dtype == torch.float32
    found = errors(results, expected(case))
    assert found["dparams"] < FLOAT32
    assert max(found.values()) < 2**-8


ORDERS = {
    "one order": ((4, 0, 7, 2, 9, 1),),
    "an order and pads a sample": ((3, -1, 4, 0), (-1, 2, 5, 1)),
}


@pytest.mark.parametrize("which", ORDERS)
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("states", [1, 2])
def test_orders_of_the_call(which, extra, states):
    case = DynamicCase(ORDERS[which], 10, extra, RouteCase(states=states, dim=7))
    arguments = leaves(case.arguments())
    actual = gradients_of(call(arguments, **case.keywords()), arguments)
    assert_close(actual, case.reference(), FLOAT32, case)


def test_long_orders_of_each_sample(segmentation):
    generator = torch.Generator().manual_seed(3)
    orders = tuple(tuple(torch.randperm(100, generator=generator).tolist()) for _ in range(2))
    case = DynamicCase(orders, 100, like=RouteCase(dim=5, states=1))
    arguments = leaves(case.arguments())
    actual = gradients_of(call(arguments, **case.keywords()), arguments)
    assert_close(actual, case.reference(), FLOAT32, case)


def test_no_steps_at_all():
    given = leaves(RouteCase("unidirectional", (2, 3), dim=3).arguments())
    table = torch.empty(1, 1, 0, dtype=torch.int32)
    x, params = given["x"].flatten(2), given["params"].flatten(3)
    arguments = (x, params, None, given["A"], given["delta_weight"], given["D"], None)
    rest = (4, 5, True, 1.0, True, torch.float32)
    out, _ = EmulatedRouteScan.apply(*arguments, [0], table, None, None, *rest)
    out.sum().backward()
    assert not out.count_nonzero()
    assert not any(
        t.grad.count_nonzero() for t in given.values() if t is not None and t.grad is not None
    )


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("states", [1, 2])
def test_sequences_that_come_back_are_not_cut(states, rank, monkeypatch):
    # Every token twice in the first sequence, at most once in the second one, which is cut.
    name = "joined, of unequal lengths, with pads"
    # Slow decays: else the state before a segment is gone before it changes a bit.
    case = RouteCase(name, LONG, 1, 5, states, rank, delta_shift=-6.0)
    results = []
    for count, seed in ((1, 0), (5, 0), (5, 1)):
        monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", str(count))
        monkeypatch.setenv("MAMBA_MM_EMULATION_SEED", str(seed))
        results.append(run(case))
    assert_same_bits(results[2], results[1])
    assert not torch.equal(results[0]["dparams"], results[1]["dparams"])
    first = {n: r["dparams"][:, 0] for n, r in enumerate(results)}
    assert torch.equal(first[0], first[1])
    assert torch.equal(results[0]["dA"][0], results[1]["dA"][0])


def test_positions_that_are_none_count_as_padding():
    case = RouteCase("some tokens", (4, 5), dim=3)
    x = case.arguments()["x"].flatten(2)
    params = case.arguments()["params"].flatten(3)
    A, W = case.arguments()["A"], case.arguments()["delta_weight"]
    results = []
    for nowhere in (-1, 20, 2**31 - 1, -(2**31)):
        table = torch.tensor([[[3, nowhere, 0, 19]]], dtype=torch.int32)
        arguments = (x, params, None, A, W, None, None, [0], table, table, table)
        out, _ = EmulatedRouteScan.apply(*arguments, 4, 5, True, 1.0, True, torch.float32)
        results.append(out)
        assert out[..., [3, 0, 19]].all()
    assert all(torch.equal(out, results[0]) for out in results)


def channels_last(t):
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def entries_side_by_side(t):
    return t.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)


def every_second(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], -1).flatten(-2)[..., ::2]


def inside_a_larger_tensor(t):
    wider = torch.cat([torch.full_like(t, torch.nan), t], dim=1)
    return wider[:, t.shape[1] :]


LAYOUTS = {
    "map channels last": {"x": channels_last},
    "records side by side": {"params": entries_side_by_side, "delta": entries_side_by_side},
    "every second column": {"x": every_second, "params": every_second, "delta": every_second},
    "slices": {name: inside_a_larger_tensor for name in ("x", "params", "delta")},
    "parameters turned": {
        name: lambda t: t.mT.contiguous().mT for name in ("A", "D", "delta_bias", "delta_weight")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_inputs_give_the_same_bits(dtype, rank, layout):
    for name, states in (("cross", 1), ("atrous2", 2)):
        case = RouteCase(name, (5, 8), dim=9, states=states, rank=rank, dtype=dtype)
        plain = case.arguments()
        strided = dict(plain)
        for argument, change in LAYOUTS[layout].items():
            if plain[argument] is not None:
                strided[argument] = change(plain[argument])
        assert_same_bits(run(case, strided), run(case, plain), case)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["cross", "vim"])
def test_results_are_those_of_the_cpu_in_shape_and_layout(name, dtype, rank, last, emulated):
    case = RouteCase(name, LONG, dim=20, rank=rank, dtype=dtype)
    given = {n: None if t is None else t for n, t in case.arguments().items()}
    x, params = given["x"], given["params"]
    if last:
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    x, params = x.unflatten(2, (1, -1)).flatten(2), params.flatten(3)
    delta = None if rank else given["delta"].flatten(3)
    tensors = (x, params, delta, given["A"], given["delta_weight"], given["D"], given["delta_bias"])
    tables = case.routes.tables(*case.size)
    walks, read = ([1, 2, 3, 4], None) if name == "cross" else ([0, 0], tables.read[None])
    rest = (walks, read, None, None, *LONG, True, 0.5)
    ops, emulation_ops = torch.ops.mamba_mm, torch.ops.mamba_mm_emulated
    expected_forward = emulated(*tensors, *rest, True, dtype)
    forward = emulation_ops.route_scan_fwd(*tensors, *rest, True, dtype)
    grad = torch.randn_like(forward[0])
    checkpoints = expected_forward[1]
    expected_grads = ops.route_scan_bwd(grad, *tensors, *rest, checkpoints)
    grads = emulation_ops.route_scan_bwd(grad, *tensors, *rest, checkpoints)
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    for ours, theirs in zip((*forward, *grads), (*expected_forward, *expected_grads), strict=True):
        assert (ours.dtype, ours.shape, ours.stride()) == (
            theirs.dtype,
            theirs.shape,
            theirs.stride(),
        )
        if ours is forward[1]:
            # Lanes beyond the channels belong to nobody.
            assert ours.shape[-1] == CHECKPOINT_LANES
            ours, theirs = (
                t.unflatten(1, (-1, 2)).movedim(2, -2).flatten(-2)[..., :20] for t in (ours, theirs)
            )
            assert ours.shape[2] == (case.tokens - 1) // CHECKPOINT_STEPS
        assert relative_error(ours, theirs.double()) < tolerance


@pytest.mark.parametrize("count", ["1", "2", "5"])
def test_items_in_groups_give_the_same_bits(count, monkeypatch, segmentation):
    for name, dtype in (
        ("cross", torch.float32),
        ("cross", torch.bfloat16),
        ("atrous2", torch.float16),
    ):
        case = RouteCase(name, LONG, dim=6, batch=3, states=1, dtype=dtype)
        monkeypatch.delenv("MAMBA_MM_CUDA_ITEMS", raising=False)
        together = run(case)
        monkeypatch.setenv("MAMBA_MM_CUDA_ITEMS", count)
        assert_same_bits(run(case), together, case)


def test_a_wrong_number_of_items_is_named(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_ITEMS", "some")
    with pytest.raises(RuntimeError, match="MAMBA_MM_CUDA_ITEMS is 'some', expected"):
        run(RouteCase(dim=2))


def test_more_sequences_than_one_launch_serves(segmentation):
    routes = RouteSet(["row", "~col"] * 9, param_group=(0, 1) * 9)
    arguments = RouteCase("bidirectional", LONG, dim=3, states=1).arguments()
    results = gradients_of(call(a := leaves(arguments), routes=routes), a)
    wide = leaves(arguments, torch.float64)
    row = list(range(LONG[0] * LONG[1]))
    col = [r * LONG[1] + c for c in range(LONG[1]) for r in range(LONG[0])]
    reference = slow_route_scan(wide, [row, col[::-1]] * 9, routes)
    assert_close(results, gradients_of(reference, wide), 2 * FLOAT32, routes)


@pytest.mark.parametrize("empty", ["batch", "dim"])
@pytest.mark.parametrize("name", ["cross", "vim"])
def test_empty_inputs(name, empty):
    case = replace(RouteCase(name, (3, 4)), **{empty: 0})
    results = run(case, fused=True)
    for argument, t in case.arguments().items():
        if t is not None:
            assert results[f"d{argument}"].shape == t.shape
            assert results[f"d{argument}"].count_nonzero() == 0


@pytest.mark.parametrize("shift", [-15.0, 5.0, 25.0, 60.0])
@pytest.mark.parametrize("states", [1, 4])
def test_tiny_and_large_steps(shift, states, segmentation):
    case = RouteCase("cross", LONG, dim=5, states=states, delta_shift=shift, batch=1)
    assert_route_exact(case)
    assert_route_exact(replace(case, name="atrous2"))


POISONED = {
    "x": (1, 4, 2, 3),
    "the low rank of delta": (1, 0, 0, 2, 3),
    "B": (1, 0, 3, 2, 3),
    "C": (1, 0, 6, 2, 3),
    "A": (0, 3, 0),
    "D": (0, 4),
    "delta_bias": (0, 5),
    "delta_weight": (0, 2, 1),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", POISONED)
@pytest.mark.parametrize("states", [1, 2])
def test_nan_and_infinity_go_where_the_definition_sends_them(states, where, value, segmentation):
    case = RouteCase("unidirectional", (5, 7), dim=7, states=states)
    arguments = case.arguments()
    place = list(POISONED[where])
    if where == "C":
        place[2] = 3 + states
    arguments[where if where in arguments else "params"][tuple(place)] = value
    wide = leaves(arguments, torch.float64)
    reference = gradients_of(slow_route_scan(wide, [list(range(35))], case.routes), wide)
    actual = run(case, arguments)
    y, y_reference = actual["y"], reference["y"]
    assert torch.equal(y.isnan(), y_reference.isnan())
    assert torch.equal(y.isinf(), y_reference.isinf())
    finite = y_reference.isfinite()
    assert relative_error(y[finite], y_reference[finite]) < FLOAT32
    for gradient, t in reference.items():
        assert actual[gradient][t.isfinite()].isfinite().all(), gradient


@pytest.mark.parametrize("name", ["cross", "vim", "shifted, with pads"])
@pytest.mark.parametrize("where", ["x", "the low rank of delta", "B", "C"])
@pytest.mark.parametrize("states", [1, 3])
def test_infinity_goes_through_segments_as_through_a_whole(states, where, name, monkeypatch):
    # With large steps the decays of a whole segment multiply to zero, those of pads included.
    case = RouteCase(name, (20, 8), dim=4, states=states, batch=1, delta_shift=3.0)
    arguments = case.arguments()
    t = arguments["x"].flatten(2)[0, 2]
    if where != "x":
        entry = {"the low rank of delta": 0, "B": case.rank, "C": case.rank + states}[where]
        t = arguments["params"].flatten(3)[0, 0, entry]
    t[59] = t[100] = float("inf")
    results = []
    for count in ("1", "5"):
        monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", count)
        results.append(run(case, arguments, fused=True))
    assert_same_special_values(*results)


@pytest.mark.parametrize("name", ["cross", "atrous2", "joined, of unequal lengths, with pads"])
@pytest.mark.parametrize("states", [1, 3])
def test_same_bits_for_any_order_of_blocks_and_threads(name, states, segmentation, monkeypatch):
    case = RouteCase(name, (7, 6), batch=1, dim=140 if states == 1 else 40, states=states)
    results = []
    for seed in ("0", "1", "2"):
        monkeypatch.setenv("MAMBA_MM_EMULATION_SEED", seed)
        results.append(run(case))
    for other in results[1:]:
        assert_same_bits(other, results[0], case)


def test_no_checkpoints_without_need():
    given = RouteCase("unidirectional", LONG, dim=3).arguments()
    tensors = (given["x"].flatten(2), given["params"].flatten(3), None, given["A"])
    tensors += (given["delta_weight"], None, None)
    rest = ([1], None, None, None, *LONG, True, 1.0)
    ops = torch.ops.mamba_mm_emulated
    out, checkpoints = ops.route_scan_fwd(*tensors, *rest, False, torch.float32)
    assert checkpoints.shape == (2, 1, 0, 2, CHECKPOINT_LANES)
    with pytest.raises(RuntimeError, match="checkpoints are not those"):
        ops.route_scan_bwd(torch.ones_like(out), *tensors, *rest, checkpoints)


def test_more_states_than_a_block_can_keep_are_refused():
    with pytest.raises(RuntimeError, match=r"257 states.*up to 256"):
        run(RouteCase("unidirectional", (1, 2), dim=1, states=257))


def table_of(*shape, dtype=torch.int32):
    return torch.zeros(shape, dtype=dtype)


# Arguments by name, and what is said of them.
MISTAKES = [
    ({"x": torch.zeros(3, 6)}, r"x must be \(batch, dim, positions\)"),
    ({"A": torch.zeros(3, 2)}, r"A must be \(sequences, dim, states\)"),
    ({"A": torch.zeros(1, 4, 2)}, "A has a shape that does not fit"),
    ({"params": torch.zeros(2, 1, 5, 6)}, "params has a shape that does not fit"),
    ({"delta": torch.zeros(2, 1, 3, 6)}, "either delta or delta_weight, not both"),
    ({"weight": None}, "either delta or delta_weight, not both"),
    ({"weight": torch.zeros(1, 2, 2)}, "delta_weight has a shape that does not fit"),
    ({"D": torch.zeros(3)}, "D has a shape that does not fit"),
    ({"bias": torch.zeros(1, 4)}, "delta_bias has a shape that does not fit"),
    ({"walks": [1, 1]}, "walks must name one walk a sequence"),
    ({"walks": [5]}, "there is no such walk"),
    ({"walks": [0]}, "a walk along a table needs the table `read`"),
    ({"height": 4}, "only a walk over all height x width positions goes without"),
    ({"walks": [1], "read": table_of(1, 1, 5)}, "only a walk over all height x width"),
    ({"walks": [0], "read": table_of(1, 1, 6, dtype=torch.int64)}, "table read must be int32"),
    ({"walks": [0], "read": table_of(3, 1, 6)}, "table read must be for all batch items"),
    ({"walks": [0], "read": table_of(1, 1, 6), "write": table_of(1, 6)}, "table write must be"),
    ({"walks": [0], "read": table_of(1, 1, 6), "project": table_of(1, 1, 5)}, "project has a"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_named_as_on_the_cpu(changes, message, emulated):
    arguments = {
        "x": torch.zeros(2, 3, 6),
        "params": torch.zeros(2, 1, 6, 6),
        "delta": None,
        "A": torch.zeros(1, 3, 2),
        "weight": torch.zeros(1, 3, 2),
        "D": None,
        "bias": None,
        "walks": [1],
        "read": None,
        "project": None,
        "write": None,
        "height": 2,
    }
    for op in (emulated, torch.ops.mamba_mm_emulated.route_scan_fwd):
        rest = (3, True, 1.0, False, torch.float32)
        op(*arguments.values(), *rest)
        with pytest.raises(RuntimeError, match=message):
            op(*(arguments | changes).values(), *rest)
