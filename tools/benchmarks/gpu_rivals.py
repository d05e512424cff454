"""Kernels of other projects, where they can be imported: they are called, never copied.

Their interfaces are those of mamba_ssm 1.1 to 2.3 and of the ``oflex`` kernels of VMamba.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Scan = Callable[..., Tensor]
"""Takes u, delta, A, B, C, D and delta_bias as ``selective_scan`` does, and applies softplus."""

# What a kernel library of another torch or CUDA is known to raise on import.
IMPORT_FAILURES = (ImportError, OSError, RuntimeError, AttributeError)


def importable_rivals() -> dict[str, Scan]:
    """Return the rivals of this machine by name."""
    candidates = {"mamba_ssm": _mamba_ssm, "vmamba": _vmamba}
    found = {name: load() for name, load in candidates.items()}
    return {name: scan for name, scan in found.items() if scan is not None}


def _mamba_ssm() -> Scan | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except IMPORT_FAILURES:
        return None

    def scan(u, delta, A, B, C, D, delta_bias):
        return selective_scan_fn(
            *(u, delta, A, B.contiguous(), C.contiguous()),
            D=D,
            delta_bias=delta_bias,
            delta_softplus=True,
        )

    return scan


def _vmamba() -> Scan | None:
    try:
        import selective_scan_cuda_oflex as kernels
    except IMPORT_FAILURES:
        return None

    class OflexScan(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, delta, A, B, C, D, delta_bias):
            softplus, rows, out_float = True, 1, False
            inputs = [u, delta, A, B.contiguous(), C.contiguous(), D, delta_bias]
            out, states, *_ = kernels.fwd(*inputs, softplus, rows, out_float)
            ctx.save_for_backward(*inputs, states)
            return out

        @staticmethod
        def backward(ctx, gradient):
            *inputs, states = ctx.saved_tensors
            softplus, rows = True, 1
            return tuple(kernels.bwd(*inputs, gradient.contiguous(), states, softplus, rows))

    def scan(u, delta, A, B, C, D, delta_bias):
        return OflexScan.apply(u, delta, A, B, C, D, delta_bias)

    return scan
