"""Which token each step of a walk reads, and the way back from tokens to steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RouteIndex:
    """Which token every step of K sequences reads or writes, and the other way round.

    Sizes are numbers of their own: ``torch.compile`` takes an index for a constant, and then
    knows its fields but not always the shapes of its tensors.

    Attributes:
        index: Token of each step, -1 for none; (K, L), or (B, K, L) for per-sample tables.
        inverse: Step of each token's first, second, ... visit, -1 for none; (K, M, T) or
            (B, K, M, T), with M visits at most.
        sequences: K.
        length: L.
        tokens: T.
        visits: M.
        has_pads: Whether ``index`` may contain -1.
        has_gaps: Whether ``inverse`` may contain -1.
    """

    index: Tensor
    inverse: Tensor
    sequences: int
    length: int
    tokens: int
    visits: int = 1
    has_pads: bool = True
    has_gaps: bool = True


def inverted(index: np.ndarray, tokens: int) -> np.ndarray:
    """Return at which steps each token is visited.

    Args:
        index: Token of each step, -1 for none; (K, L).
        tokens: Number of tokens T.

    Returns:
        Step of each token's first, second, ... visit, -1 for none; (K, M, T), where M is the
        largest number of visits of a token in a sequence.
    """
    visits = max(np.bincount(row[row >= 0], minlength=1).max() for row in index)
    inverse = np.full((len(index), max(visits, 1), tokens), -1)
    for k, row in enumerate(index):
        steps = np.argsort(row, kind="stable")
        visited = row[steps]
        visit = np.arange(len(row)) - np.searchsorted(visited, visited)
        real = visited >= 0
        inverse[k, visit[real], visited[real]] = steps[real]
    return inverse


def index_of(index: Tensor, tokens: int, visits: int = 1) -> RouteIndex:
    """Return an index that was made at run time, with its inverse.

    The index is checked, which waits for the device, except while ``torch.compile`` traces.

    Args:
        index: Token of each step, -1 for none; (K, L), or (B, K, L) for per-sample tables.
        tokens: Number of tokens T.
        visits: How often a sequence may visit a token.

    Raises:
        ValueError: The index is not valid.
    """
    if not isinstance(index, Tensor) or index.dim() not in (2, 3):
        shape = tuple(index.shape) if isinstance(index, Tensor) else type(index).__name__
        raise ValueError(f"index_of: got {shape}, expected an index (K, L) or (B, K, L)")
    check_index(index, tokens, visits)
    visited, steps = index.sort(dim=-1, stable=True)
    token = torch.arange(tokens, device=index.device, dtype=index.dtype)
    token = token.expand(*index.shape[:-1], tokens).contiguous()
    first = torch.searchsorted(visited, token)
    inverse = torch.stack([_visit(visited, steps, token, first + m) for m in range(visits)], -2)
    return RouteIndex(index, inverse, *index.shape[-2:], tokens, visits)


def _visit(visited: Tensor, steps: Tensor, token: Tensor, place: Tensor) -> Tensor:
    """Return the step at a place of the sorted index where it visits ``token``, else -1."""
    last = visited.shape[-1] - 1
    if last < 0:
        return torch.full_like(place, -1)
    inside = place.clamp_max(last)
    hit = (place <= last) & (visited.gather(-1, inside) == token)
    return torch.where(hit, steps.gather(-1, inside), -1)


def check_index(index: Tensor, tokens: int, visits: int = 1) -> None:
    """Check tables that are arguments of a call, except while ``torch.compile`` traces.

    Args:
        index: Token of each step, -1 for none; any leading dimensions, such as (B, L).
        tokens: Number of tokens T.
        visits: How often a token may occur along the last dimension.

    Raises:
        ValueError: Entries are not whole numbers in [-1, T), or one occurs too often.
    """
    if index.dtype not in (torch.int64, torch.int32) or index.dim() == 0:
        raise ValueError(
            f"an index has dtype int32 or int64 and at least one dimension, got {index.dtype} of "
            f"shape {tuple(index.shape)}"
        )
    if torch.compiler.is_compiling() or index.numel() == 0:
        return
    least, most = index.aminmax()
    if least < -1 or most >= tokens:
        raise ValueError(
            f"an index has entries from {int(least)} to {int(most)}, expected -1 to {tokens - 1}"
        )
    visited = index.sort(dim=-1).values
    again = (visited[..., visits:] == visited[..., :-visits]) & (visited[..., visits:] >= 0)
    if again.any():
        token = int(visited[..., visits:][again][0])
        raise ValueError(f"an index names token {token} more than {visits} time(s) in one sequence")
