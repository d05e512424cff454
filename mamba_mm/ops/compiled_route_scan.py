"""What the compiled route scan needs in Python: shapes for tracing, and gradients.

The schemas are in ``csrc/library.cpp``. Import this module only once the library is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

from .compiled_scan import CHECKPOINT_LANES, CHECKPOINT_STEPS
from .scan_gradients import register_route_scan_gradients


def _map_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty map of the shape of x, laid out like it: channels last, or positions last."""
    batch, dim, tokens = x.shape
    if x.stride(1) == 1 and x.stride(2) != 1:
        return x.new_empty((batch, tokens, dim), dtype=dtype).transpose(1, 2)
    return x.new_empty((batch, dim, tokens), dtype=dtype)


@library.register_fake("mamba_mm::route_scan_fwd")
def _forward_shapes(
    x,
    params,
    delta,
    A,
    delta_weight,
    D,
    delta_bias,
    walks,
    read,
    project,
    write,
    height,
    width,
    delta_softplus,
    scale,
    save_checkpoints,
    out_dtype,
):
    sequences, dim, states = A.shape
    length = x.shape[2] if read is None else read.shape[2]
    # Floor division rounds (L - 1) / T down to -1 for L = 0, hence the form with + T.
    saved = (length + CHECKPOINT_STEPS - 1) // CHECKPOINT_STEPS - 1 if save_checkpoints else 0
    if save_checkpoints and isinstance(length, int):
        saved = max(saved, 0)
    blocks = sequences * -(-dim // CHECKPOINT_LANES)
    compute = torch.promote_types(x.dtype, torch.float32)
    checkpoints = x.new_empty((x.shape[0], blocks, saved, states, CHECKPOINT_LANES), dtype=compute)
    return _map_like(x, out_dtype), checkpoints


@library.register_fake("mamba_mm::route_scan_bwd")
def _backward_shapes(
    grad_out,
    x,
    params,
    delta,
    A,
    delta_weight,
    D,
    delta_bias,
    walks,
    read,
    project,
    write,
    height,
    width,
    delta_softplus,
    scale,
    checkpoints,
):
    compute = torch.promote_types(x.dtype, torch.float32)
    batch, sequences, entries, tokens = params.shape
    grad_params = x.new_empty((batch, tokens, sequences, entries), dtype=params.dtype)
    grad_delta = x.new_empty((0,), dtype=compute)
    if delta is not None:
        shape = (batch, sequences, tokens, x.shape[1])
        grad_delta = x.new_empty(shape, dtype=delta.dtype).transpose(2, 3)

    def like(t: Tensor | None, dtype: torch.dtype) -> Tensor:
        return x.new_empty((0,) if t is None else t.shape, dtype=dtype)

    return (
        _map_like(x, x.dtype),
        grad_params.permute(0, 2, 3, 1),
        grad_delta,
        like(A, compute),
        like(delta_weight, compute),
        like(D, compute),
        like(delta_bias, compute),
    )


register_route_scan_gradients("route_scan")
