"""Gradients of the scans' ops, the same for every backend that has a forward and a backward op.

What the backward op needs is saved: the inputs, and the states that the forward op saved on its way
(checkpoints, its last output). The ops of the backends take the same arguments in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor, library

SELECTIVE_SCAN_INPUTS, ROUTE_SCAN_INPUTS = 11, 17
ROUTE_SCAN_TENSORS = 7


def register_selective_scan_gradients(op: str) -> None:
    """Make a selective scan differentiable.

    Args:
        op: What the names of its ops begin with: ``mamba_mm::{op}_fwd`` and
            ``mamba_mm::{op}_bwd``, with the schemas of csrc/library.cpp.
    """

    def save(ctx, inputs, output):
        *tensors, ctx.delta_softplus, ctx.has_checkpoints, _ = inputs
        _save(ctx, tensors, (), output[2])

    def backward(ctx, grad_out, grad_last_state, _):
        if grad_out is None and grad_last_state is None:
            return (None,) * SELECTIVE_SCAN_INPUTS
        _check_checkpoints(ctx, "selective_scan")
        *tensors, checkpoints = ctx.saved_tensors
        if grad_out is None:
            grad_out = torch.zeros_like(tensors[0], memory_format=torch.contiguous_format)
        grads = getattr(torch.ops.mamba_mm, f"{op}_bwd")(
            grad_out, grad_last_state, *tensors, ctx.delta_softplus, checkpoints
        )
        return _as_saved(ctx, grads, SELECTIVE_SCAN_INPUTS)

    library.register_autograd(f"mamba_mm::{op}_fwd", backward, setup_context=save)
    _refuse_double_backward(
        op,
        "selective_scan: the compiled backends and the Triton backend have no double backward; "
        "use backend='torch', which can be differentiated any number of times",
    )


def register_route_scan_gradients(op: str) -> None:
    """Make a route scan differentiable.

    Args:
        op: As of :func:`register_selective_scan_gradients`.
    """

    def save(ctx, inputs, output):
        tensors, ctx.walks = inputs[:ROUTE_SCAN_TENSORS], inputs[ROUTE_SCAN_TENSORS]
        tables, (*ctx.options, ctx.has_checkpoints, _) = inputs[8:11], inputs[11:]
        _save(ctx, tensors, tables, output[1])

    def backward(ctx, grad_out, _):
        if grad_out is None:
            return (None,) * ROUTE_SCAN_INPUTS
        _check_checkpoints(ctx, "route_scan")
        *saved, checkpoints = ctx.saved_tensors
        tensors, tables = saved[:ROUTE_SCAN_TENSORS], saved[ROUTE_SCAN_TENSORS:]
        grads = getattr(torch.ops.mamba_mm, f"{op}_bwd")(
            grad_out, *tensors, ctx.walks, *tables, *ctx.options, checkpoints
        )
        return _as_saved(ctx, grads, ROUTE_SCAN_INPUTS)

    library.register_autograd(f"mamba_mm::{op}_fwd", backward, setup_context=save)
    _refuse_double_backward(
        op,
        "route_scan: the fused op has no double backward; use fused=False with backend='torch', "
        "which can be differentiated any number of times",
    )


def _save(ctx, tensors, others, checkpoints: Tensor) -> None:
    ctx.dtypes = [None if t is None else t.dtype for t in tensors]
    ctx.save_for_backward(*tensors, *others, checkpoints)
    ctx.mark_non_differentiable(checkpoints)
    ctx.set_materialize_grads(False)


def _check_checkpoints(ctx, function: str) -> None:
    if not ctx.has_checkpoints:
        raise RuntimeError(
            f"{function}: the forward pass ran without checkpoints, so it has no backward pass; "
            f"call mamba_mm.ops.{function}, which saves them when a gradient is needed"
        )


def _as_saved(ctx, grads, inputs: int) -> tuple[Tensor | None, ...]:
    """Return one gradient an input: in the tensor's dtype, ``None`` for what is no tensor."""
    cast = [
        None if dtype is None else grad.to(dtype)
        for grad, dtype in zip(grads, ctx.dtypes, strict=True)
    ]
    return (*cast, *(None,) * (inputs - len(cast)))


def _refuse_double_backward(op: str, message: str) -> None:
    def refuse(ctx, *grads):
        raise RuntimeError(message)

    library.register_autograd(f"mamba_mm::{op}_bwd", refuse)
