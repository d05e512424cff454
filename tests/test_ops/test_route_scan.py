"""The route scan against its definition in float64, step by step."""

import functools
import random
from dataclasses import replace

import pytest
import torch
from route_cases import (
    DISTINCT,
    FLOAT32,
    FUSED,
    SETS,
    UNFUSED,
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
from route_definitions import table
from scan_cases import leaves, relative_error

from mamba_mm.ops import route_scan
from mamba_mm.ops.routes import ROUTE_SETS, RouteSet, register_route, registry

SIZES = [(1, 1), (1, 5), (5, 1), (2, 3), (5, 7), (7, 7), (13, 9)]
SEVERAL_CHUNKS = (11, 19)  # of 64 steps, and windows of 32
FLOAT64 = 1e-12


def test_every_preset_is_among_the_cases():
    ran = {case.routes for case in SETS.values() if isinstance(case.routes, RouteSet)}
    for name, value in ROUTE_SETS.items():
        layers = value if isinstance(value, tuple) else (value,)
        branches = {s.on_branch(b) for s in layers for b in range(s.num_branches)}
        branches -= {DynamicCase(orders=(), tokens=0, extra=True).routes}
        assert not branches or branches & ran, name
        assert isinstance(value, tuple) or branches <= ran, name


@pytest.mark.parametrize("name", DISTINCT)
def test_every_set_at_every_size(name, instruction_set):
    for size in SIZES:
        assert_route_exact(RouteCase(name, size), fused=True)


@pytest.mark.parametrize("name", ["cross", "hydra", "vim", "atrous2", "serpentine", "fer", "mean"])
def test_sequences_of_several_chunks(name, instruction_set):
    assert_route_exact(RouteCase(name, SEVERAL_CHUNKS, batch=1, dim=36, states=1), fused=True)
    assert_route_exact(RouteCase(name, (9, 8), batch=1, dim=36, states=3), fused=True)


@pytest.mark.parametrize("name", SETS)
def test_gather_scan_merge_is_the_same_definition(name):
    # Where maps agree, the gated merge divides by their small differences.
    tolerance = 4 * FLOAT32 if "mhsvm" in name or "gated" in name else FLOAT32
    for size in ((1, 5), (5, 7)):
        assert_route_exact(RouteCase(name, size), tolerance, fused=False)


@pytest.mark.parametrize("name", UNFUSED)
def test_sets_without_a_fused_form_run_without_asking(name):
    case = RouteCase(name, (3, 4), dim=6)
    assert_same_bits(run(case), run(case, fused=False))


def test_the_default_is_the_fused_op(compiled):
    case = RouteCase("fer")
    assert_same_bits(run(case), run(case, fused=True))


@pytest.mark.parametrize("name", ["cross", "serpentine"])
@pytest.mark.parametrize("dim", [1, 7, 16, 17, 33, 70, 130])
def test_every_number_of_channels(dim, name, instruction_set):
    for states in (1, 2):
        assert_route_exact(RouteCase(name, (5, 8), dim=dim, states=states, batch=1))


@pytest.mark.parametrize("name", ["cross", "atrous2", "serpentine"])
@pytest.mark.parametrize("states", [0, 1, 2, 3, 5, 16])
def test_every_number_of_states(states, name, instruction_set):
    assert_route_exact(RouteCase(name, (5, 8), states=states))


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 6, 24])
def test_every_rank(rank, instruction_set):
    # Records of a token are read and added to in whole vectors: no rank may spill over.
    for states in (0, 1, 3):
        assert_route_exact(RouteCase(size=(5, 8), states=states, rank=rank))
        assert_route_exact(RouteCase("vim", (5, 8), states=states, rank=rank))


@pytest.mark.parametrize("batch", [1, 3, 65])
@pytest.mark.parametrize("name", ["cross", "fer"])
def test_batches(batch, name, compiled):
    # From 64 items on, channels are summed in larger blocks.
    assert_route_exact(RouteCase(name, (3, 4), batch=batch, dim=40))


@pytest.mark.parametrize("options", [(), ("D",), ("delta_bias",)])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("rank", [None, 3])
def test_every_optional_argument(rank, softplus, options, instruction_set):
    for name in ("cross", "atrous2", "hydra", "input only"):
        for states in (1, 2):
            case = RouteCase(
                name, (6, 8), rank=rank, softplus=softplus, options=options, states=states
            )
            assert_route_exact(case)


@pytest.mark.parametrize("name", DISTINCT)
@pytest.mark.parametrize("rank", [None, 2])
def test_float64_is_computed_in_float64(name, rank, compiled):
    case = RouteCase(name, (5, 7), dtype=torch.float64, rank=rank)
    for fused in (True, False):
        assert_route_exact(case, FLOAT64, fused=fused)


@pytest.mark.parametrize("name", ["cross", "vim", "serpentine", "mean"])
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, rank, name, instruction_set):
    case = RouteCase(name, (9, 8), dtype=dtype, rank=rank, batch=1)
    results = run(case, fused=True)
    assert results["y"].dtype == dtype
    assert_close(results, expected(case), tolerance, case)
    # With a float32 output only gradients of 16-bit inputs are rounded.
    found = errors(run(case, fused=True, out_dtype=torch.float32), expected(case))
    rounded = ("dx", "dparams", "ddelta")
    assert max(error for error_of, error in found.items() if error_of not in rounded) < FLOAT32
    assert max(found.values()) < tolerance


@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_dtype_of_the_output_can_be_told(out_dtype, compiled):
    case = RouteCase("fer")
    for fused in (True, False):
        results = run(case, fused=fused, out_dtype=out_dtype)
        assert results["y"].dtype == out_dtype
        tolerance = max(torch.finfo(out_dtype).eps, FLOAT32)
        assert_close(results, expected(case), tolerance, case)


def test_mixed_dtypes(compiled):
    case = RouteCase(dtype=torch.bfloat16)
    arguments = case.arguments()
    arguments["params"] = arguments["params"].float()
    results = run(case, arguments)
    assert results["y"].dtype == torch.bfloat16
    assert results["dparams"].dtype == torch.float32
    found = errors(results, expected(case))
    assert found["dparams"] < FLOAT32
    assert max(found.values()) < 2**-8


def test_one_float64_argument_makes_the_computation_float64(compiled):
    for name in ("x", "params", "A"):
        arguments = RouteCase().arguments()
        arguments[name] = arguments[name].double()
        results = run(RouteCase(), arguments, out_dtype=torch.float64)
        assert relative_error(results["y"], expected(RouteCase())["y"]) < FLOAT64, name


def test_parameters_in_half_precision_are_widened(compiled):
    case = RouteCase("serpentine")
    rows = ("A", "D", "delta_bias", "delta_weight", "codes")
    narrow = {n: t if t is None else t.bfloat16() for n, t in case.arguments().items()}
    wide = {n: t.float() if n in rows and t is not None else t for n, t in narrow.items()}
    assert torch.equal(call(narrow, **case.keywords()), call(wide, **case.keywords()))


ORDERS = {
    "one order": (((4, 0, 7, 2, 9, 1),), 10),
    "with pads": (((-1, 3, 1, -1, 4, 0, -1, 2),), 6),
    "an order a sample": (((3, 1, 4, 0), (0, 2, 5, 1)), 6),
    "an order and pads a sample": (((3, -1, 4, 0), (-1, 2, 5, 1)), 6),
}


@pytest.mark.parametrize(
    ("which", "extra"),
    [*((which, False) for which in ORDERS), ("one order", True), ("an order a sample", True)],
)
def test_orders_of_the_call(which, extra, instruction_set):
    orders, tokens = ORDERS[which]
    case = DynamicCase(orders, tokens, extra)
    for fused in (True, False):
        arguments = leaves(case.arguments())
        actual = gradients_of(call(arguments, **case.keywords(), fused=fused), arguments)
        assert_close(actual, case.reference(), FLOAT32, case)


def test_long_orders_of_each_sample(compiled):
    generator = torch.Generator().manual_seed(3)
    orders = tuple(tuple(torch.randperm(170, generator=generator).tolist()) for _ in range(3))
    case = DynamicCase(orders, 170, like=RouteCase(batch=3, states=1))
    arguments = leaves(case.arguments())
    actual = gradients_of(call(arguments, **case.keywords()), arguments)
    assert_close(actual, case.reference(), FLOAT32, case)


def channels_last(t):
    return t.movedim(1, -1).contiguous().movedim(-1, 1)


def entries_side_by_side(t):
    """(B, G, entries, H, W) as a linear layer on a channels-last map leaves it."""
    return t.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)


def every_second(t):
    return torch.stack([t, torch.full_like(t, torch.nan)], -1).flatten(-2)[..., ::2]


def inside_a_larger_tensor(t):
    wider = torch.cat([torch.full_like(t, torch.nan), t], dim=1)
    return wider[:, t.shape[1] :]


LAYOUTS = {
    "map channels last": {"x": channels_last},
    "map and records channels last": {"x": channels_last, "params": entries_side_by_side},
    "records side by side": {"params": entries_side_by_side, "delta": entries_side_by_side},
    "rows outermost": {"x": lambda t: t.movedim(2, 0).contiguous().movedim(0, 2)},
    "every second column": {"x": every_second, "params": every_second, "delta": every_second},
    "slices": {name: inside_a_larger_tensor for name in ("x", "params", "delta")},
    "parameters turned": {
        name: lambda t: t.mT.contiguous().mT for name in ("A", "D", "delta_bias", "delta_weight")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_inputs_give_the_same_bits(dtype, rank, layout, instruction_set):
    for name, states in (("cross", 1), ("atrous2", 2)):
        case = RouteCase(name, (9, 8), dim=37, states=states, rank=rank, dtype=dtype)
        plain = case.arguments()
        strided = dict(plain)
        for argument, change in LAYOUTS[layout].items():
            if plain[argument] is not None:
                strided[argument] = change(plain[argument])
                assert torch.equal(strided[argument], plain[argument])
        assert_same_bits(run(case, strided), run(case, plain), case)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["cross", "atrous2"])
def test_the_output_and_gradients_are_laid_out_like_the_inputs(name, fused, compiled):
    case = RouteCase(name, (9, 8), dim=37)
    arguments = leaves(case.arguments())
    if fused:
        last = dict(arguments, x=channels_last(arguments["x"].detach()).requires_grad_())
        y = call(last, **case.keywords())
        assert y.is_contiguous(memory_format=torch.channels_last)
        (gradient,) = torch.autograd.grad(y.sum(), last["x"])
        assert gradient.is_contiguous(memory_format=torch.channels_last)
    y = call(arguments, **case.keywords(), fused=fused)
    assert y.is_contiguous()
    assert torch.autograd.grad(y.sum(), arguments["x"])[0].is_contiguous()


def test_records_of_a_linear_layer_get_gradients_side_by_side(compiled):
    arguments = leaves(RouteCase().arguments())
    y = call(arguments, routes="cross")
    (gradient,) = torch.autograd.grad(y.sum(), arguments["params"])
    assert gradient.permute(0, 3, 4, 1, 2).is_contiguous()


def test_expanded_inputs(compiled):
    case = RouteCase("cross", (6, 5), dim=18)
    plain = case.arguments()
    small = leaves(
        {n: t if t is None else t[:1] for n, t in plain.items() if n in ("x", "params")}
        | {n: t if t is None else t[:1] for n, t in plain.items() if n not in ("x", "params")}
    )
    expanded = {n: t if t is None else t.expand_as(plain[n]) for n, t in small.items()}
    copied = leaves({n: t if t is None else t.contiguous() for n, t in expanded.items()})
    keywords = case.keywords()
    actual = gradients_of(call(expanded, **keywords), small)
    reference = gradients_of(call(copied, **keywords), copied)
    assert torch.equal(actual.pop("y"), reference.pop("y"))
    summed = {name: g.double().sum(0, keepdim=True) for name, g in reference.items()}
    assert_close(actual, summed, FLOAT32, case)


def test_the_gradient_of_the_output_may_be_strided(instruction_set):
    case = RouteCase("cross", (9, 8), dim=37)
    generator = torch.Generator().manual_seed(1)
    plain = torch.randn(case.arguments()["x"].shape, generator=generator)
    results = []
    for layout in (lambda t: t, channels_last, every_second, inside_a_larger_tensor):
        arguments = leaves(case.arguments())
        call(arguments, **case.keywords()).backward(layout(plain))
        results.append({name: t.grad for name, t in arguments.items() if t is not None})
    for other in results[1:]:
        assert_same_bits(other, results[0])
    expanded, copied = leaves(case.arguments()), leaves(case.arguments())
    one = plain[:1, :1, :1, :1].expand_as(plain)
    call(expanded, **case.keywords()).backward(one)
    call(copied, **case.keywords()).backward(one.contiguous())
    assert torch.equal(expanded["x"].grad, copied["x"].grad)


@pytest.mark.parametrize("empty", ["batch", "dim"])
@pytest.mark.parametrize("name", ["cross", "vim"])
@pytest.mark.parametrize("fused", [True, False])
def test_empty_inputs(fused, name, empty, compiled):
    case = replace(RouteCase(name, (3, 4)), **{empty: 0})
    results = run(case, fused=fused)
    for argument, t in case.arguments().items():
        if t is not None:
            assert results[f"d{argument}"].shape == t.shape
            assert results[f"d{argument}"].count_nonzero() == 0


def test_a_map_without_tokens_is_empty(compiled):
    case = RouteCase()
    arguments = {n: t[..., :0] if n in ("x", "params") else t for n, t in case.arguments().items()}
    results = run(case, arguments, fused=True)
    assert results["y"].shape == (2, 20, 5, 0)
    assert results["dA"].count_nonzero() == 0


@pytest.fixture
def own_routes(monkeypatch):
    """The plain walks once more, as walks of a user, which are always tables."""
    monkeypatch.setattr(registry, "_GENERATORS", dict(registry._GENERATORS))
    generators = registry._GENERATORS
    for name in ("row", "col"):
        register_route(f"own_{name}", permutation=True)(generators[name].function)


@pytest.mark.usefixtures("own_routes")
@pytest.mark.parametrize("states", [1, 3])
@pytest.mark.parametrize("walks", [["row", "col", "~row", "~col"], ["~col"], ["row", "~row"]])
def test_plain_walks_give_the_bits_of_their_tables(walks, states, instruction_set):
    tabled = [walk.replace("row", "own_row").replace("col", "own_col") for walk in walks]
    for size in [*SIZES, SEVERAL_CHUNKS]:
        case = RouteCase("cross", size, dim=37, states=states)
        arguments = case.arguments()
        for name, t in arguments.items():
            if t is not None and name != "x":
                arguments[name] = t[:, : len(walks)] if name == "params" else t[: len(walks)]
        plain, own = RouteSet(walks), RouteSet(tabled)
        assert plain.plain_walks is not None
        assert own.plain_walks is None
        assert_same_bits(run(case, arguments, routes=own), run(case, arguments, routes=plain))


@pytest.mark.usefixtures("own_routes")
def test_plain_walks_beside_tables_give_the_bits_of_tables_alone(instruction_set):
    case = RouteCase("fer", (9, 8), dim=37)
    others = ["wrap_diag", "wrap_anti", "~wrap_diag", "~wrap_anti"]
    routes = RouteSet(["own_row", "own_col", "~own_row", "~own_col", *others])
    assert_same_bits(run(case), run(case, routes=routes))


@pytest.mark.parametrize("name", DISTINCT)
def test_step_sizes_made_inside_outside_and_before_are_equal(name, compiled):
    case = RouteCase(name, (7, 6), rank=6)
    for where in ("inside", "outside", "auto"):
        assert_route_exact(case, delta_projection=where, fused=True)


def test_a_given_delta_is_a_projected_one(compiled):
    for name in ("cross", "atrous2", "input only"):
        case = RouteCase(name, (7, 6), rank=6)
        arguments = leaves(case.arguments())
        delta = torch.einsum(
            "kdr,bkrhw->bkdhw", arguments["delta_weight"], arguments["params"][:, :, :6]
        )
        given = dict(
            arguments, params=arguments["params"][:, :, 6:], delta=delta, delta_weight=None
        )
        actual = gradients_of(call(given, **case.keywords()), arguments)
        assert_close(actual, expected(case), FLOAT32, case)


@pytest.mark.parametrize("states", [1, 4])
@pytest.mark.parametrize("shift", [-15.0, -8.0, 5.0, 25.0, 60.0])
def test_tiny_and_large_steps(shift, states, instruction_set):
    # -15 is where log(1 + exp(x)) has lost every digit; at 60 the decay underflows.
    for options in (("delta_bias",), ("D", "delta_bias")):
        case = RouteCase("cross", (7, 6), delta_shift=shift, dim=18, states=states, options=options)
        assert_route_exact(case)
        assert_route_exact(replace(case, name="atrous2"))


def test_steps_of_size_zero_keep_the_state(instruction_set):
    case = RouteCase("cross", (6, 11), dim=18, rank=None, softplus=False, options=("D",))
    arguments = case.arguments()
    arguments["delta"][..., ::2] = 0
    reference = leaves(arguments, torch.float64)
    walks = [table(walk, *case.size) for walk in case.steps()]
    y = slow_route_scan(reference, walks, case.routes, softplus=False)
    assert_close(run(case, arguments), gradients_of(y, reference), FLOAT32, case)


def test_growing_states_overflow_to_infinity_like_the_definition(instruction_set):
    case = RouteCase("unidirectional", (6, 7), options=(), delta_shift=1.0, states=1, rank=None)
    arguments = case.arguments()
    arguments["A"] = arguments["A"].abs() * 20
    arguments["delta"].abs_()
    actual = call(arguments, **case.keywords())
    reference = slow_route_scan(arguments, [list(range(42))], case.routes)
    assert torch.isinf(reference).any()
    assert torch.equal(torch.isfinite(actual), torch.isfinite(reference))


POISONED = {
    "x": (1, 4, 2, 3),
    "the low rank of delta": (1, 2, 0, 2, 3),
    "B": (1, 2, 3, 2, 3),
    "C": (1, 2, 6, 2, 3),
    "A": (1, 3, 0),
    "D": (2, 4),
    "delta_bias": (3, 5),
    "delta_weight": (0, 2, 1),
}


def poisoned(case, where, value):
    arguments = case.arguments()
    groups = case.routes.num_groups
    name = where if where in arguments else "params"
    place = list(POISONED[where])
    axis = {"x": None, "params": 1}.get(name, 0)
    if axis is not None:
        place[axis] %= groups
    arguments[name][tuple(place)] = value
    return arguments


@functools.cache
def expected_of_poison(case, where, value):
    wide = leaves(poisoned(case, where, value), torch.float64)
    walks = [table(walk, *case.size) for walk in case.steps()]
    return gradients_of(slow_route_scan(wide, walks, case.routes), wide)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", POISONED)
@pytest.mark.parametrize("name", ["cross", "unidirectional", "atrous2"])
def test_nan_and_infinity_go_where_the_definition_sends_them(name, where, value, instruction_set):
    # Lanes behind the last of 20 channels multiply their zero weights by infinity.
    dim = 20
    case = RouteCase(name, (5, 6), dim=dim, states=2)
    reference = expected_of_poison(case, where, value)
    actual = run(case, poisoned(case, where, value), fused=True)
    y, y_reference = actual["y"], reference["y"]
    assert torch.equal(y.isnan(), y_reference.isnan())
    assert torch.equal(y.isinf(), y_reference.isinf())
    finite = y_reference.isfinite()
    assert finite.any()
    assert value == value or not finite.all()
    assert relative_error(y[finite], y_reference[finite]) < FLOAT32
    if name == "atrous2":
        return  # behind the last token its padded steps send back zero times a broken decay
    for gradient, t in reference.items():
        assert actual[gradient][t.isfinite()].isfinite().all(), gradient


def test_a_poisoned_token_reaches_later_steps_of_its_own_channel_only(instruction_set):
    case = RouteCase("unidirectional", (9, 9), dim=20, states=1)
    arguments = case.arguments()
    clean = call(arguments, **case.keywords())
    arguments["x"][1, 4, 3, 3] = float("nan")
    y = call(arguments, **case.keywords())
    hit = torch.zeros_like(y, dtype=torch.bool).flatten(2)
    hit[1, 4, 3 * 9 + 3 :] = True
    assert torch.equal(y.isnan(), hit.view_as(y))
    assert torch.equal(y[~y.isnan()], clean[~y.isnan()])


def test_nobody_reads_what_padded_steps_leave_behind(instruction_set):
    # Padded steps of all samples and channels share one place to write to.
    case = RouteCase("some tokens", (8, 8), dim=20)
    arguments = case.arguments()
    arguments["x"][0, 0, 1, 0] = float("nan")
    results = run(case, arguments, fused=True)
    assert not results["y"][1:].isnan().any()
    assert not results["y"][:, 1:].isnan().any()
    read = torch.zeros(8, 8, dtype=torch.bool)
    read[1::3, ::3] = True
    assert torch.equal(results["y"][0, 0].isnan(), read)
    assert not results["dx"].isnan().any()


@pytest.mark.parametrize(
    "case",
    [
        RouteCase("cross", (9, 15), batch=2, dim=150, states=1),
        RouteCase("cross", (9, 15), batch=1, dim=70, states=3, rank=None),
        RouteCase("fer", (6, 7), batch=3, dim=33, dtype=torch.bfloat16),
        RouteCase("serpentine", (6, 7), batch=3, dim=40),
        RouteCase("cross", (2, 3), batch=66, dim=130, states=1),
        RouteCase("vim", (7, 7), batch=1, dim=40, dtype=torch.float64),
    ],
    ids=str,
)
def test_bit_identical_for_any_number_of_threads(case, compiled):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results += [run(case, fused=True) for _ in range(2)]
            results.append(run(case, fused=True, delta_projection="inside"))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert_same_bits(other, results[0], case)


def random_case(seed):
    rng = random.Random(seed)
    name = rng.choice(sorted(FUSED))
    return RouteCase(
        name,
        (rng.randint(1, 12), rng.randint(1, 12)),
        batch=rng.randint(1, 3),
        dim=2 * rng.randint(1, 40),
        states=rng.choice([0, 1, 1, 1, 2, 3, 5, 16]),
        rank=rng.choice([None, 1, 2, 3, 6, 12]),
        options=tuple(o for o in ("D", "delta_bias") if rng.random() < 0.7),
        softplus=rng.random() < 0.8,
        seed=seed,
        delta_shift=rng.uniform(-6, 2),
    )


@pytest.mark.parametrize("block", range(4))
def test_random_cases(block, instruction_set):
    for seed in range(block * 8, block * 8 + 8):
        assert_route_exact(random_case(seed), 2 * FLOAT32, fused=True)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_hundreds_of_random_cases(block, instruction_set):
    for seed in range(10_000 + block * 40, 10_000 + block * 40 + 40):
        where = ("inside", "outside")[seed % 2]
        assert_route_exact(random_case(seed), 2 * FLOAT32, fused=True, delta_projection=where)


@pytest.mark.slow
@pytest.mark.parametrize(("states", "name"), [(1, "serpentine"), (16, "cross")])
def test_a_map_of_56_by_56(states, name, compiled):
    assert_route_exact(RouteCase(name, (56, 56), batch=1, dim=20, states=states))


def test_a_detection_sized_map_equals_gather_scan_merge(compiled):
    # 200 x 320 tokens: the first stage of a detector at 800 x 1280.
    case = RouteCase("cross", (200, 320), batch=1, dim=3, states=1, rank=2)
    wide = {n: t if t is None else t.double() for n, t in case.arguments().items()}
    assert_close(run(case, fused=True), run(case, wide, fused=False), 4 * FLOAT32, case)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_other_backends_run_the_same_definition(backend):
    case = RouteCase("serpentine", (4, 3), dim=6)
    y = call(case.arguments(), route_scan, **case.keywords(), backend=backend)
    assert relative_error(y, expected(case)["y"]) < FLOAT32
