"""How the outputs of several walks become one map."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .gather import Routes, route_merge, route_restore
from .route_set import RouteSet

GATE_FLOOR = 1e-5

Gates = Tensor | Callable[[Tensor], Tensor]


def merge_sequences(
    y: Tensor,
    routes: Routes,
    route_set: RouteSet,
    *,
    gates: Gates | None = None,
    tokens: int | None = None,
) -> Tensor:
    """Merge sequences by the rule of their set.

    Args:
        y: Sequences (B, K, C, L).
        routes: Tables of the set, or what :func:`dynamic_index` returned for it.
        route_set: The set; its ``merge`` and ``threshold`` are used.
        gates: For ``"per_route_gated"``, as :func:`per_route_gated_merge` takes them.
        tokens: Number of tokens T, needed where ``routes`` is a bare index.

    Returns:
        Tokens (B, C, T) in the dtype of ``y``.

    Raises:
        ValueError: Shapes do not fit, or gates are given to another rule or missing.
    """
    if (gates is not None) != (route_set.merge == "per_route_gated"):
        need = "needs" if gates is None else "takes no"
        raise ValueError(f"merge_sequences: merge={route_set.merge!r} {need} gates")
    if route_set.merge == "sum":
        return route_merge(y, routes, tokens)
    if route_set.merge == "mean":
        return route_merge(y, routes, tokens) / y.shape[1]
    restored = route_restore(y, routes, tokens)
    if route_set.merge == "gated":
        return gated_merge(restored, route_set.threshold)
    return per_route_gated_merge(restored, gates)


def gated_merge(restored: Tensor, threshold: float = 0.0) -> Tensor:
    r"""Add maps where they differ (MHS-VM, arXiv 2406.05992, gated fusion unit).

    Token by token and channel by channel, with mean and deviation (divisor K - 1) over the
    K maps,

    .. math::
        \Big(\sum_k y_k\Big)\, \mathrm{ReLU}(v - t), \quad
        v = \frac{\mathrm{std}_k\, y_k}{\mathrm{mean}_k (y_k - \min_j y_j) + 10^{-5}}

    Args:
        restored: Maps (B, K, C, T), K at least 2.
        threshold: t.

    Returns:
        Tokens (B, C, T) in the dtype of ``restored``.

    Raises:
        ValueError: There is one map only, which has no deviation.
    """
    if restored.shape[1] < 2:
        raise ValueError("gated_merge: expected at least two maps to compare, got one")
    y = restored.to(torch.promote_types(restored.dtype, torch.float32))
    above_least = (y - y.amin(dim=1, keepdim=True)).mean(dim=1)
    variation = y.std(dim=1, correction=1) / (above_least + GATE_FLOOR)
    return (y.sum(dim=1) * F.relu(variation - threshold)).to(restored.dtype)


def per_route_gated_merge(restored: Tensor, gates: Gates) -> Tensor:
    """Multiply every map by its own gate and add them (LocalMamba, arXiv 2403.09338).

    Args:
        restored: Maps (B, K, C, T).
        gates: A tensor that broadcasts to the maps, such as (B, K, C, 1), or a function that
            makes it from the maps.

    Returns:
        Tokens (B, C, T) in the dtype of ``restored``.
    """
    if callable(gates):
        gates = gates(restored)
    wide = torch.promote_types(restored.dtype, torch.float32)
    return (restored.to(wide) * gates).sum(dim=1).to(restored.dtype)


def merge_branches(full: Tensor, lower: Tensor, upsample: str) -> Tensor:
    """Add the map of a smaller branch to the full one (MSVMamba, arXiv 2405.14174).

    Args:
        full: Map (B, C, H, W).
        lower: Map (B, C, h, w).
        upsample: ``"bilinear"``, corners not aligned, or ``"nearest"``.

    Returns:
        Map (B, C, H, W) in the dtype of ``full``.

    Raises:
        ValueError: The interpolation is none of these.
    """
    if upsample not in ("bilinear", "nearest"):
        raise ValueError(f"merge_branches: upsample is {upsample!r}, expected bilinear or nearest")
    wide = torch.promote_types(full.dtype, torch.float32)
    corners = False if upsample == "bilinear" else None
    enlarged = F.interpolate(
        lower.to(wide), size=full.shape[-2:], mode=upsample, align_corners=corners
    )
    return (full.to(wide) + enlarged).to(full.dtype)
