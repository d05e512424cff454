"""Sums over the lanes of a warp, of many vectors at once, always in the same order.

Summing V vectors of W lanes one after the other takes V log2(W) exchanges. Here two vectors
share every exchange: each half of the lanes keeps one of the two and hands the other over. After
the first step V/2 vectors are left, and V - 1 + log2(W/V) exchanges do for all; lane v ends up
with the sum of vector v. (Recursive halving, as in reduce-scatter of message passing.)
"""

# Triton's language has no starred tuples.
# ruff: noqa: RUF005

import triton
import triton.language as tl


@triton.jit
def share(first, second, lane, BIT: tl.constexpr):
    """One exchange: lanes without BIT keep pairwise sums of the first vector, others of the second.

    A pair of lanes is two that differ in BIT alone.
    """
    keeps_second = (lane & BIT) != 0
    kept = tl.where(keeps_second, second, first)
    given = tl.where(keeps_second, first, second)
    return kept + tl.gather(given, lane ^ BIT, 0)


@triton.jit
def sum_lanes(vectors, lane, DONE: tl.constexpr, STEPS: tl.constexpr):
    """Sum each of several vectors over its lanes.

    Args:
        vectors: Tuple of at most 2^STEPS vectors of 2^STEPS lanes.
        lane: ``tl.arange(0, 2**STEPS)``; exchanges stay within a warp if it has as many lanes.
        DONE: How many steps the vectors have behind them: with 1, the vectors are pairs already
            joined by ``share(first, second, lane, 1)``.
        STEPS: Binary logarithm of the number of lanes.

    Returns:
        A vector that holds the sum of vector v in lane v; behind the last vector is nothing of use.
    """
    for step in tl.static_range(DONE, STEPS):
        vectors = _halve(vectors, lane, 1 << step)
    return vectors[0]


@triton.jit
def _halve(vectors, lane, BIT: tl.constexpr):
    halves = ()
    for i in tl.static_range(len(vectors) // 2):
        halves = halves + (share(vectors[2 * i], vectors[2 * i + 1], lane, BIT),)
    if len(vectors) % 2 == 1:
        # The odd one out is summed on both sides.
        odd = vectors[len(vectors) - 1]
        halves = halves + (odd + tl.gather(odd, lane ^ BIT, 0),)
    return halves
