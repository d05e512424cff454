"""The graph-guided state-space block of Hamba."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from .graph_conv import HandGraphConv
from .ssm_settings import SSMSettings, walks_of


@MODELS.register_module()
class GSSBlock(nn.Module):
    """Graph convolution over joint tokens, then scans over all tokens (Hamba, figure 3).

    ::

        joints ── graph conv ── BN ── ReLU ──┐
        global ──────────────────────────────┴─ concat ── (x + SS2D(LN(x)), x + FFN(LN(x))) ─

    The scans walk the list of tokens (joints in their order, the global token last) forwards and
    backwards, which for a hand is from the wrist through finger after finger and back. The
    depthwise convolution of the mixer runs along the same order.

    Args:
        channels: Channels of a token.
        num_joints: Number of joint tokens.
        edges: Pairs of joints that are neighbours.
        ssm_depth: Pairs of mixer and feed-forward branch after the graph convolution.
        num_directions: 2 walks, or 4: on a list two forward and two backward ones, as released.
            1 walks forwards only.
        bidirectional: Whether there are the backward walks; an ablation leaves them out.
        share_weights: Whether all joints share the matrices of the graph convolution.
        use_gcn: Whether there is a graph convolution; an ablation leaves it out.
        use_ssm: Whether there are mixer and feed-forward branch; an ablation leaves them out.
        ssm: Settings of the blocks that differ from those of :class:`SSMSettings`.

    Raises:
        ValueError: When nothing is left of the block, or a setting is not one of those known.

    Example:
        >>> import torch
        >>> block = GSSBlock(16, num_joints=3, edges=[(0, 1), (1, 2)])
        >>> block(torch.randn(2, 4, 16)).shape
        torch.Size([2, 4, 16])
    """

    def __init__(
        self,
        channels: int,
        num_joints: int,
        edges: Iterable[tuple[int, int]],
        *,
        ssm_depth: int = 1,
        num_directions: int = 2,
        bidirectional: bool = True,
        share_weights: bool = False,
        use_gcn: bool = True,
        use_ssm: bool = True,
        ssm: Mapping[str, Any] | SSMSettings | None = None,
    ) -> None:
        super().__init__()
        if not (use_gcn or use_ssm):
            raise ValueError("GSSBlock: use_gcn or use_ssm must be set, or there is no block")
        if ssm_depth < 1:
            raise ValueError(f"GSSBlock: ssm_depth must be at least 1, got {ssm_depth}")
        settings = SSMSettings.of(ssm)
        walks = walks_of(num_directions, "GSSBlock")
        if not bidirectional:
            walks = tuple(walk for walk in walks if not walk.startswith("~"))
        self.num_joints = num_joints
        self.use_gcn = use_gcn
        self.use_ssm = use_ssm
        if use_gcn:
            self.graph_conv = HandGraphConv(channels, channels, num_joints, edges, share_weights)
            self.graph_norm = nn.BatchNorm1d(channels)
        if use_ssm:
            self.blocks = nn.Sequential(
                *(settings.list_block(channels, walks) for _ in range(ssm_depth))
            )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, num_joints + 1, channels) to the same shape.

        Raises:
            ValueError: When there is another number of tokens.
        """
        if tokens.shape[1] != self.num_joints + 1:
            raise ValueError(
                f"GSSBlock: expected {self.num_joints} joint tokens and a global one, got "
                f"{tokens.shape[1]} tokens"
            )
        if self.use_gcn:
            tokens = self._over_skeleton(tokens)
        if self.use_ssm:
            tokens = self._over_list(tokens)
        return tokens

    def _over_skeleton(self, tokens: Tensor) -> Tensor:
        """Convolve the joint tokens; the global token stays."""
        joints, rest = tokens.tensor_split([self.num_joints], dim=1)
        joints = self.graph_norm(self.graph_conv(joints).transpose(1, 2)).relu().transpose(1, 2)
        return torch.cat([joints, rest], dim=1)

    def _over_list(self, tokens: Tensor) -> Tensor:
        """Run the state-space blocks over the tokens, as a map of one column."""
        return self.blocks(tokens.transpose(1, 2).unsqueeze(3)).squeeze(3).transpose(1, 2)
