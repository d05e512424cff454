"""Timing in turns."""

import time

import pytest

from mamba_mm.measuring.interleaved import Timing, ratio, time_interleaved


def test_turns_alternate_and_end_with_the_rounds():
    order = []

    def run(name):
        order.append(name)
        time.sleep(0.021)  # longer than a turn: one call each

    timings = time_interleaved({n: lambda n=n: run(n) for n in "ab"}, rounds=3, budget=10)
    assert [len(timings[name].seconds) for name in "ab"] == [3, 3]
    assert order[-6:] == list("ababab")
    assert all(seconds >= 0.021 for seconds in timings["a"].seconds)


def test_a_slow_contender_stops_after_two_turns():
    slow, fast = (lambda: time.sleep(0.03)), (lambda: time.sleep(0.002))
    timings = time_interleaved({"slow": slow, "fast": fast}, rounds=4, budget=0.05)
    assert len(timings["slow"].seconds) == 2
    assert len(timings["fast"].seconds) > 2
    assert timings["fast"].median < timings["slow"].median / 3


def test_the_ratio_is_of_turns_of_the_same_round():
    slower, faster = Timing([2.0, 40.0, 9.0, 100.0]), Timing([1.0, 10.0, 3.0])
    assert ratio(slower, faster) == 3
    assert ratio(faster, faster) == 1


def test_median_best_and_spread():
    timing = Timing([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (timing.median, timing.best) == (3, 1)
    assert timing.spread == pytest.approx(2 / 3)
    assert Timing([1.0]).spread == 0
