"""One count of the scans' floating-point operations, for every tool that asks.

The count is VMamba's and Mamba's own: 9 operations per batch item, step, channel and state,
and one per element for the skip and one for the gate (state-spaces/mamba, issue 110). The
route scan counts every sequence, and the projection of its step sizes as the matrix product
that it is: a multiply-add is one operation to MMEngine and two to PyTorch's counter.
"""

from __future__ import annotations

import torch


def selective_scan_flops(
    batch: int, dim: int, length: int, states: int, has_skip: bool, has_gate: bool
) -> int:
    """Return the operations of one forward scan of u (batch, dim, length) with N = states."""
    return batch * dim * length * (9 * states + int(has_skip) + int(has_gate))


def route_scan_flops(
    batch: int,
    sequences: int,
    dim: int,
    length: int,
    states: int,
    rank: int,
    has_skip: bool,
    multiply_add: int,
) -> int:
    """Return the operations of one forward route scan.

    Args:
        batch: Batch items B.
        sequences: Sequences K.
        dim: Channels D.
        length: Steps L of a sequence, padded ones included.
        states: States N of a channel.
        rank: Rank R of the projection of the step sizes; 0 where they are given.
        has_skip: Whether there is a skip weight D.
        multiply_add: What a multiply-add of that projection counts.
    """
    scan = selective_scan_flops(batch, sequences * dim, length, states, has_skip, has_gate=False)
    return scan + multiply_add * batch * sequences * dim * length * rank


def register_flop_counters() -> None:
    """Make MMEngine's analyser and ``torch.utils.flop_counter`` count the compiled ops.

    MMEngine is optional here, as everywhere in ``mamba_mm.ops``.
    """
    _register_torch()
    try:
        from mmengine.analysis import complexity_analysis
    except ImportError:
        return
    handles = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
    for backend in ("", "triton_"):  # the arguments are the same
        handles[f"mamba_mm::{backend}selective_scan_fwd"] = _mmengine_selective_scan
        handles[f"mamba_mm::{backend}route_scan_fwd"] = _mmengine_route_scan


def _mmengine_selective_scan(inputs: list, outputs: list) -> int:
    batch, dim, length = inputs[0].type().sizes()
    states = inputs[2].type().sizes()[1]
    has_skip, has_gate = (inputs[i].type().kind() != "NoneType" for i in (5, 6))
    return selective_scan_flops(batch, dim, length, states, has_skip, has_gate)


def _mmengine_route_scan(inputs: list, outputs: list) -> int:
    def sizes(argument: int) -> list[int] | None:
        kind = inputs[argument].type()
        return None if kind.kind() == "NoneType" else kind.sizes()

    x, A, weight, D, read = (sizes(argument) for argument in (0, 3, 4, 5, 8))
    return _count_route_scan(x, A, weight, D, read, multiply_add=1)


def _count_route_scan(x, A, weight, D, read, multiply_add: int) -> int:
    """Count from the shapes of arguments, ``None`` for absent ones."""
    sequences, dim, states = A
    length = x[2] if read is None else read[2]
    rank = 0 if weight is None else weight[2]
    return route_scan_flops(x[0], sequences, dim, length, states, rank, D is not None, multiply_add)


def _register_torch() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    selective_scan, route_scan = (
        torch.ops.mamba_mm.selective_scan_fwd,
        torch.ops.mamba_mm.route_scan_fwd,
    )
    if selective_scan in flop_registry:
        return
    # PyTorch counts `addmm` and not its in-place form, with which `linear_add` accumulates.
    flop_registry.setdefault(torch.ops.aten.addmm_, flop_registry[torch.ops.aten.addmm])

    @register_flop_formula(selective_scan)
    def _(u, delta, A, B, C, D, z, *rest, out_shape=None) -> int:
        return selective_scan_flops(*u, A[1], D is not None, z is not None)

    @register_flop_formula(route_scan)
    def _(x, params, delta, A, weight, D, bias, walks, read, *rest, out_shape=None) -> int:
        return _count_route_scan(x, A, weight, D, read, multiply_add=2)
