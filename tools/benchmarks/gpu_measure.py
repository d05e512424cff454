"""One case of the GPU benchmark: all contenders in turns, and what comes of it."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from subprocess import SubprocessError

import torch
from gpu_cases import Case, Inputs, make_inputs
from gpu_contenders import OURS, Contender, contenders_for, exact_output, output_error
from gpu_timing import Clock, Effort, Run, one_after_the_other, time_in_turns
from gpu_work import Limits, Work, backward_work, forward_work
from torch import Tensor

from mamba_mm.measuring.interleaved import Timing, ratio
from mamba_mm.measuring.memory_errors import is_out_of_memory
from mamba_mm.measuring.peak_memory import peak_bytes

FORWARD, TRAINING = "forward", "forward+backward"
PASSES = (FORWARD, TRAINING)
MOST_COPIES = 64  # of the inputs of a call
OUT_OF_MEMORY = "out of memory"
MOST_SAID = 2000  # characters of an error: a compiler's may be whole programs
# What a contender may raise without ending the benchmark: the time of a GPU is scarce.
# Triton's compiler asserts, and calls other compilers, which may be missing.
FAILURES: tuple[type[Exception], ...] = (
    *(RuntimeError, ValueError, TypeError, AttributeError, AssertionError),
    *(MemoryError, OSError, SubprocessError),
)
if importlib.util.find_spec("triton"):
    from triton.errors import TritonError

    FAILURES += (TritonError,)


@dataclass(frozen=True)
class Record:
    """One contender in one pass over one case; without numbers when it failed.

    Attributes:
        case: Which case.
        dtype: Of maps and projections.
        work: Which pass.
        contender: Who.
        turns: How often it was timed.
        milliseconds: Of the median turn.
        lower_quartile: As ``milliseconds``.
        upper_quartile: As ``milliseconds``.
        x_ours: How many times as long as ours: median over turns of the same round.
        shares: Of ours, the share of each limit of the GPU that it reaches.
        error: Largest error of the output against float64, over its largest value.
        peak_mib: Most memory held at once beyond the inputs.
        failure: Why there are no numbers, else empty.
    """

    case: str
    dtype: str
    work: str
    contender: str
    turns: int = 0
    milliseconds: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    x_ours: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    error: float | None = None
    peak_mib: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Bench:
    """Where and how long to measure.

    Attributes:
        device: ``"cuda"`` or ``"cpu"``.
        clock: Its clock.
        limits: What it can do at best.
        effort: How long to measure.
        cache_bytes: Size of its last cache.
        left_out: Contenders that take no part.
    """

    device: str
    clock: Clock
    limits: Limits
    effort: Effort
    cache_bytes: int
    left_out: frozenset[str] = frozenset()


def measure_case(case: Case, dtype: torch.dtype, work: str, bench: Bench) -> list[Record]:
    """Time all contenders in turns; one that fails does so alone."""
    if bench.device == "cuda":
        torch.cuda.empty_cache()  # graphs of the case before leave memory that others cannot use
    inputs = make_inputs(case, dtype, bench.device)
    exact = exact_output(case, inputs)
    copies = _copies(case, inputs, bench)
    records, runs = [], {}
    for name, contender in contenders_for(case, bench.device).items():
        if name in bench.left_out:
            continue
        record = Record(str(case), str(dtype).removeprefix("torch."), work, name)
        try:
            calls = [_pass_of(contender, own, work) for own in copies]
            peak = _peak(calls[0], bench.device)
            record = replace(
                record, peak_mib=peak / 2**20, error=output_error(contender, inputs, exact)
            )
            join = bench.clock.replayable if contender.in_graph else one_after_the_other
            runs[name] = Run(join(calls), len(calls))
        except FAILURES as error:
            record = failed(record, error)
        records.append(record)
    timings = time_in_turns(runs, bench.effort, bench.clock)
    needed = work_of(case, work, dtype.itemsize)
    return [r if r.failure else with_times(r, timings, needed, bench.limits) for r in records]


def failed(record: Record, error: Exception) -> Record:
    """Return the record of a contender that raised an error, and print the error."""
    if is_out_of_memory(error):
        return replace(record, failure=OUT_OF_MEMORY)
    text = f"{type(error).__name__}: {error}"
    print(f"{record.contender} failed: {text[:MOST_SAID]}", flush=True)
    return replace(record, failure=text.splitlines()[0])


def _copies(case: Case, inputs: Inputs, bench: Bench) -> list[Inputs]:
    """Return so many copies that a round through them leaves nothing in the cache."""
    enough = math.ceil(2 * bench.cache_bytes / max(inputs.bytes, 1))
    others = range(1, max(1, min(enough, MOST_COPIES)))
    dtype = inputs.x.dtype
    return [inputs, *(make_inputs(case, dtype, bench.device, seed) for seed in others)]


def _pass_of(contender: Contender, inputs: Inputs, work: str) -> Callable[[], object]:
    own = contender.prepare(inputs)
    if work == FORWARD:
        return torch.no_grad()(partial(contender.run, own))
    leaves = own.map(lambda t: t.detach().requires_grad_())
    generator = torch.Generator(own.x.device).manual_seed(1)
    gradient = torch.empty_like(own.x).normal_(generator=generator)

    def run() -> tuple[Tensor, ...]:
        y = contender.run(leaves)
        # Not backward(), which would keep adding to the gradients of the leaves.
        return torch.autograd.grad(y, leaves.tensors(), gradient.to(y.dtype))

    return run


def _peak(run: Callable[[], object], device: str) -> int:
    run()  # the first call may hold more: tables of routes, workspaces of libraries
    return peak_bytes(run, device)


def work_of(case: Case, work: str, io_bytes: int) -> Work:
    """Return what a pass needs at least."""
    forward = forward_work(case, io_bytes)
    return forward if work == FORWARD else forward + backward_work(case, io_bytes)


def with_times(
    record: Record, timings: dict[str, Timing], needed: Work | None, limits: Limits
) -> Record:
    """Return a record with the times of its contender; ours also with its shares."""
    timing = timings[record.contender]
    low, middle, high = statistics.quantiles(timing.seconds, n=4, method="inclusive")
    is_ours = record.contender == OURS
    return replace(
        record,
        turns=len(timing.seconds),
        milliseconds=1e3 * middle,
        lower_quartile=1e3 * low,
        upper_quartile=1e3 * high,
        x_ours=ratio(timing, timings[OURS]) if OURS in timings else None,
        shares=needed.shares(middle, limits) if is_ours and needed else {},
    )
