"""A linear layer followed by GELU, without the passes over memory between the two."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, library

from .extension import EXTENSION


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``gelu(linear(x, weight, bias))`` with the exact (erf) GELU.

    On the CPU in float32 the bias is added together with the GELU, in one pass over the
    product; anywhere else PyTorch's own two functions run.

    Args:
        x: Input (..., in_features).
        weight: Shape (out_features, in_features).
        bias: Shape (out_features,).

    Returns:
        Output (..., out_features).
    """
    fused = EXTENSION.loaded and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not fused or {x.dtype, weight.dtype, bias.dtype} != {torch.float32}:
        return F.gelu(F.linear(x, weight, bias))
    rows = F.linear(x, weight).flatten(0, -2)
    if not torch.is_grad_enabled():
        torch.ops.mamba_mm.bias_gelu_(rows, bias)  # the product is nobody else's
        return rows.unflatten(0, x.shape[:-1])
    return torch.ops.mamba_mm.bias_gelu(rows, bias).unflatten(0, x.shape[:-1])


def _save_for_backward(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    x, bias = ctx.saved_tensors
    grad_x = torch.ops.mamba_mm.bias_gelu_bwd(grad.contiguous(), x, bias)
    return grad_x, grad_x.sum(0) if ctx.needs_input_grad[1] else None


def _no_double_backward(ctx, grad):
    raise RuntimeError("linear_gelu: the compiled op has no double backward")


if EXTENSION.loaded:

    @library.register_fake("mamba_mm::bias_gelu")
    def _forward_shape(x, bias):
        return torch.empty_like(x)

    @library.register_fake("mamba_mm::bias_gelu_")
    def _in_place_shape(x, bias):
        return None

    @library.register_fake("mamba_mm::bias_gelu_bwd")
    def _backward_shape(grad, x, bias):
        return torch.empty_like(x)

    library.register_autograd("mamba_mm::bias_gelu", _backward, setup_context=_save_for_backward)
    library.register_autograd("mamba_mm::bias_gelu_bwd", _no_double_backward)
