"""One count of the scan's floating-point operations, for every tool that asks.

The count is VMamba's and Mamba's own: 9 operations per batch item, step, channel and state,
and one per element for the skip and one for the gate (state-spaces/mamba, issue 110).
"""

from __future__ import annotations

import torch


def selective_scan_flops(
    batch: int, dim: int, length: int, states: int, has_skip: bool, has_gate: bool
) -> int:
    """Return the operations of one forward scan of u (batch, dim, length) with N = states."""
    return batch * dim * length * (9 * states + int(has_skip) + int(has_gate))


def register_flop_counters() -> None:
    """Make MMEngine's analyser and ``torch.utils.flop_counter`` count the compiled op.

    MMEngine is optional here, as everywhere in ``mamba_mm.ops``.
    """
    _register_torch()
    try:
        from mmengine.analysis import complexity_analysis
    except ImportError:
        return
    handles = complexity_analysis._DEFAULT_SUPPORTED_FLOP_OPS
    handles["mamba_mm::selective_scan_fwd"] = _mmengine_handle


def _mmengine_handle(inputs: list, outputs: list) -> int:
    batch, dim, length = inputs[0].type().sizes()
    states = inputs[2].type().sizes()[1]
    has_skip, has_gate = (inputs[i].type().kind() != "NoneType" for i in (5, 6))
    return selective_scan_flops(batch, dim, length, states, has_skip, has_gate)


def _register_torch() -> None:
    from torch.utils.flop_counter import flop_registry, register_flop_formula

    op = torch.ops.mamba_mm.selective_scan_fwd
    if op in flop_registry:
        return

    @register_flop_formula(op)
    def _(u, delta, A, B, C, D, z, *rest, out_shape=None) -> int:
        return selective_scan_flops(*u, A[1], D is not None, z is not None)
