"""Arguments of the route scan: every mistake named in one line, before anything runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .checks import check_float
from .routes import NUM_CODES, RouteIndex, RouteSet


def check_route_arguments(
    x: Tensor,
    params: Tensor,
    A: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_weight: Tensor | None,
    delta: Tensor | None,
    codes: Tensor | None,
    routes: RouteSet,
    size: tuple[int, int] | None,
    index: RouteIndex | None,
    gates: Any,
) -> None:
    """Check rank, size, dtype and device of the arguments of ``route_scan``.

    Raises:
        TypeError: An argument is not a tensor, or not of a real floating-point dtype.
        ValueError: An argument has a wrong rank, size or device, or does not go with the routes.
    """
    given = {"x": x, "params": params, "A": A, "D": D, "delta_bias": delta_bias}
    given |= {"delta_weight": delta_weight, "delta": delta, "codes": codes}
    given = {name: t for name, t in given.items() if t is not None}
    for name, t in given.items():
        check_float("route_scan", name, t)
        if t.device != x.device:
            raise ValueError(
                f"route_scan: {name} is on {t.device}, expected {x.device}, the device of x"
            )
    _check_routes(routes, index, codes, gates)
    tokens = _check_map(x, routes, size, index)
    if (delta is None) == (delta_weight is None):
        raise ValueError("route_scan: expected one of delta and delta_weight, not both or neither")
    _check_parameters(given, routes, tokens)


def _check_routes(
    routes: RouteSet, index: RouteIndex | None, codes: Tensor | None, gates: Any
) -> None:
    if routes.num_branches > 1:
        raise ValueError(
            f"route_scan: the routes walk {routes.num_branches} maps, and this is one; scan "
            "each with routes.on_branch(b) and add them with merge_branches"
        )
    if routes.dynamic != (index is not None):
        problem = "needs an index, from dynamic_index" if routes.dynamic else "takes no index"
        raise ValueError(f"route_scan: a set with dynamic={routes.dynamic} {problem}")
    if (routes.codes is not None) != (codes is not None):
        problem = "needs codes, (5, N)" if routes.codes else "takes no codes"
        raise ValueError(f"route_scan: a set with codes={routes.codes!r} {problem}")
    if (routes.merge == "per_route_gated") != (gates is not None):
        problem = "needs gates" if gates is None else "takes no gates"
        raise ValueError(f"route_scan: a set with merge={routes.merge!r} {problem}")


def _check_map(x: Tensor, routes: RouteSet, size, index: RouteIndex | None) -> tuple[int, ...]:
    """Return the sizes of the token dimensions."""
    if x.dim() not in (3, 4):
        raise ValueError(f"route_scan: x has shape {_shape(x)}, expected (B, D, H, W) or (B, D, T)")
    if x.dim() == 4:
        if size is not None:
            raise ValueError("route_scan: size is for tokens (B, D, T); x is a map, leave size out")
        if routes.extra_tokens or index is not None:
            raise ValueError(
                "route_scan: these routes walk tokens; give x as (B, D, T) and, unless they are "
                "dynamic, size=(H, W)"
            )
        return x.shape[2:]
    if index is not None:
        if index.tokens != x.shape[2]:
            raise ValueError(
                f"route_scan: the index is for {index.tokens} tokens, x has {x.shape[2]}"
            )
    elif size is None:
        raise ValueError(f"route_scan: x has shape {_shape(x)}; tokens need size=(H, W)")
    elif size[0] * size[1] + routes.extra_tokens != x.shape[2]:
        raise ValueError(
            f"route_scan: x has {x.shape[2]} tokens, expected H W = {size[0]} * {size[1]} and "
            f"{routes.extra_tokens} extra"
        )
    return x.shape[2:]


def _check_parameters(given: dict[str, Tensor], routes: RouteSet, tokens: tuple[int, ...]) -> None:
    batch, dim = given["x"].shape[:2]
    groups = routes.num_groups
    slices = routes.channel_slices
    if slices is not None:
        dim = _head_channels(slices, dim)
    A = given["A"]
    if A.dim() != 3 or A.shape[:2] != (groups, dim):
        raise ValueError(
            f"route_scan: A has shape {_shape(A)}, expected (G, D, N) with G = {groups} parameter "
            f"groups and D = {dim}"
        )
    states = A.shape[2]
    weight = given.get("delta_weight")
    if weight is not None and (weight.dim() != 3 or weight.shape[:2] != (groups, dim)):
        raise ValueError(
            f"route_scan: delta_weight has shape {_shape(weight)}, expected ({groups}, {dim}, R)"
        )
    rank = 0 if weight is None else weight.shape[2]
    expected = {
        "params": (batch, groups, rank + 2 * states, *tokens),
        "D": (groups, dim),
        "delta_bias": (groups, dim),
        "delta": (batch, groups, dim, *tokens),
        "codes": (NUM_CODES, states),
    }
    meaning = {
        "params": f"(B, G, R + 2 N, tokens) with R = {rank} and N = {states}",
        "D": "(G, D)",
        "delta_bias": "(G, D)",
        "delta": "(B, G, D, tokens)",
        "codes": "one row of N for each move",
    }
    for name, shape in expected.items():
        if name in given and given[name].shape != shape:
            raise ValueError(
                f"route_scan: {name} has shape {_shape(given[name])}, expected "
                f"{tuple(shape)}, {meaning[name]}"
            )


def _head_channels(slices: tuple[tuple[int, int], ...], dim: int) -> int:
    """Return the channels of a head; the heads must share the channels equally."""
    heads = sorted(set(slices))
    width = heads[0][1] - heads[0][0]
    if dim % width or heads != [(start, start + width) for start in range(0, dim, width)]:
        raise ValueError(
            f"route_scan: the channel slices {heads} do not cut D = {dim} channels into equal heads"
        )
    return width


def _shape(t: Tensor) -> str:
    return str(tuple(t.shape))
