"""Norms of NCHW maps, and of tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of an NCHW map, eps 1e-5.

    The parameters are those of ``nn.LayerNorm`` over the same number of channels. The
    result is a view of channel-last memory.

    Args:
        channels: Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Norm (B, C, H, W) over C at every position."""
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


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
