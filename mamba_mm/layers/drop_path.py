"""Stochastic depth, so that no toolbox has to be installed for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Drop a residual branch for whole samples while training.

    Huang et al., "Deep Networks with Stochastic Depth", 2016. What is kept is divided by
    its probability, so the expected output equals the input. Every call draws anew: one
    module may serve several branches.

    Args:
        rate: Probability of dropping a sample's branch, in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"DropPath: rate must lie in [0, 1), got {rate}")
        self.rate = rate

    @property
    def active(self) -> bool:
        """Whether it drops anything: in training, at a rate above 0."""
        return self.training and self.rate > 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` of shape (B, ...), zero for the samples that were dropped."""
        if not self.active:
            return x
        keep = 1.0 - self.rate
        mask_shape = (x.shape[0],) + (1,) * (x.dim() - 1)
        mask = torch.empty(mask_shape, dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * (mask / keep)

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate:.4g}"
