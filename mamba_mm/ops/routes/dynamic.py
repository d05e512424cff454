"""Walks that depend on the data: the order of the tokens is an argument of the call.

An order has shape (L,), or (B, L) with one for each sample. Entries are at least -1, a padded
step, and below the number of tokens; none repeats within a sample. No gradient flows through
indices.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from .gather import route_gather
from .index import RouteIndex, check_index, index_of
from .route_set import RouteSet


def dynamic_index(routes: RouteSet, order: Tensor, tokens: int) -> RouteIndex:
    """Let the routes of a dynamic set walk tokens in an order of their own.

    To the routes the order is a map of one row: ``row`` follows it and ``~row`` goes back. An
    extra token stands in the middle of the order, as it does in the middle of a map.

    Args:
        routes: A set with ``dynamic=True``.
        order: Tokens in their order, (L,) or (B, L), integers.
        tokens: Number of tokens T that ``order`` may name. An extra token is index T.

    Returns:
        What ``route_gather`` and ``route_merge`` take: index of shape (K, L) or (B, K, L).

    Raises:
        ValueError: The set is not dynamic, or moves dt, B, C or outputs otherwise than its
            input (``input_only``, ``shift``), or the order is not valid.
    """
    if not routes.dynamic:
        raise ValueError("dynamic_index: the set has dynamic=False; use its tables(height, width)")
    if routes.permute != "all" or routes.shift:
        raise ValueError(
            f"dynamic_index: the set has permute={routes.permute!r} and shift={routes.shift}, "
            "expected 'all' and 0"
        )
    check_index(order, tokens)
    tables = dataclasses.replace(routes, dynamic=False).tables(1, order.shape[-1], order.device)
    if routes.extra_tokens:
        order = F.pad(order, (0, 1), value=tokens)
    index = order[..., tables.read.clamp_min(0)].masked_fill(tables.read < 0, -1)
    return index_of(index, tokens + routes.extra_tokens, tables.reading.visits)


def pruned_table(keep: Tensor) -> Tensor:
    """Return the kept tokens in ascending order.

    Args:
        keep: Which tokens are kept, (B, T), bool; equally many in all samples.

    Returns:
        Their indices, (B, n), int64.

    Raises:
        ValueError: The mask is not of that kind, or samples keep different numbers.
    """
    if keep.dim() != 2 or keep.dtype.is_floating_point or keep.dtype.is_complex:
        raise ValueError(
            f"pruned_table: keep has shape {tuple(keep.shape)} and dtype {keep.dtype}, expected "
            "(B, T) and bool"
        )
    keep = keep.bool()
    counts = keep.sum(dim=1)
    least, most = (int(count) for count in counts.aminmax())
    if least != most:
        raise ValueError(
            f"pruned_table: samples keep from {least} to {most} tokens, expected equally many"
        )
    return keep.nonzero()[:, 1].unflatten(0, (len(keep), most))


def sorted_order(keys: Tensor) -> Tensor:
    """Return the tokens in ascending order of their keys, of equal ones the lower index first.

    Args:
        keys: Such as the labels of clusters, (B, T) or (T,).

    Returns:
        Indices of the same shape, int64.
    """
    return keys.argsort(dim=-1, stable=True)


def align_pruned(delta: Tensor, u: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    r"""Let a scan over kept tokens equal the full scan with the other inputs set to zero.

    A kept token takes the step sizes of the gap before it too, so that the state decays as
    long as it would have, and its input is scaled so that it counts with its own step size
    :math:`\Delta`:

    .. math::
        \bar\Delta_i = \sum_{p_{i-1} < p \le p_i} \Delta_p, \quad
        \bar u_i = u_{p_i} \Delta_{p_i} / \bar\Delta_i

    Scan the result with B and C of the kept tokens, without softplus, bias and D; add
    ``D * u`` of the kept tokens afterwards (Zhan et al., "Exploring Token Pruning in Vision
    State Space Models", 2024, hidden state alignment).

    Args:
        delta: Step sizes after bias and softplus, (B, D, T).
        u: Input, (B, D, T).
        order: Kept tokens in ascending order, (B, n), as :func:`pruned_table` returns them.

    Returns:
        Step sizes and input of the kept tokens, each (B, D, n).

    Raises:
        ValueError: Shapes do not fit, or the order is not valid.
    """
    index = index_of(order[:, None], delta.shape[-1])
    # In double precision: differences of sums over all tokens would lose digits.
    until = route_gather(delta.double().cumsum(dim=-1), index)[:, 0]
    gap = until.diff(dim=-1, prepend=until.new_zeros(*until.shape[:2], 1)).to(delta.dtype)
    own = route_gather(delta, index)[:, 0]
    # Steps of size zero count for nothing, and must not divide zero by zero.
    share = own / gap.clamp_min(torch.finfo(gap.dtype).tiny)
    return gap, route_gather(u, index)[:, 0] * share
