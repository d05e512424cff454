"""The residual block of Vim."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .drop_path import DropPath
from .norm import RMSNorm


class VimBlock(nn.Module):
    """Pre-norm residual block without an MLP (Vim, arXiv 2401.09417, section 3.3).

    ``x + drop(mixer(norm(x)))``. The official code hands the two summands to the next block,
    which drops and adds them before its norm: the same sums in the same order.

    Args:
        mixer: From tokens (B, L, channels) to the same shape.
        channels: Channels of the tokens.
        drop_path: Probability with which the mixer's output is dropped, in [0, 1).
        with_cp: Whether activations are recomputed in the backward pass to save memory.
    """

    def __init__(
        self,
        mixer: nn.Module,
        channels: int,
        *,
        drop_path: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm = RMSNorm(channels)
        self.mixer = mixer
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block.

        Args:
            x: Residual stream (B, L, channels), float32 also in a 16-bit model.

        Returns:
            The stream after the block, in the precision of ``x``, and the mixer's output alone,
            before it is dropped.
        """
        if self.with_cp and torch.is_grad_enabled():
            mixed = checkpoint(self._mix, x, use_reentrant=False)
        else:
            mixed = self._mix(x)
        return x + self.drop_path(mixed), mixed

    def _mix(self, x: Tensor) -> Tensor:
        return self.mixer(self.norm(x))
