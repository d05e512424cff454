"""The compiled CPU scan against the sequential definition in float64."""

import itertools
import random

import pytest
import torch
from scan_cases import (
    SUMS,
    Case,
    assert_exact,
    errors_against_definition,
    leaves,
    relative_error,
    run_with_gradients,
)

from mamba_mm.ops import selective_scan, selective_scan_ref

FLOAT32 = 3e-6  # of the largest value: a few roundings of float32
OPTIONS = ("D", "z", "delta_bias")


@pytest.mark.parametrize("length", [1, 2, 7, 31, 32, 33, 49, 64, 196, 197, 512, 513, 1000])
def test_every_length(length, instruction_set):
    assert_exact(Case(length=length, dim=20, groups=2), FLOAT32)


@pytest.mark.parametrize("length", [3136, 4097])
def test_long_sequences(length, compiled):
    assert_exact(Case(batch=1, length=length, dim=24, states=2, groups=4), FLOAT32)


@pytest.mark.parametrize("states", [0, 1, 2, 3, 16, 64])
def test_every_number_of_states(states, instruction_set):
    assert_exact(Case(states=states, dim=18), FLOAT32)


@pytest.mark.parametrize(("groups", "dim"), [(1, 1), (1, 37), (2, 38), (4, 76), (4, 260), (5, 5)])
def test_groups_and_odd_channels(groups, dim, instruction_set):
    assert_exact(Case(groups=groups, dim=dim, length=40), FLOAT32)


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize(
    "options", [o for n in range(4) for o in itertools.combinations(OPTIONS, n)]
)
def test_every_optional_argument(options, softplus, instruction_set):
    assert_exact(Case(options=options, softplus=softplus), FLOAT32)


@pytest.mark.parametrize("fixed", [("B",), ("C",), ("B", "C")])
def test_projections_constant_in_time(fixed, instruction_set):
    assert_exact(Case(fixed=fixed, groups=2, dim=36, length=70), FLOAT32)


def test_projections_without_a_group_dimension(compiled):
    case = Case(groups=1, dim=10)
    flat = dict(case.arguments, B=case.arguments["B"][:, 0], C=case.arguments["C"][:, 0])
    assert torch.equal(
        selective_scan(**flat, delta_softplus=True),
        selective_scan(**case.arguments, delta_softplus=True),
    )


def test_a_projection_without_groups_serves_the_groups_of_the_other(compiled):
    case = Case(groups=3, dim=12)
    shared = case.arguments["B"][:, :1]
    mixed = leaves(dict(case.arguments, B=shared[:, 0]))
    spelled_out = leaves(dict(case.arguments, B=shared.expand(-1, 3, -1, -1).contiguous()))
    actual = run_with_gradients(mixed, True)
    expected = run_with_gradients(spelled_out, True)
    assert relative_error(actual["dB"], expected["dB"].sum(1).double()) < FLOAT32
    assert torch.equal(actual["y"], expected["y"])


def test_float64_is_computed_in_float64(compiled):
    assert_exact(Case(dtype=torch.float64, dim=22, groups=2, length=197), 1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, instruction_set):
    case = Case(dtype=dtype, dim=22, groups=2, length=197, states=16)
    assert_exact(case, tolerance)
    # With a float32 output nothing at all is rounded to 16 bit on the way.
    y = selective_scan(**case.arguments, delta_softplus=True, out_dtype=torch.float32)
    wide = {k: None if t is None else t.double() for k, t in case.arguments.items()}
    expected = selective_scan_ref(**wide, delta_softplus=True)
    assert y.dtype == torch.float32
    assert relative_error(y, expected) < FLOAT32


def test_mixed_dtypes(compiled):
    case = Case(dtype=torch.bfloat16, dim=22)
    case.arguments["delta"] = case.arguments["delta"].float()
    case.arguments["B"] = case.arguments["B"].half()
    errors = errors_against_definition(case)
    assert errors["ddelta"] < FLOAT32
    assert max(errors.values()) < 2**-8


LAYOUTS = {
    "channels last": lambda t: t.transpose(1, -1).contiguous().transpose(1, -1),
    "every second step": lambda t: torch.stack([t, t], -1).flatten(-2)[..., ::2],
    "a slice of a larger tensor": lambda t: torch.cat([t[..., :3], t, t], -1)[
        ..., 3 : 3 + t.shape[-1]
    ],
    "time outermost": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strided_inputs_give_the_same_bits(layout, dtype, instruction_set):
    case = Case(dim=37, length=75, dtype=dtype, states=2)
    strided = dict(case.arguments)
    for name in ("u", "delta", "z", "B", "C"):
        strided[name] = LAYOUTS[layout](case.arguments[name])
        assert torch.equal(strided[name], case.arguments[name])
    actual = run_with_gradients({k: t.requires_grad_() for k, t in strided.items()}, True)
    expected = run_with_gradients(leaves(case.arguments), True)
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def test_strided_output_gradient(compiled):
    case = Case(dim=5, length=40)
    gradients = []
    for layout in (lambda t: t, LAYOUTS["channels last"], lambda t: t[:1, :1, :1].expand_as(t)):
        arguments = leaves(case.arguments)
        y = selective_scan(**arguments, delta_softplus=True)
        weight = layout(torch.arange(y.numel(), dtype=y.dtype).view_as(y) / y.numel())
        y.backward(weight)
        reference = leaves(case.arguments, torch.float64)
        selective_scan_ref(**reference, delta_softplus=True).backward(weight.double())
        gradients.append(relative_error(arguments["u"].grad, reference["u"].grad))
    assert max(gradients) < FLOAT32


@pytest.mark.parametrize("empty", ["batch", "length", "dim"])
def test_empty_inputs(empty, compiled):
    case = Case(**{empty: 0})
    results = run_with_gradients(leaves(case.arguments), True)
    assert results["y"].shape == case.arguments["u"].shape
    assert results["last_state"].shape == (case.batch, case.dim, case.states)
    for name, t in case.arguments.items():
        assert results[f"d{name}"].shape == t.shape
        assert results[f"d{name}"].count_nonzero() == 0


@pytest.mark.parametrize("shift", [-15.0, -8.0, 5.0, 25.0, 60.0])
def test_tiny_and_large_steps(shift, instruction_set):
    # -15 is where log(1 + exp(x)) has lost every digit; at 60 the decay underflows.
    assert_exact(Case(delta_shift=shift, dim=18, states=4), FLOAT32)
    # Without the skip the output is as small as the steps.
    assert_exact(Case(delta_shift=shift, dim=18, states=4, options=()), FLOAT32)


def test_growing_states_overflow_to_infinity_like_the_definition(instruction_set):
    case = Case(options=(), delta_shift=1.0, length=30, states=1)
    case.arguments["A"] = case.arguments["A"].abs() * 20
    actual = selective_scan(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    assert torch.isinf(expected).any()
    assert torch.equal(torch.isfinite(actual), torch.isfinite(expected))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_and_infinity_reach_the_output(name, poison, instruction_set):
    case = Case(length=20, dim=9)
    t = case.arguments[name]
    t[(0,) * t.dim()] = poison
    actual = selective_scan(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    assert torch.equal(actual.isnan(), expected.isnan())
    finite = expected.isfinite()
    assert torch.equal(actual.isinf(), expected.isinf())
    assert relative_error(actual[finite], expected[finite].double()) < FLOAT32


@pytest.mark.parametrize("fixed", [(), ("B", "C")])
def test_bit_identical_for_any_number_of_threads(fixed, instruction_set):
    case = Case(batch=3, dim=150, groups=2, length=130, fixed=fixed)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results += [run_with_gradients(leaves(case.arguments), True) for _ in range(2)]
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for name, t in results[0].items():
            assert torch.equal(t, other[name]), name


def test_no_gradient_needs_no_checkpoints(compiled):
    case = Case(length=200)
    arguments = leaves(case.arguments)
    with torch.no_grad():
        quick = selective_scan(**arguments, delta_softplus=True)
    assert not quick.requires_grad
    assert torch.equal(quick, selective_scan(**arguments, delta_softplus=True).detach())


def test_raw_op_without_checkpoints_refuses_a_backward_pass(compiled):
    arguments = leaves(Case(length=40).arguments)
    y, *_ = torch.ops.mamba_mm.selective_scan_fwd(*arguments.values(), True, False, torch.float32)
    with pytest.raises(RuntimeError, match="without checkpoints"):
        y.sum().backward()


def random_case(seed):
    rng = random.Random(seed)
    groups = rng.choice([1, 1, 2, 3, 4])
    return Case(
        batch=rng.randint(1, 3),
        dim=groups * rng.randint(1, 40),
        length=rng.choice([rng.randint(1, 40), rng.randint(30, 160)]),
        states=rng.choice([1, 1, 2, 3, 5, 8, 16]),
        groups=groups,
        options=tuple(o for o in OPTIONS if rng.random() < 0.5),
        softplus=rng.random() < 0.7,
        fixed=tuple(p for p in "BC" if rng.random() < 0.15),
        delta_shift=rng.uniform(-6, 2),
        seed=seed,
    )


def assert_random_cases_exact(seeds, instruction_sets):
    for seed in seeds:
        case = random_case(seed)
        for _ in instruction_sets():
            assert_exact(case, 2 * FLOAT32)


@pytest.mark.parametrize("block", range(6))
def test_random_shapes(block, instruction_sets):
    assert_random_cases_exact(range(block * 25, block * 25 + 25), instruction_sets)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_thousands_of_random_shapes(block, instruction_sets):
    first = 10_000 + block * 60
    assert_random_cases_exact(range(first, first + 60), instruction_sets)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("states", [1, 16, 64])
@pytest.mark.parametrize("length", [196, 1000, 3136])
def test_grid_of_long_cases(length, states, groups, compiled):
    assert_exact(Case(batch=1, dim=20, length=length, states=states, groups=groups), FLOAT32)


@pytest.mark.slow
def test_a_detection_sized_map(compiled):
    # 200 x 320 positions: the first stage of a detector at 800 x 1280. The definition would walk
    # them one by one; the plain PyTorch scan, which equals it, is a hundred times faster.
    case = Case(batch=1, dim=8, length=64000, states=1, groups=4)
    actual = run_with_gradients(leaves(case.arguments), case.softplus)
    wide = leaves(case.arguments, torch.float64)
    expected = run_with_gradients(wide, case.softplus, backend="torch")
    for name, exact in expected.items():
        floor = 1.0 if name in SUMS else 1e-30
        assert relative_error(actual[name], exact, floor) <= FLOAT32, name
