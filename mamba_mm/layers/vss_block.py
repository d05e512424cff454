"""The residual block of VMamba."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .drop_path import DropPath
from .mlp import Mlp2d
from .norm import NORMS
from .ss_mixer import SSMixer2D


class VSSBlock(nn.Module):
    """Pre-norm residual block (VMamba, arXiv 2401.10166, figure 3).

    ``x + drop(op(norm(x)))``, and with an MLP then ``x + drop(mlp(norm2(x)))``. Both branches
    share one drop-path module and draw independently.

    Args:
        op: The mixer: ``op(x, residual)`` adds the mixed map to ``residual``, all of shape
            (B, channels, H, W).
        channels: Channels of the map.
        mlp_ratio: Hidden channels of the MLP over ``channels``; 0 for no MLP.
        norm: ``"ln"`` or ``"bn"``.
        drop_path: Probability with which a branch is dropped, in [0, 1).
        with_cp: Whether activations are recomputed in the backward pass to save memory.
    """

    def __init__(
        self,
        op: SSMixer2D,
        channels: int,
        *,
        mlp_ratio: float = 4.0,
        norm: str = "ln",
        drop_path: float = 0.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.norm = NORMS[norm](channels)
        self.op = op
        self.drop_path = DropPath(drop_path)
        self.has_mlp = mlp_ratio > 0
        if self.has_mlp:
            self.norm2 = NORMS[norm](channels)
            self.mlp = Mlp2d(channels, int(mlp_ratio * channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        x = self._add_branch(x, self.norm, self.op)
        if self.has_mlp:
            x = self._add_branch(x, self.norm2, self.mlp)
        return x

    def _add_branch(self, x: Tensor, norm: nn.Module, branch: nn.Module) -> Tensor:
        if self.drop_path.active:
            return x + self.drop_path(branch(norm(x)))
        return branch(norm(x), residual=x)
