"""Parameters of the same routes in another order.

Stacked parameters are stored in the order of the routes. Two sets with the same routes in
different orders have stacks of the same shape: weights of one load into the other and are
silently wrong unless they are re-ordered.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .route_set import RouteSet


def group_permutation(source: RouteSet, target: RouteSet) -> tuple[int, ...]:
    """Tell where the parameter groups of one set lie in another set's stack.

    Args:
        source: The set whose order the stack has.
        target: The set whose order is wanted; the same sequences, on the same branches and
            grouped alike. Sequences that occur more than once keep their order.

    Returns:
        For each group of ``target`` the group of ``source``.

    Raises:
        ValueError: The sets do not have the same groups.
    """
    available = list(enumerate(_groups(source)))
    permutation = []
    for wanted in _groups(target):
        match = next((entry for entry in available if entry[1] == wanted), None)
        if match is None:
            raise ValueError(
                f"group_permutation: the source has no group for {_listed(wanted)}; it has "
                f"{'; '.join(_listed(group) for _, group in available) or 'none left'}"
            )
        available.remove(match)
        permutation.append(match[0])
    if available:
        raise ValueError(
            "group_permutation: the target has no group for "
            f"{'; '.join(_listed(group) for _, group in available)}"
        )
    return tuple(permutation)


def reorder_groups(stack: Tensor, permutation: Sequence[int]) -> Tensor:
    """Put the groups of a stacked parameter in another order.

    Args:
        stack: G groups along the first dimension: one row each, as in (G, R + 2N, E), or E
            rows each, as in (G E, N).
        permutation: What :func:`group_permutation` returns.

    Returns:
        A tensor of the same shape.

    Raises:
        ValueError: The first dimension is no multiple of G.
    """
    groups = len(permutation)
    if stack.shape[0] % groups:
        raise ValueError(
            f"reorder_groups: the stack has {stack.shape[0]} rows, expected a multiple of the "
            f"{groups} groups"
        )
    order = torch.as_tensor(permutation, device=stack.device)
    return stack.unflatten(0, (groups, -1)).index_select(0, order).flatten(0, 1)


def _groups(routes: RouteSet) -> list[list[tuple[int, str]]]:
    """Return for each parameter group its sequences, as (branch, description)."""
    groups: list[list[tuple[int, str]]] = [[] for _ in range(routes.num_groups)]
    for k, (group, sequence) in enumerate(zip(routes.param_group, routes.sequences, strict=True)):
        groups[group].append((routes.branch[sequence[0]], routes.describe(k)))
    return [sorted(group) for group in groups]


def _listed(group: list[tuple[int, str]]) -> str:
    return ", ".join(f"{name} on branch {branch}" for branch, name in group)
