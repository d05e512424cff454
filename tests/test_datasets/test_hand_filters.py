"""HaMeR's filters, by hand."""

import numpy as np
import pytest

from mamba_mm.datasets.hand_mesh.filters import HandFilters

HAMER = HandFilters()


def confident(count, value=1.0):
    return np.where(np.arange(21) < count, value, 0.0)


def test_weak_joints_are_dropped_and_the_threshold_is_not_weak():
    np.testing.assert_array_equal(
        HAMER.suppressed(np.array([0.0, 0.29, 0.3, 0.31, 2.0])), [0, 0, 0.3, 0.31, 2]
    )


def test_more_than_four_joints_are_needed_after_weak_ones_are_dropped():
    assert not HAMER.keeps(confident(4), np.nan)
    assert HAMER.keeps(confident(5), np.nan)
    assert not HAMER.keeps(confident(4) + confident(21, 0.2), np.nan)
    assert HandFilters(min_confidence=0.0).keeps(confident(4) + confident(21, 0.2), np.nan)


def test_badly_fitted_hands_are_left_out():
    losses = np.array([30999.9, 31000.0, np.inf, np.nan])
    np.testing.assert_array_equal(HAMER.keeps(np.ones((4, 21)), losses), [True, False, False, True])


def test_pose_and_shape_are_trusted_together():
    usual, unusual = np.full(10, -3.0), np.r_[np.zeros(9), -3.01]
    assert HAMER.trusts_parameters(1, 1, usual)
    assert not HAMER.trusts_parameters(1, 1, unusual)
    assert not HAMER.trusts_parameters(1, 0, usual)
    assert not HAMER.trusts_parameters(0, 1, usual)
    np.testing.assert_array_equal(
        HAMER.trusts_parameters(np.ones(2), np.ones(2), np.stack([usual, unusual])), [True, False]
    )


@pytest.mark.parametrize("value", [-1, np.nan, "3", None])
def test_thresholds_are_checked(value):
    with pytest.raises(ValueError, match="max_abs_beta must be a number from 0 up"):
        HandFilters(max_abs_beta=value)
