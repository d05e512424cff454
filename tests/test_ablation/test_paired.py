"""Differences by seed, and whether they are beyond the spread."""

import math

import pytest

from mamba_mm.ablation.paired import PairedDifference, paired_difference


def test_only_seeds_that_both_have_are_compared():
    difference = paired_difference({0: 3.0, 1: 5.0, 7: 1.0}, {1: 4.0, 0: 1.0, 2: 9.0})
    assert difference.by_seed == {0: 2.0, 1: 1.0}


def test_mean_and_spread_by_hand():
    difference = PairedDifference({0: 1.0, 1: 2.0, 2: 3.0})
    assert difference.mean == 2.0
    assert difference.standard_error == pytest.approx(1 / math.sqrt(3))  # deviation 1, 3 seeds
    # Student's t for 95 % and two degrees of freedom, as tables have it.
    assert difference.margin_of_error == pytest.approx(4.3027 / math.sqrt(3), rel=1e-4)


@pytest.mark.parametrize(
    ("values", "higher_is_better", "verdict"),
    [
        ((1.0, 2.0, 3.0), False, "within the spread"),  # 2 is less than 2.48
        ((1.9, 2.0, 2.1), False, "worse"),
        ((1.9, 2.0, 2.1), True, "better"),
        ((-1.9, -2.0, -2.1), False, "better"),
        ((-1.9, -2.0, -2.1), True, "worse"),
        ((0.0, 0.0), False, "within the spread"),
        ((5.0,), False, "no spread known"),
        ((), False, "no spread known"),
        ((1.0, math.nan), False, "no spread known"),
    ],
)
def test_the_verdict_is_plain(values, higher_is_better, verdict):
    difference = PairedDifference(dict(enumerate(values)))
    assert difference.verdict(higher_is_better=higher_is_better) == verdict


def test_what_a_seed_does_to_both_cancels_out():
    full = {0: 10.0, 1: 14.0, 2: 18.0}
    other = {seed: value + 0.5 + 0.01 * seed for seed, value in full.items()}
    difference = paired_difference(other, full)
    assert difference.mean == pytest.approx(0.51)
    assert difference.verdict(higher_is_better=False) == "worse"


def test_one_seed_has_no_spread_and_none_no_mean():
    one, none = PairedDifference({3: 1.5}), PairedDifference({})
    assert one.mean == 1.5
    assert math.isnan(one.standard_error)
    assert math.isnan(one.margin_of_error)
    assert math.isnan(none.mean)
    assert math.isnan(none.standard_error)
