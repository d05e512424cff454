"""What the compiled op needs in Python: shapes for tracing, gradients and FLOPs.

The schemas are in ``csrc/library.cpp``. Import this module only once the library is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

from .scan_gradients import register_selective_scan_gradients

# As kCheckpointSteps and kCheckpointLanes in csrc/selective_scan.h: how far apart the saved
# states are, and how many channels lie side by side in one.
CHECKPOINT_STEPS = 32
CHECKPOINT_LANES = 16


@library.register_fake("mamba_mm::selective_scan_fwd")
def _forward_shapes(
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, save_checkpoints, out_dtype
):
    batch, dim, length = u.shape
    states = A.shape[1]
    compute = torch.promote_types(u.dtype, torch.float32)
    # Floor division rounds (L - 1) / T down to -1 for L = 0, hence the form with + T.
    saved = (length + CHECKPOINT_STEPS - 1) // CHECKPOINT_STEPS - 1 if save_checkpoints else 0
    if save_checkpoints and isinstance(length, int):
        saved = max(saved, 0)
    groups = next((t.shape[1] for t in (B, C) if t.dim() == 4), 1)
    blocks = groups * -(-(dim // groups) // CHECKPOINT_LANES)
    return (
        u.new_empty((batch, dim, length), dtype=out_dtype),
        u.new_empty((batch, dim, states), dtype=compute),
        u.new_empty((batch, blocks, saved, states, CHECKPOINT_LANES), dtype=compute),
    )


@library.register_fake("mamba_mm::selective_scan_bwd")
def _backward_shapes(
    grad_out,
    grad_last_state,
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    delta_bias,
    delta_softplus,
    checkpoints,
):
    compute = torch.promote_types(u.dtype, torch.float32)
    none = (0,)

    def like(t: Tensor | None, dtype: torch.dtype) -> Tensor:
        return u.new_empty(none if t is None else t.shape, dtype=dtype)

    return (
        like(u, u.dtype),
        like(delta, delta.dtype),
        like(A, compute),
        like(B, B.dtype),
        like(C, C.dtype),
        like(D, compute),
        like(z, compute if z is None else z.dtype),
        like(delta_bias, compute),
    )


register_selective_scan_gradients("selective_scan")
