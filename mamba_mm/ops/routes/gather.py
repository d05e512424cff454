"""From a map to the sequences of its walks, and back.

Reading along a walk and adding to the tokens of a walk are adjoint, so each is the other's
backward pass. Both look tokens up and never scatter: the same inputs give the same bits,
gradients included, on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .index import RouteIndex, index_of
from .tables import RouteTables

Routes = RouteTables | RouteIndex | Tensor
"""Tables of a set, an index with its inverse, or an index alone, shape (K, L) or (B, K, L)."""


def route_gather(x: Tensor, routes: Routes, *, which: str = "read") -> Tensor:
    """Read tokens along the walks.

    Args:
        x: Tokens (B, C, T) that all sequences read, or (B, K, C, T), one row a sequence. With
            :class:`RouteTables` also maps (B, C, H, W) or (B, K, C, H, W), in any memory
            format; where a shape fits both (H = C = 1), it is taken for tokens.
        routes: Tables of a set, or per-sample tables of a dynamic one.
        which: The table to read by: ``"read"`` for the input, ``"project"`` for what makes dt,
            B and C. An index has only one.

    Returns:
        Sequences (B, K, C, L), zero at padded steps.

    Raises:
        ValueError: Shapes do not fit, or a per-sample table is not valid.
    """
    if isinstance(routes, RouteTables):
        x = _tokens_of(x, routes)
    rows = x[:, None] if x.dim() == 3 else x
    walks = _walks(routes, which)
    if walks is not None:
        _check_rows(x, routes.sequences, routes.tokens)
        return _Walk.apply(rows, walks, routes.height, routes.width)
    index = _resolve(routes, which, x.shape[-1], x.device)
    _check_rows(x, index.sequences, index.tokens)
    return _Gather.apply(rows, *_parts(index))


def route_merge(y: Tensor, routes: Routes, tokens: int | None = None) -> Tensor:
    """Add the sequences to the tokens they were read from.

    Sums run over the sequences in order, in float32 at least.

    Args:
        y: Sequences (B, K, C, L).
        routes: As in :func:`route_gather`; of :class:`RouteTables`, ``write`` is taken.
        tokens: Number of tokens T, needed with a bare index only.

    Returns:
        Tokens (B, C, T) in the dtype of ``y``, zero where no step writes.

    Raises:
        ValueError: Shapes do not fit, or a per-sample table is not valid.
    """
    walks = _walks(routes, "write")
    if walks is not None:
        _check_sequences(y, routes)
        return _Unwalk.apply(y, walks, routes.height, routes.width, True)[:, 0]
    index = _resolve(routes, "write", tokens, y.device)
    _check_sequences(y, index)
    return _Scatter.apply(y, *_parts(index), True)[:, 0]


def route_restore(y: Tensor, routes: Routes, tokens: int | None = None) -> Tensor:
    """Put every sequence back on a map of its own, for merges that are not sums.

    Args:
        y: Sequences (B, K, C, L).
        routes: As in :func:`route_merge`.
        tokens: Number of tokens T, needed with a bare index only.

    Returns:
        Tokens (B, K, C, T) in the dtype of ``y``, zero where the sequence does not write; a
        token that a joined sequence visits several times has the sum.

    Raises:
        ValueError: Shapes do not fit, or a per-sample table is not valid.
    """
    walks = _walks(routes, "write")
    if walks is not None:
        _check_sequences(y, routes)
        return _Unwalk.apply(y, walks, routes.height, routes.width, False)
    index = _resolve(routes, "write", tokens, y.device)
    _check_sequences(y, index)
    return _Scatter.apply(y, *_parts(index), False)


class _Gather(torch.autograd.Function):
    """Look up tokens (B, 1 or K, C, T) by an index; backward adds to them."""

    @staticmethod
    def forward(ctx, rows, index, inverse, has_pads, has_gaps):
        ctx.save_for_backward(index, inverse)
        ctx.holes = has_pads, has_gaps
        ctx.shared = rows.shape[1] == 1
        return _gather(rows, index, has_pads)

    @staticmethod
    def backward(ctx, grad):
        grad = _Scatter.apply(grad, *ctx.saved_tensors, *ctx.holes, ctx.shared)
        return grad, None, None, None, None


class _Scatter(torch.autograd.Function):
    """Add steps (B, K, C, L) to tokens (B, 1 or K, C, T); backward looks them up."""

    @staticmethod
    def forward(ctx, y, index, inverse, has_pads, has_gaps, merged):
        ctx.save_for_backward(index, inverse)
        ctx.holes = has_pads, has_gaps
        return _scatter(y, inverse, has_gaps, merged)

    @staticmethod
    def backward(ctx, grad):
        grad = _Gather.apply(grad, *ctx.saved_tensors, *ctx.holes)
        return grad, None, None, None, None, None


class _Walk(torch.autograd.Function):
    """What :class:`_Gather` does for plain walks, by views and flips."""

    @staticmethod
    def forward(ctx, rows, walks, height, width):
        ctx.plan = walks, height, width
        ctx.shared = rows.shape[1] == 1
        steps = [_walk(row, walk, height, width) for row, walk in _paired(rows, walks)]
        return torch.stack(steps, dim=1)

    @staticmethod
    def backward(ctx, grad):
        return _Unwalk.apply(grad, *ctx.plan, ctx.shared), None, None, None


class _Unwalk(torch.autograd.Function):
    """What :class:`_Scatter` does for plain walks."""

    @staticmethod
    def forward(ctx, y, walks, height, width, merged):
        ctx.plan = walks, height, width
        pairs = zip(y.unbind(1), walks, strict=True)
        restored = [_unwalk(sequence, walk, height, width) for sequence, walk in pairs]
        if not merged:
            return torch.stack(restored, dim=1)
        return _sum(row.to(_accumulator(y)) for row in restored).to(y.dtype)[:, None]

    @staticmethod
    def backward(ctx, grad):
        return _Walk.apply(grad, *ctx.plan), None, None, None, None


def _gather(rows: Tensor, index: Tensor, has_pads: bool) -> Tensor:
    steps = [_look_up(row, line, has_pads) for row, line in _paired(rows, index.unbind(-2))]
    return torch.stack(steps, dim=1)


def _scatter(y: Tensor, inverse: Tensor, has_gaps: bool, merged: bool) -> Tensor:
    def restored(sequence: Tensor, visits: Tensor):
        for visit in visits.unbind(-2):
            yield _look_up(sequence, visit, has_gaps).to(_accumulator(y))

    pairs = list(zip(y.unbind(1), inverse.unbind(-3), strict=True))
    if merged:
        total = _sum(row for pair in pairs for row in restored(*pair))
        return total.to(y.dtype)[:, None]
    return torch.stack([_sum(restored(*pair)).to(y.dtype) for pair in pairs], dim=1)


def _look_up(values: Tensor, index: Tensor, has_holes: bool) -> Tensor:
    """Take (B, C, T) at an index of shape (L,) or (B, L), zero where it is -1."""
    places = index.clamp_min(0) if has_holes else index
    if index.dim() == 1:
        found = values.index_select(-1, places)
    else:
        found = values.gather(-1, places.long()[:, None].expand(-1, values.shape[1], -1))
        index = index[:, None]
    return found.masked_fill(index < 0, 0) if has_holes else found


def _walk(row: Tensor, walk: str, height: int, width: int) -> Tensor:
    """Read tokens (B, C, H W) along a plain walk."""
    if walk.endswith("col"):
        row = row.unflatten(-1, (height, width)).transpose(-2, -1).flatten(-2)
    return row.flip(-1) if walk.startswith("~") else row


def _unwalk(sequence: Tensor, walk: str, height: int, width: int) -> Tensor:
    """Put a sequence of a plain walk back in raster order."""
    if walk.startswith("~"):
        sequence = sequence.flip(-1)
    # The transposed map, walked by its columns, is the map row by row.
    return _walk(sequence, walk.removeprefix("~"), width, height)


def _walks(routes: Routes, which: str) -> tuple[str, ...] | None:
    """Name the walks where all are plain and the table asked for is the one they describe."""
    if not isinstance(routes, RouteTables) or None in routes.walks:
        return None
    return routes.walks if getattr(routes, _INDEX_OF[which]) is routes.reading else None


_INDEX_OF = {"read": "reading", "project": "projecting", "write": "writing"}


def _resolve(routes: Routes, which: str, tokens: int | None, device: torch.device) -> RouteIndex:
    if isinstance(routes, RouteTables):
        return getattr(routes, _INDEX_OF[which])
    if isinstance(routes, RouteIndex):
        return routes
    if tokens is None:
        raise ValueError(
            "route_merge: a bare index does not tell the number of tokens; give tokens=, or pass "
            "index_of(index, tokens) or the tables"
        )
    return index_of(routes.to(device), tokens)


def _parts(index: RouteIndex) -> tuple[Tensor, Tensor, bool, bool]:
    return index.index, index.inverse, index.has_pads, index.has_gaps


def _paired(rows: Tensor, walks):
    """Pair each walk with its own row, or with the one row that all share."""
    shared = rows.shape[1] == 1
    return [(rows[:, 0 if shared else k], walk) for k, walk in enumerate(walks)]


def _tokens_of(x: Tensor, tables: RouteTables) -> Tensor:
    """Flatten maps to tokens."""
    size = (tables.height, tables.width)
    is_tokens = x.dim() == 4 and x.shape[1::2] == (tables.sequences, tables.tokens)
    is_map = x.dim() in (4, 5) and x.shape[-2:] == size and not is_tokens
    return x.flatten(-2) if is_map else x


def _check_rows(x: Tensor, sequences: int, tokens: int) -> None:
    fits = x.shape[-1] == tokens and (x.dim() == 3 or (x.dim() == 4 and x.shape[1] == sequences))
    if not fits:
        raise ValueError(
            f"route_gather: x has shape {tuple(x.shape)}, expected (B, C, {tokens}) or "
            f"(B, {sequences}, C, {tokens}), or with tables the maps of {tokens} tokens"
        )


def _check_sequences(y: Tensor, routes: RouteTables | RouteIndex) -> None:
    if y.dim() != 4 or y.shape[1::2] != (routes.sequences, routes.length):
        raise ValueError(
            f"route_merge: y has shape {tuple(y.shape)}, expected "
            f"(B, {routes.sequences}, C, {routes.length})"
        )


def _accumulator(y: Tensor) -> torch.dtype:
    return torch.promote_types(y.dtype, torch.float32)


def _sum(rows) -> Tensor:
    """Add tensors in the order they come."""
    rows = iter(rows)
    total = next(rows)
    for row in rows:
        total = total + row
    return total
