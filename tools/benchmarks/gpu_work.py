"""What a GPU can do at best, and what the scans need of it at least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gpu_cases import Case
from gpu_timing import Clock

COPY_BYTES = 1 << 30
EXP_LANES, ISSUE_LANES = 16, 128  # of a multiprocessor, per cycle
CHECKPOINT_STEPS = 32
STATE_BYTES = 4


@dataclass(frozen=True)
class Limits:
    """Rates of a GPU.

    Attributes:
        copy: Bytes read plus bytes written per second, measured by a large copy.
        exp: Exponentials and logarithms per second, from multiprocessors and clock.
        issue: float32 instructions of single lanes per second, likewise.
    """

    copy: float
    exp: float
    issue: float


def limits_of_gpu(clock: Clock) -> Limits:
    """Measure the copy bandwidth and compute the other rates at the highest clock."""
    properties = torch.cuda.get_device_properties()
    cycles = properties.multi_processor_count * properties.clock_rate * 1e3
    copy = copy_bandwidth("cuda", COPY_BYTES, clock)
    return Limits(copy, EXP_LANES * cycles, ISSUE_LANES * cycles)


def copy_bandwidth(device: str, size: int, clock: Clock) -> float:
    """Return bytes read plus bytes written per second by the best of some copies."""
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    clock.seconds(lambda: target.copy_(source), 3)
    return 2 * size / min(clock.seconds(lambda: target.copy_(source), 5) for _ in range(5))


@dataclass(frozen=True)
class Work:
    """What one pass needs at least."""

    bytes: float
    exponentials: float
    instructions: float

    def __add__(self, other: Work) -> Work:
        return Work(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def shares(self, seconds: float, limits: Limits) -> dict[str, float]:
        """Return the share of every limit that a pass of so many seconds reaches."""
        return {
            "copy": self.bytes / limits.copy / seconds,
            "exp": self.exponentials / limits.exp / seconds,
            "issue": self.instructions / limits.issue / seconds,
        }


def forward_work(case: Case, io_bytes: int) -> Work:
    """Return the work of a forward pass.

    Per element-route, with K sequences and D channels each:

    * values moved: with routes, the map read and the output written once for all sequences,
      2/K; without, input, step size and output, 3; and what the channels share, (R + 2 N)/D;
    * N exponentials of decays, an exponential and a logarithm of the softplus;
    * instructions: 38 for N = 1 and R = 6, else 30 + 6 N, counted in compiled prototypes. The
      growth with R is left out.
    """
    n = case.states
    shared = (case.rank + 2 * n) / case.dim
    moved = shared + (2 / case.sequences if case.rank else 3)
    issued = 38 if n == 1 else 30 + 6 * n
    return _work(case, io_bytes * moved, n + 2, issued)


def backward_work(case: Case, io_bytes: int) -> Work:
    """Return the work of a backward pass, the checkpoints that the forward pass writes included.

    Per element-route:

    * values moved: with routes, map, gradient of the output and gradient of the map, 3/K;
      without, input, step size and three gradients, 5; what the channels share and its
      gradient, 2 (R + 2 N)/D; and one float32 state in 32 steps written and read;
    * the exponentials of the forward pass and a reciprocal for the sigmoid;
    * instructions: 110 for N = 1, else 80 + 18 N, which is an assumption.
    """
    n = case.states
    shared = 2 * (case.rank + 2 * n) / case.dim
    moved = shared + (3 / case.sequences if case.rank else 5)
    checkpoints = 2 * STATE_BYTES * n / CHECKPOINT_STEPS
    issued = 110 if n == 1 else 80 + 18 * n
    return _work(case, io_bytes * moved + checkpoints, n + 3, issued)


def _work(case: Case, moved: float, exponentials: float, issued: float) -> Work:
    return Work(*(case.elements * each for each in (moved, exponentials, issued)))
