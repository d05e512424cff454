"""The work of VMamba's four-route mixer, and the least time that a machine needs for it.

Counted is per element-route, that is per channel, position and route: B D H W 4 of them. The
projection of the map to the R + 2 N inputs of every route costs R + 2 N multiply-adds each,
for a position needs D x 4 (R + 2 N), and is part of what is timed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from machine_limits import MachineLimits
from scan_report import Floor

ROUTES = 4
FLOAT_BYTES = 4
CHECKPOINT_STEPS = 32
# Multiply-adds of a forward element beside its states: for the softplus, loads and stores, and
# for the transposes of a scan whose channels do not lie side by side.
SCAN_FIXED = 40
FUSED_FIXED = 26


@dataclass(frozen=True)
class RouteShape:
    """Sizes of a four-route mixer's scan: batch, channels, states and map."""

    batch: int
    dim: int
    states: int
    height: int
    width: int

    @property
    def rank(self) -> int:
        """Rank R of the step sizes where the channels are twice the model's (ratio 2)."""
        return math.ceil(self.dim // 2 / 16)

    @property
    def positions(self) -> int:
        """Positions of one map."""
        return self.height * self.width

    @property
    def map_bytes(self) -> int:
        """Bytes of the input x, and as many of the output."""
        return FLOAT_BYTES * self.batch * self.dim * self.positions

    @property
    def elements(self) -> int:
        """Element-routes: what the floors count by."""
        return ROUTES * self.batch * self.dim * self.positions

    def __str__(self) -> str:
        batch = f"B={self.batch}, " if self.batch != 1 else ""
        return f"{batch}D={self.dim}, N={self.states}, {self.height}x{self.width}"


def forward_floor(shape: RouteShape, limits: MachineLimits, fixed: int = SCAN_FIXED) -> Floor:
    """Return the floor of the forward pass.

    Per element-route:

    * multiply-adds 10 N + 40 + R, as the benchmark of the selective scan counts: 7 an
      exponential, 3 a state, the softplus, and R for the step size; with ``fixed=26`` without
      the transposes that a channels-last map does not need, the stricter count of a fused op;
      and R + 2 N for the projection of the map;
    * exponentials N + 1;
    * bytes 8/K + 4 (R + 2 N)/D: the map read and the output written once for all K routes, and
      the inputs of the routes once. What the projection moves is left out: it may stay in
      cache.
    """
    n, rank = shape.states, shape.rank
    inputs = rank + 2 * n
    return Floor(
        shape.elements * (10 * n + fixed + rank + inputs) / limits.fma,
        shape.elements * (n + 1) / limits.exp,
        shape.elements * FLOAT_BYTES * (2 / ROUTES + inputs / shape.dim) / limits.bandwidth,
    )


def backward_floor(shape: RouteShape, limits: MachineLimits) -> Floor:
    """Return the floor of the backward pass, which computes step sizes and states again.

    Per element-route:

    * multiply-adds 18 N + 63, as the benchmark of the selective scan counts, 3 R: the step
      size again, the gradients of its R inputs and of its weight; and 2 (R + 2 N) for the
      gradients of the projection;
    * exponentials N + 2;
    * bytes 12/K + 8 (R + 2 N)/D + 4 N/32: map and gradient of the output read and gradient of
      the map written once for all K routes, the inputs of the routes and their gradients, and
      one state in 32 steps.
    """
    n, rank = shape.states, shape.rank
    inputs = rank + 2 * n
    moved = 3 / ROUTES + 2 * inputs / shape.dim + n / CHECKPOINT_STEPS
    return Floor(
        shape.elements * (18 * n + 63 + 3 * rank + 2 * inputs) / limits.fma,
        shape.elements * (n + 2) / limits.exp,
        shape.elements * FLOAT_BYTES * moved / limits.bandwidth,
    )
