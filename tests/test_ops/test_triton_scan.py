"""The Triton scan against the sequential definition in float64, in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so one process is started for it.
"""

import importlib.util
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from scan_cases import Case

FLOAT32 = 3e-6  # of the largest value: a few roundings of float32
# What makes segments of a short sequence.
SEGMENTED = {"SHORTEST_SEGMENT": 8, "THREADS_WANTED": 1 << 16}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, which is not installed"
)


@pytest.fixture(scope="module")
def interpreted():
    """Call a function of ``triton_interpreted`` by name."""
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield lambda *args, **keywords: pool.submit(call, *args, **keywords).result()
    finally:
        if before is None:
            del os.environ["TRITON_INTERPRET"]
        else:
            os.environ["TRITON_INTERPRET"] = before


def call(name, *arguments, **keywords):
    import triton_interpreted

    return getattr(triton_interpreted, name)(*arguments, **keywords)


def small(**fields):
    return Case(**({"batch": 1, "dim": 5, "length": 9, "states": 1} | fields))


CASES = {
    "one step": small(length=1),
    "odd length, one state": small(batch=2, length=19),
    "three states": small(length=35, states=3, dim=7),
    "five states": small(states=5, length=7),
    "sixteen states": small(states=16, length=34, dim=3),
    "two turns of states": small(states=20, length=5, options=("D", "delta_bias")),
    "four turns of states": small(states=64, length=3),
    "no states": small(states=0),
    "two blocks of channels": small(dim=37, length=11, states=2),
    "groups": small(dim=12, groups=3, states=2),
    "nothing optional": small(options=()),
    "nothing optional, no softplus": small(options=(), softplus=False),
    "D": small(options=("D",), softplus=False),
    "z": small(options=("z",)),
    "bias": small(options=("delta_bias",), softplus=False),
    "B fixed": small(fixed=("B",), states=3, length=34),
    "C fixed": small(fixed=("C",), states=3, groups=2, dim=6),
    "B and C fixed": small(fixed=("B", "C"), states=2),
    "tiny steps": small(delta_shift=-15.0, options=()),
    "large steps": small(delta_shift=60.0),
}


def assert_small(errors, tolerance):
    assert {name: e for name, e in errors.items() if not e <= tolerance} == {}


@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients(name, interpreted):
    assert_small(interpreted("errors", CASES[name]), FLOAT32)


@pytest.mark.parametrize(
    "fields", [{}, {"states": 3, "length": 40, "groups": 1}, {"fixed": ("B", "C")}]
)
def test_segments_of_the_sequence(fields, interpreted):
    case = small(**{"length": 26, "groups": 2, "dim": 4} | fields)
    assert interpreted("segments_of", case, **SEGMENTED) >= 2
    assert_small(interpreted("errors", case, **SEGMENTED), FLOAT32)


@pytest.mark.parametrize("name", ["B", "C"])
def test_infinity_goes_through_segments_as_through_a_whole(name, interpreted):
    # With large steps the decays of a whole segment multiply to zero.
    case = small(length=40, delta_shift=20.0)
    t = case.arguments[name]
    t[..., 10].flatten()[0] = t[..., 20].flatten()[0] = float("inf")
    assert interpreted("segments_of", case, **SEGMENTED) == 5
    assert interpreted("special_values_that_segments_change", case, **SEGMENTED) == []


@pytest.mark.parametrize(("begins", "ends"), [(15, 26), (36, 40)])
def test_states_grow_through_segments_as_through_a_whole(begins, ends, interpreted):
    # The decays of a segment multiply to what no float32 holds, and are finite each.
    case = small(length=40, delta_shift=5.0, options=())
    case.arguments["A"].fill_(2.5)
    case.arguments["u"].zero_()[..., begins] = 1e-38
    case.arguments["delta"][..., ends:] = -30.0
    errors = interpreted("errors", case, **SEGMENTED)
    assert_small({name: errors[name] for name in ("y", "last_state")}, 1e-4)


def test_segments_where_channels_do_not_fill_a_gpu(interpreted):
    counts = [interpreted("segments_of_shape", 1, dim, 4096) for dim in (16, 384, 8192, 1 << 17)]
    assert counts == [32, 32, 8, 1]
    assert interpreted("segments_of_shape", 1, 16, 197) == 1


def test_the_steps_of_the_longest_sequence_are_counted_in_32_bits(interpreted):
    ends = interpreted("ends_of_longest_sequences")
    assert min(ends) >= 1_600_000_000
    assert max(ends) < 2**31
    assert "1600000001 steps are too many" in interpreted("message_of_too_many_steps")


def test_float64_is_computed_in_float64(interpreted):
    case = small(dtype=torch.float64, length=35, states=2, groups=1)
    assert_small(interpreted("errors", case), 1e-13)


# The interpreter cuts to bfloat16 where compiled kernels round.
CUT_TO_BFLOAT16 = 2**-7


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, CUT_TO_BFLOAT16), (torch.float16, 2**-11)]
)
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, interpreted):
    case = small(dtype=dtype, length=20, states=3)
    assert_small(interpreted("errors", case), tolerance)
    assert interpreted("float32_error", case) <= FLOAT32


def test_mixed_dtypes(interpreted):
    case = small(dtype=torch.bfloat16)
    case.arguments["delta"] = case.arguments["delta"].float()
    case.arguments["B"] = case.arguments["B"].half()
    errors = interpreted("errors", case)
    assert errors["ddelta"] <= FLOAT32
    assert_small(errors, CUT_TO_BFLOAT16)


@pytest.mark.parametrize("layout", ["channels last", "every second step", "time outermost"])
def test_strided_inputs_give_the_same_bits(layout, interpreted):
    assert interpreted("differing_bits", small(dim=7, states=2), layout) == []


def test_two_runs_give_the_same_bits(interpreted):
    case = small(dim=40, states=2)
    assert interpreted("differing_bits", case, "as it is") == []


@pytest.mark.parametrize("empty", ["batch", "length", "dim"])
def test_empty_inputs(empty, interpreted):
    case = small(**{empty: 0})
    results = interpreted("shapes_of_results", case)
    assert results["y"][0] == tuple(case.arguments["u"].shape)
    assert results["last_state"][0] == (case.batch, case.dim, case.states)
    for name, t in case.arguments.items():
        assert results[f"d{name}"] == (tuple(t.shape), 0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_and_infinity_reach_the_output(name, poison, interpreted):
    same, error = interpreted("poisoned", small(length=6, dim=3), name, poison)
    assert same
    assert error <= FLOAT32


def test_raw_op_without_checkpoints_refuses_a_backward_pass(interpreted):
    message = interpreted("message_without_checkpoints", small(length=3))
    assert "without checkpoints" in message


def test_second_derivative_is_refused(interpreted):
    message = interpreted("message_of_second_derivative", small(length=3))
    assert "no double backward; use backend='torch'" in message


def test_registration(interpreted):
    results = interpreted("check_registration", small(length=3))
    assert set(results.values()) == {"SUCCESS"}


def test_functions_keep_the_digits_of_small_values(interpreted):
    # At -40, log(1 + exp(x)) would be zero.
    assert max(interpreted("function_errors", torch.float32)) < 3e-6
    assert max(interpreted("function_errors", torch.float64)) < 1e-13


@pytest.mark.parametrize("done", [0, 1])
@pytest.mark.parametrize(("count", "steps"), [(2, 5), (6, 5), (24, 5), (32, 5), (32, 6)])
def test_sums_over_lanes(count, done, steps, interpreted):
    assert interpreted("lane_sums_are_right", count, done, steps)


def test_the_package_does_without_triton():
    code = (
        "import sys; sys.modules['triton'] = None; import mamba_mm.ops; "
        "assert 'mamba_mm.ops.triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
