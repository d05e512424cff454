"""Norms of NCHW maps, and of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of an NCHW map.

    The parameters are those of ``nn.LayerNorm`` over the same number of channels. The
    result is a view of channel-last memory, in the precision of the map.

    Args:
        channels: Number of channels C.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Norm (B, C, H, W) over C at every position."""
        x = x.permute(0, 2, 3, 1)
        if self.weight.requires_grad and _sums_gradients_in_16_bit(x):
            state = (self.weight.float(), self.bias.float())
            y = F.layer_norm(x.float(), self.normalized_shape, *state, self.eps).to(x.dtype)
        else:
            y = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def _sums_gradients_in_16_bit(x: Tensor) -> bool:
    """Tell whether a layer norm of ``x`` would lose the gradients of its weight and bias.

    PyTorch's kernel for CPUs adds them up over all positions in the precision of the map, where
    a sum soon stops growing: of the bias's, 95 % is lost over 10^4 positions in bfloat16.
    Autocast computes layer norms in float32 on GPUs anyway.
    """
    half = x.dtype in (torch.bfloat16, torch.float16)
    return half and x.device.type == "cpu" and torch.is_grad_enabled()


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last dimension of tokens, eps 1e-5.

    Zhang and Sennrich, arXiv 1910.07467. Tokens may be more precise than the weight, as those
    of a float32 residual stream in a 16-bit model are: they are normed in their own precision,
    and the result has that of the weight.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Norm (..., C) over C."""
        y = F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return y.to(self.weight.dtype)


NORMS: dict[str, type[nn.Module]] = {"ln": LayerNorm2d, "bn": nn.BatchNorm2d}
"""The norms that a VMamba configuration can name; each takes the number of channels."""
