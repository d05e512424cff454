"""The Triton route scan against its definition in float64, in Triton's interpreter.

The interpreter must be chosen before Triton is imported, so one process is started for it.
"""

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import pytest
import torch
from route_cases import FLOAT32, SLACK, DynamicCase, RouteCase

# What makes segments of a short sequence, or launches of one sequence each.
SEGMENTED = {"SHORTEST_SEGMENT": 4}
ONE_AT_A_TIME = {"SEQUENCES_AT_A_TIME": 1}

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs triton, which is not installed"
)


@pytest.fixture(scope="module")
def interpreted():
    """Call a function of ``triton_route_interpreted`` by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            yield lambda *args, **keywords: pool.submit(ask, *args, **keywords).result()


def ask(name, *arguments, **keywords):
    import triton_route_interpreted

    return getattr(triton_route_interpreted, name)(*arguments, **keywords)


def small(name="cross", size=(2, 3), **fields):
    return RouteCase(name, size, **({"batch": 1, "dim": 5, "states": 1, "rank": 2} | fields))


def assert_small(errors, tolerance=FLOAT32):
    wrong = {n: e for n, e in errors.items() if not e <= tolerance * SLACK.get(n, 1)}
    assert not wrong, f"{wrong} over {tolerance}"


CASES = {
    "four plain walks, odd size": small(size=(5, 3)),
    "a class token": small("vim"),
    "windows of pixels, of unequal lengths": small("atrous2", (3, 3)),
    "step codes, the rest in raster order": small("serpentine"),
    "a sequence that passes everything three times": small("msvmamba_v1, half map"),
    "joined, with pads": small("joined, of unequal lengths, with pads"),
    "shifted, with pads": small("shifted, with pads"),
    "shared parameters": small("one group"),
    "outputs divided": small("mean", (1, 2), states=2),
    "some tokens": small("some tokens", (4, 4)),
    "one row": small(size=(1, 3)),
    "one column": small(size=(3, 1)),
    "one token": small(size=(1, 1)),
    "several windows": small("unidirectional", (5, 7)),
    "several checkpoints of three states": small("unidirectional", (5, 7), states=3, rank=1),
    "several blocks of channels and samples": small("unidirectional", dim=37, batch=2),
    "sixteen states": small("unidirectional", (2, 3), states=16, rank=6),
    "two turns of states": small("unidirectional", (2, 3), states=17, dim=3),
    "two turns of states along a table": small("some tokens", (2, 5), states=17, dim=2, rank=None),
    "a large rank": small("unidirectional", (2, 2), rank=24),
    "a prime rank": small("unidirectional", (2, 2), rank=11),
    "delta given": small("bidirectional", rank=None, states=2),
    "delta given along tables": small("msvmamba_v1, half map", rank=None),
    "nothing optional": small("bidirectional", options=(), softplus=False),
    "no states": small("bidirectional", states=0),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, interpreted):
    assert_small(interpreted("errors", CASES[name]))


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("mean", torch.float64, 1e-12),
        ("atrous2", torch.float64, 1e-12),
        ("bidirectional", torch.bfloat16, 2**-8),
        ("atrous2", torch.float16, 2**-11),
    ],
)
def test_dtypes(name, dtype, tolerance, interpreted):
    assert_small(interpreted("errors", small(name, (2, 2), dtype=dtype)), tolerance)


@pytest.mark.parametrize("name", ["bidirectional", "some tokens"])
def test_a_float32_output_of_16_bit_inputs(name, interpreted):
    case = small(name, dtype=torch.bfloat16)
    found = interpreted("errors", case, out_dtype=torch.float32)
    rounded = ("dx", "dparams", "ddelta")
    assert_small({n: error for n, error in found.items() if n not in rounded})
    assert_small(found, 2**-8)


ORDERS = {
    "with pads": (((-1, 3, 1, -1, 4),), 6),
    "an order and pads a sample": (((3, -1, 4, 0), (-1, 2, 5, 1)), 6),
}


@pytest.mark.parametrize("which", ORDERS)
def test_orders_of_the_call(which, interpreted):
    orders, tokens = ORDERS[which]
    like = RouteCase(batch=2, dim=5, states=1)
    assert_small(interpreted("dynamic_errors", DynamicCase(orders, tokens, like=like)))


def test_segments_of_an_order_a_sample(interpreted):
    backwards = tuple(range(19, -1, -1))
    orders = (backwards, (*backwards[5:], -1, *backwards[:4]))
    case = DynamicCase(orders, 20, like=RouteCase(batch=2, dim=5, states=1))
    assert_small(interpreted("dynamic_errors", case, SEGMENTED))


@pytest.mark.parametrize(
    "case",
    [
        small(size=(3, 4), states=2),
        small("unidirectional", (5, 7), states=3, rank=None),
        small("vim", (5, 7), batch=2),
        small("shifted, with pads", (5, 7)),
        small("input only, shifted", (3, 7), rank=None),
        # Some of its sequences come to positions twice, and are not cut.
        small("joined, of unequal lengths, with pads", (5, 6)),
    ],
    ids=str,
)
def test_segments(case, interpreted):
    assert interpreted("segments_of", case, SEGMENTED) > 1
    assert_small(interpreted("errors", case, SEGMENTED))


def test_sequences_that_come_back_are_not_cut(interpreted):
    # Every token twice in the first sequence, at most once in the second one.
    name = "joined, of unequal lengths, with pads"
    # Slow decays: else the state before a segment is gone before it changes a bit.
    case = small(name, (5, 6), delta_shift=-6.0)
    assert interpreted("segments_of", case, SEGMENTED) > 1
    assert interpreted("sequences_with_the_bits_of_a_whole", case, SEGMENTED) == [True, False]


def test_which_tables_come_to_a_position_twice(interpreted):
    tables = [[[0, 2, 1], [2, -1, -1], [1, 0, 1]], [[7, 7, 0], [0, 0, -1], [5, 4, 3]]]
    assert interpreted("repeats_of", tables, 6) == [[0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("entry", [2, 3], ids=["B", "C"])
def test_infinity_goes_through_segments_as_through_a_whole(entry, interpreted):
    # With large steps the decays of a whole segment multiply to zero.
    case = small("unidirectional", (8, 5), delta_shift=20.0)
    places = [(0, 0, entry, row, 0) for row in (2, 4)]
    assert interpreted("segments_of", case, SEGMENTED) == 5
    name = "special_values_that_segments_change"
    assert interpreted(name, case, "params", places, SEGMENTED) == []


@pytest.mark.parametrize(
    ("walks", "constants"),
    [
        (["row", "wrap_diag", "~col"], SEGMENTED),
        (["~wrap_diag", "col", "row"], ONE_AT_A_TIME),
    ],
)
def test_tables_beside_plain_walks(walks, constants, interpreted):
    assert_small(interpreted("mixed_errors", walks, (3, 4), constants))


@pytest.mark.parametrize("layout", ["as it is", "channels last", "every second column"])
def test_the_same_bits_every_time_and_in_every_layout(layout, interpreted):
    assert interpreted("differing_bits", small("unidirectional", dim=33), layout) == []
    assert interpreted("differing_bits", small("atrous2", rank=None), layout) == []


@pytest.mark.parametrize(
    ("where", "place", "value"),
    [
        ("x", (0, 1, 1, 0), float("nan")),
        ("x", (0, 1, 1, 0), float("inf")),
        ("params", (0, 0, 0, 1, 0), float("nan")),  # the low rank of delta
        ("params", (0, 0, 2, 1, 0), float("inf")),  # B
        ("params", (0, 0, 3, 1, 0), float("inf")),  # C
        ("A", (0, 2, 0), float("-inf")),
        ("A", (0, 2, 0), float("nan")),
        ("D", (0, 2), float("inf")),
        ("delta_bias", (0, 2), float("-inf")),
        ("delta_weight", (0, 2, 1), float("inf")),
    ],
)
def test_nan_and_infinity_go_where_the_definition_sends_them(where, place, value, interpreted):
    case = small("unidirectional")
    same, error, broken = interpreted("poisoned", case, where, place, value)
    assert same
    assert error < FLOAT32
    assert broken == []


@pytest.mark.parametrize("empty", ["batch", "dim"])
def test_empty_inputs(empty, interpreted):
    case = replace(small(), **{empty: 0})
    results = interpreted("results_without_elements", case)
    for name, t in case.arguments().items():
        if t is not None:
            assert results[f"d{name}"] == (tuple(t.shape), 0)


def test_one_table_stands_for_all_three(interpreted):
    # It comes to a position twice, and names one that does not exist.
    assert interpreted("one_table_is_three_equal_ones")


def test_what_does_not_go_together_is_said(interpreted):
    assert "needs the table `read`" in interpreted("message_without_a_table")


def test_too_many_steps_are_refused(interpreted):
    assert "1600000001 steps are too many" in interpreted("message_of_too_many_steps")
    assert "6 positions and 4 steps" in interpreted("message_of_too_few_steps")
    assert "ran without checkpoints" in interpreted("message_without_checkpoints")
    assert "no double backward" in interpreted("message_of_second_derivative", small(size=(1, 2)))


def test_registration(interpreted):
    assert set(interpreted("check_registration").values()) == {"SUCCESS"}
