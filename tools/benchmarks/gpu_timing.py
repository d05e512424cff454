"""Clocks for GPU and CPU, and contenders that take turns on inputs larger than the caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from mamba_mm.measuring.interleaved import Timing

TURN_SECONDS = 2e-3
WARM_SECONDS = 0.1


class Clock(Protocol):
    """Times calls on one kind of device."""

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        """Return the mean seconds of so many calls in a row."""

    def replayable(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        """Return a call that makes all these calls with as little overhead as can be."""


class EventClock:
    """Times by CUDA events, and replays calls as one CUDA graph."""

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        """Return the mean seconds between events around the calls."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls

    def replayable(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        """Capture the calls."""
        return cuda_graph_of(calls)


def cuda_graph_of(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    """Capture calls as one CUDA graph and return its replay, which does not wait."""
    # Before a capture libraries must have made their first calls, on a stream of its kind.
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for call in (calls[0], *calls):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph.replay


class WallClock:
    """Times by the clock on the wall, for the CPU."""

    def seconds(self, run: Callable[[], object], calls: int) -> float:
        """Return the mean seconds of the calls."""
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    def replayable(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        """Make the calls one after the other."""
        return one_after_the_other(calls)


def one_after_the_other(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """Return a call that makes all these calls."""

    def run() -> None:
        for call in calls:
            call()

    return run


@dataclass(frozen=True)
class Run:
    """What one contender does in a turn.

    Attributes:
        call: Does the work ``works`` times, each time on other inputs.
        works: How often.
    """

    call: Callable[[], object]
    works: int


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Turns of each contender at most.
        budget: Seconds after which a contender stops taking part, once it had two turns.
    """

    rounds: int
    budget: float


def time_in_turns(runs: dict[str, Run], effort: Effort, clock: Clock) -> dict[str, Timing]:
    """Return, for every contender, the seconds of one work in every turn."""
    timings = {name: Timing([]) for name in runs}
    for run in list(runs.values())[:1]:
        _warm_up(run, clock)
    calls = {name: _calls_per_turn(run, clock) for name, run in runs.items()}
    for _ in range(effort.rounds):
        for name, run in runs.items():
            seconds, works = timings[name].seconds, run.works * calls[name]
            if len(seconds) < 2 or sum(seconds) * works < effort.budget:
                seconds.append(clock.seconds(run.call, calls[name]) / run.works)
    return timings


def _warm_up(run: Run, clock: Clock) -> None:
    """Keep the device busy for a while: an idle GPU lowers its clocks."""
    spent = 0.0
    while spent < WARM_SECONDS:
        spent += clock.seconds(run.call, 1)


def _calls_per_turn(run: Run, clock: Clock) -> int:
    clock.seconds(run.call, 1)  # warm up
    return max(1, int(TURN_SECONDS / clock.seconds(run.call, 1)))
