"""The feed-forward branch of a block."""

from __future__ import annotations

from torch import Tensor, nn

from mamba_mm.ops import linear_gelu

from .linear import Linear2d


class Mlp2d(nn.Module):
    """Two linear layers with a GELU between them, on an NCHW map.

    Args:
        channels: Channels of the input and of the output.
        hidden: Channels in between.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear2d(channels, hidden)
        self.fc2 = Linear2d(hidden, channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (B, channels, H, W) to the same shape, plus ``residual``."""
        hidden = linear_gelu(x.permute(0, 2, 3, 1), self.fc1.weight, self.fc1.bias)
        return self.fc2(hidden.permute(0, 3, 1, 2), residual)
