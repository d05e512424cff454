"""Norms of NCHW maps."""

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


NORMS: dict[str, type[nn.Module]] = {"ln": LayerNorm2d, "bn": nn.BatchNorm2d}
"""The norms that a VMamba configuration can name; each takes the number of channels."""
