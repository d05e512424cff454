"""Timing on a noisy machine: all contenders in one process, in turns, ratios from pairs."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

MALLOC_THRESHOLD = str(1 << 30)  # plain bytes: glibc ignores suffixes without a word


def keep_freed_memory() -> None:
    """Restart this process so that glibc keeps freed memory instead of returning it.

    Otherwise a benchmark of large outputs times the page faults of fresh memory.
    """
    wanted = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), MALLOC_THRESHOLD)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


TURN_SECONDS = 0.02


@dataclass
class Timing:
    """Seconds per call in every turn of one contender, in the order of the rounds."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """The median turn, in seconds per call."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The fastest turn, in seconds per call."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


def time_interleaved(
    contenders: dict[str, Callable[[], object]], rounds: int, budget: float
) -> dict[str, Timing]:
    """Run the contenders in turns.

    A turn calls a fast contender several times and counts the mean: a single call of it
    would time the caches and sleeping threads that the contender before it left behind.

    Args:
        contenders: What to run, by name.
        rounds: How many turns each gets at most.
        budget: Seconds after which a contender stops taking part, once it had two turns.
    """
    timings = {name: Timing([]) for name in contenders}
    calls = {name: _calls_per_turn(run) for name, run in contenders.items()}
    for _ in range(rounds):
        for name, run in contenders.items():
            seconds = timings[name].seconds
            if len(seconds) < 2 or sum(seconds) * calls[name] < budget:
                seconds.append(_time(run, calls[name]))
    return timings


def _calls_per_turn(run: Callable[[], object]) -> int:
    _time(run, 1)  # warm up
    return max(1, int(TURN_SECONDS / _time(run, 1)))


def _time(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def ratio(slower: Timing, faster: Timing) -> float:
    """Median of the ratios of turns of the same round."""
    return statistics.median(a / b for a, b in zip(slower.seconds, faster.seconds, strict=False))
