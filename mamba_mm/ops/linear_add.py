"""A linear layer whose output is added to a residual, without a pass of its own for the sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
    """Compute ``residual + linear(x, weight, bias)``.

    In eager mode on the CPU the product is accumulated onto ``residual + bias``, which saves a
    pass over memory. A compiler fuses the plain sum by itself, and autocast and tracers know it.

    Args:
        x: Input (..., in_features).
        weight: Shape (out_features, in_features).
        bias: Shape (out_features,), or ``None``.
        residual: Shape (..., out_features). It is not changed.

    Returns:
        Output (..., out_features).
    """
    if not _accumulates(x, residual):
        return residual + F.linear(x, weight, bias)
    rows = x.flatten(0, -2)
    if bias is None:
        y = torch.addmm(residual.flatten(0, -2), rows, weight.t())
    else:
        y = (residual + bias).flatten(0, -2).addmm_(rows, weight.t())
    return y.unflatten(0, residual.shape[:-1])


def _accumulates(x: Tensor, residual: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == residual.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
    )
