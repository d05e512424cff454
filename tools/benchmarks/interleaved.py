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


@dataclass
class Timing:
    """Seconds of every run of one contender, in the order of the rounds."""

    seconds: list[float]

    @property
    def median(self) -> float:
        """The median run, in seconds."""
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        """The fastest run, in seconds."""
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

    Args:
        contenders: What to run, by name.
        rounds: How often each runs at most.
        budget: Seconds after which a contender stops taking part, once it has run twice.
    """
    timings = {name: Timing([]) for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(rounds):
        for name, run in contenders.items():
            seconds = timings[name].seconds
            if len(seconds) >= 2 and sum(seconds) > budget:
                continue
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    return timings


def ratio(slower: Timing, faster: Timing) -> float:
    """Median of the ratios of runs of the same round."""
    return statistics.median(a / b for a, b in zip(slower.seconds, faster.seconds, strict=False))
