"""The route scan: a selective scan along many routes of one map, without copying the map."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .backends import choose_backend
from .extension import EXTENSION
from .route_checks import check_route_arguments
from .routes import RouteIndex, RouteSet, RouteTables, merge_sequences, route_gather, route_set
from .selective_scan import selective_scan

if EXTENSION.loaded:
    from . import compiled_route_scan  # noqa: F401  registers fake kernels and gradients

DELTA_PROJECTIONS = ("auto", "inside", "outside")
# As enum class Walk in csrc/route_scan.h.
TABLE_WALK = 0
WALKS = {"row": 1, "col": 2, "~row": 3, "~col": 4}
FUSED_BACKENDS = ("cpu", "cuda", "triton")
FUSED_MERGES = ("sum", "mean")
# Ranks from which the matrix product outruns the projection in the kernel, without and with a
# backward pass, which projects three times: measured on one x86 processor with AVX-512; on a
# GPU derived, from R instructions against the eight bytes of a delta written and read.
OUTSIDE_RANKS = {"cpu": (96, 40), "cuda": (33, 33)}


def route_scan(
    x: Tensor,
    params: Tensor,
    A: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_weight: Tensor | None = None,
    delta: Tensor | None = None,
    routes: RouteSet | str | Mapping[str, Any] | Sequence[Any] = "cross",
    size: tuple[int, int] | None = None,
    index: RouteIndex | None = None,
    codes: Tensor | None = None,
    gates=None,
    delta_softplus: bool = True,
    out_dtype: torch.dtype | None = None,
    delta_projection: str = "auto",
    fused: bool | None = None,
    backend: str | None = None,
) -> Tensor:
    r"""Scan a map along every route of a set and merge the outputs.

    With :math:`p_t` the token that a sequence reads at step t, for every channel,

    .. math::
        \Delta_t = \mathrm{softplus}(W \rho(p_t) + b), \quad
        h_t = \exp(\Delta_t A)\, h_{t-1} + \Delta_t B(p_t)\, x(p_t), \quad
        y(p_t) \mathrel{+}= \langle C(p_t), h_t \rangle + D\, x(p_t)

    (VMamba, arXiv 2401.10166, section 4.2, for the four routes of the cross-scan). The
    low-rank inputs :math:`\rho`, B and C are pointwise functions of the map, so they are
    given once, in raster order, whatever the routes. A padded step reads zeros, but the state
    decays through it.

    The fused op reads the map along each route and adds to one output: beyond input,
    parameters and output it needs at most one map (or, for fewer than 32 channels, two tiles
    of 16), and for a backward pass one state in 32 steps. The same inputs give the same bits,
    gradients included, for any number of threads, as long as step sizes are projected inside
    (see ``delta_projection``). Merges other than ``sum`` and ``mean``, and
    backends without the fused op, run the same definition as gather, ``selective_scan`` and
    merge.

    Under autocast x, params and delta take the autocast dtype; everything else, the state and
    the sums stay float32.

    Args:
        x: Map (B, D, H, W), in any memory format; or tokens (B, D, T) with ``size``, where T is
            H W and one more with an extra token.
        params: :math:`\rho`, B and C of every token and parameter group, stacked in this
            order: (B, G, R + 2 N, H, W), or (B, G, R + 2 N, T). Fastest where the R + 2 N
            values of a token lie side by side, as a linear layer on a channels-last map
            leaves them.
        A: Decay rates (G, D, N), negative for a stable recurrence.
        D: Skip weights (G, D).
        delta_bias: Bias b of the step sizes, (G, D).
        delta_weight: Projection W of the step sizes, (G, D, R). Without it R is 0 and ``delta``
            is given.
        delta: Step sizes before bias and softplus, (B, G, D, H, W) or (B, G, D, T), instead of
            ``delta_weight``.
        routes: A :class:`~mamba_mm.ops.routes.RouteSet`, the name of a preset, a mapping of its
            fields or a list of routes. All its sequences must walk this one map: run a set with
            several branches branch by branch (``on_branch``).
        size: (H, W) of the map when ``x`` holds tokens.
        index: Order of the tokens, for a dynamic set: what ``dynamic_index`` returns.
        codes: Rows that a set with step codes adds to B, (5, N).
        gates: For ``merge="per_route_gated"``: a tensor that broadcasts to (B, K, D, T), or a
            function that makes it from the outputs of the K sequences.
        delta_softplus: Whether softplus is applied to the biased step sizes.
        out_dtype: Dtype of the output; that of ``x`` (after autocast) by default.
        delta_projection: Where the fused op applies ``delta_weight``: ``"inside"`` the kernel,
            which needs no memory; ``"outside"`` as PyTorch's matrix product, which needs K maps
            and whose bits may depend on the number of threads; or ``"auto"``, which on the CPU
            is inside for R below 96, or below 40 where gradients are needed, and on a GPU for R
            below 33.
        fused: Whether to use the fused op; by default, wherever there is one.
        backend: Name of the backend; by default the fastest that serves the device.

    Returns:
        Map or tokens of the shape of ``x``.

    Raises:
        TypeError: An argument is not a tensor of a real floating-point dtype.
        ValueError: An argument has a wrong shape or device, or does not go with the routes; a
            name is unknown; or the fused op is asked for where there is none.
        RuntimeError: The requested backend is not usable on this machine, or a second
            derivative is asked of the fused op.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 8, 5, 7)
        >>> params = torch.randn(1, 4, 2 + 2 * 1, 5, 7)
        >>> A, W = -torch.rand(4, 8, 1), torch.randn(4, 8, 2)
        >>> route_scan(x, params, A, delta_weight=W).shape
        torch.Size([1, 8, 5, 7])
    """
    routes = route_set(routes)
    if delta_projection not in DELTA_PROJECTIONS:
        raise ValueError(
            f"route_scan: delta_projection is {delta_projection!r}, expected one of "
            f"{', '.join(DELTA_PROJECTIONS)}"
        )
    check_route_arguments(
        x, params, A, D, delta_bias, delta_weight, delta, codes, routes, size, index, gates
    )
    name = choose_backend(backend, x.device)
    fused = _choose_fused(fused, name, routes)
    if routes.channel_slices is not None:
        scan = functools.partial(
            route_scan,
            size=size,
            index=index,
            codes=codes,
            gates=gates,
            delta_softplus=delta_softplus,
            out_dtype=out_dtype,
            delta_projection=delta_projection,
            fused=fused,
            backend=backend,
        )
        return _scan_heads(scan, routes, x, params, A, D, delta_bias, delta_weight, delta)

    shape = x.shape
    # An order of the call walks its tokens as a map of one row.
    height, width = x.shape[2:] if x.dim() == 4 else size or (1, x.shape[2])
    x, params = x.flatten(2), params.flatten(3)
    delta = None if delta is None else delta.flatten(3)
    if torch.is_autocast_enabled(x.device.type):
        lower = torch.get_autocast_dtype(x.device.type)
        x, params, delta = (
            t if t is None or t.dtype == torch.float64 else t.to(lower) for t in (x, params, delta)
        )
    out_dtype = out_dtype or x.dtype
    call = _Call(x, params, delta, A, delta_weight, D, delta_bias, codes, height, width)
    call.agree_on_precision()
    # The casts above are the autocast rule; nothing below may cast again.
    with torch.autocast(x.device.type, enabled=False):
        if fused:
            y = _fused(call, routes, index, delta_softplus, delta_projection, out_dtype, name)
        else:
            y = _unfused(call, routes, index, gates, delta_softplus, out_dtype, name)
    return y.reshape(shape)


def _scan_heads(scan, routes, x, params, A, D, delta_bias, delta_weight, delta) -> Tensor:
    """Scan every slice of the channels along its own routes, with its own parameter groups."""
    heads = []
    for (start, stop), own, groups in routes.heads():
        rows = list(groups)
        of_A, of_D, of_bias, of_weight = (
            None if t is None else t[rows] for t in (A, D, delta_bias, delta_weight)
        )
        of_delta = None if delta is None else delta[:, rows]
        of_x, of_params = x[:, start:stop], params[:, rows]
        heads.append(
            scan(
                *(of_x, of_params, of_A, of_D, of_bias),
                delta_weight=of_weight,
                delta=of_delta,
                routes=own,
            )
        )
    return torch.cat(heads, dim=1)


def _choose_fused(fused: bool | None, backend: str, routes: RouteSet) -> bool:
    reason = None
    if backend not in FUSED_BACKENDS:
        reason = f"backend {backend!r} has no fused op"
    elif routes.merge not in FUSED_MERGES:
        reason = f"the fused op sums, and the routes are merged by {routes.merge!r}"
    elif routes.codes is not None and routes.permute != "input_only":
        reason = "it takes step codes only where dt, B and C stay in raster order (input_only)"
    if fused and reason:
        raise ValueError(f"route_scan: fused=True, but {reason}; leave fused open")
    return reason is None if fused is None else fused


@dataclass
class _Call:
    """The tensors of a call, maps as tokens, parameters by group."""

    x: Tensor
    params: Tensor
    delta: Tensor | None
    A: Tensor
    delta_weight: Tensor | None
    D: Tensor | None
    delta_bias: Tensor | None
    codes: Tensor | None
    height: int
    width: int

    def agree_on_precision(self) -> None:
        """Activations may mix 16 and 32 bit; one float64 makes everything float64."""
        maps, parameters = ("x", "params", "delta"), ("A", "delta_weight", "D", "delta_bias")
        given = [getattr(self, name) for name in (*maps, "A")]
        if any(t is not None and t.dtype == torch.float64 for t in given):
            self._cast(maps, torch.float64)
        self._cast((*parameters, "codes"), torch.promote_types(self.x.dtype, torch.float32))

    def _cast(self, names: Sequence[str], dtype: torch.dtype) -> None:
        for name in names:
            t = getattr(self, name)
            setattr(self, name, None if t is None else t.to(dtype))

    def by_sequence(self, routes: RouteSet) -> None:
        """Give every sequence the row of its parameter group, as a view where that can be."""
        groups = routes.param_group
        if groups == tuple(range(routes.num_sequences)):
            return
        for name in ("A", "delta_weight", "D", "delta_bias"):
            setattr(self, name, _rows(getattr(self, name), groups, 0))
        for name in ("params", "delta"):
            setattr(self, name, _rows(getattr(self, name), groups, 1))


def _rows(t: Tensor | None, groups: tuple[int, ...], dim: int) -> Tensor | None:
    if t is None:
        return None
    if len(set(groups)) == 1:
        return t.narrow(dim, groups[0], 1).expand(*t.shape[:dim], len(groups), *t.shape[dim + 1 :])
    # Without a tensor of indices, whose copy to a GPU no CUDA graph could capture, and whose
    # gradient there would be summed in any order.
    return torch.stack([t.select(dim, group) for group in groups], dim)


def _fused(call, routes, index, delta_softplus, delta_projection, out_dtype, backend) -> Tensor:
    call.by_sequence(routes)
    walks, tables = _walks_and_tables(call, routes, index)
    if call.codes is not None:
        call.params = _with_codes(call.params, call.codes, tables.codes)
    weight, delta, params = call.delta_weight, call.delta, call.params
    leaves = (call.x, params, delta, call.A, weight, call.D, call.delta_bias)
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in leaves)
    if weight is not None and _is_outside(delta_projection, weight, needs_grad):
        low = params[:, :, : weight.shape[-1]].transpose(2, 3)
        delta = torch.matmul(low.to(weight.dtype), weight.mT).transpose(2, 3)
        params, weight = params[:, :, weight.shape[-1] :], None
    read = project = write = None
    if TABLE_WALK in walks:
        read, project, write = _different_tables(tables)
    scale = 1 / routes.num_sequences if routes.merge == "mean" else 1.0
    arguments = (
        call.x,
        params,
        delta,
        call.A,
        weight,
        call.D,
        call.delta_bias,
        walks,
        read,
        project,
        write,
        call.height,
        call.width,
        delta_softplus,
        scale,
    )
    if backend == "triton":
        # Here, because it needs Triton.
        from .triton.route_scan import route_scan_triton

        return route_scan_triton(*arguments, out_dtype)
    y, _ = torch.ops.mamba_mm.route_scan_fwd(*arguments, needs_grad, out_dtype)
    return y


def _is_outside(delta_projection: str, weight: Tensor, needs_grad: bool) -> bool:
    if delta_projection == "auto":
        inference, training = OUTSIDE_RANKS["cpu" if weight.device.type == "cpu" else "cuda"]
        return weight.shape[-1] >= (training if needs_grad else inference)
    return delta_projection == "outside"


@dataclass(frozen=True)
class _DynamicTables:
    """A dynamic index under the names of :class:`RouteTables`."""

    read: Tensor

    @property
    def project(self) -> Tensor:
        return self.read

    @property
    def write(self) -> Tensor:
        return self.read


def _walks_and_tables(
    call: _Call, routes: RouteSet, index: RouteIndex | None
) -> tuple[list[int], RouteTables | _DynamicTables | None]:
    if routes.plain_walks is not None:
        return [WALKS[walk] for walk in routes.plain_walks], None
    if index is not None:
        return [TABLE_WALK] * index.sequences, _DynamicTables(index.index.int())
    tables = routes.tables(call.height, call.width, call.x.device)
    # A plain walk beside tables goes without one where it is as long as they are.
    plain = tables.project is tables.read and tables.write is tables.read
    return [WALKS.get(walk, TABLE_WALK) if plain else TABLE_WALK for walk in tables.walks], tables


def _different_tables(tables: RouteTables | _DynamicTables) -> tuple[Tensor | None, ...]:
    """The tables for reading, projecting and writing; None where it is that for reading."""
    others = (None if t is tables.read else t for t in (tables.project, tables.write))
    return tuple(t if t is None or t.dim() == 3 else t[None] for t in (tables.read, *others))


def _with_codes(params: Tensor, codes: Tensor, moves: Tensor) -> Tensor:
    """Add to B the row of the move that led to each step; (B, K, R + 2 N, T)."""
    states = codes.shape[1]
    rank = params.shape[2] - 2 * states
    low, B, C = params.split((rank, states, states), dim=2)
    return torch.cat((low, B + codes[moves].transpose(1, 2), C), dim=2)


def _unfused(call, routes, index, gates, delta_softplus, out_dtype, backend) -> Tensor:
    """Gather, scan, merge: the definition, on any backend of the scan."""
    walks = index if index is not None else routes.tables(call.height, call.width, call.x.device)
    call.by_sequence(routes)
    which = {} if index is not None else {"which": "project"}
    u = route_gather(call.x, walks)
    gathered = route_gather(call.params, walks, **which)
    states = call.A.shape[2]
    low, B, C = gathered.split((gathered.shape[2] - 2 * states, states, states), dim=2)
    if call.delta is not None:
        delta = route_gather(call.delta, walks, **which)
    else:
        delta = torch.matmul(call.delta_weight, low.to(call.delta_weight.dtype))
    if call.codes is not None:
        B = B + call.codes[walks.codes].transpose(1, 2)
    y = selective_scan(
        u.flatten(1, 2),
        delta.flatten(1, 2),
        call.A.flatten(0, 1),
        B,
        C,
        None if call.D is None else call.D.flatten(),
        delta_bias=None if call.delta_bias is None else call.delta_bias.flatten(),
        delta_softplus=delta_softplus,
        out_dtype=torch.promote_types(out_dtype, torch.float32),
        backend=backend,
    )
    y = y.unflatten(1, (routes.num_sequences, -1))
    return merge_sequences(y, walks, routes, gates=gates).to(out_dtype)
