"""A transformer decoder with one query."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of normed tokens to themselves or to others.

    Args:
        channels: Channels of the tokens.
        num_heads: Number of heads.
        head_channels: Channels of a head.
        context_channels: Channels of what is attended to; ``None`` for the tokens themselves.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_channels: int,
        context_channels: int | None = None,
    ) -> None:
        super().__init__()
        inner = num_heads * head_channels
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, inner, bias=False)
        self.key_value = nn.Linear(context_channels or channels, 2 * inner, bias=False)
        self.out = nn.Linear(inner, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: Tokens (B, L, channels).
            context: What they attend to, (B, S, context_channels); themselves by default.

        Returns:
            What they found, (B, L, channels).
        """
        x = self.norm(x)
        context = x if context is None else context
        query = self._split_heads(self.query(x))
        key, value = (self._split_heads(t) for t in self.key_value(context).chunk(2, dim=-1))
        # Written out, so that the counters of operations see it; there is only one query.
        scores = torch.matmul(query, key.transpose(2, 3)) * query.shape[-1] ** -0.5
        found = torch.matmul(scores.softmax(dim=-1), value)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward branch, each pre-norm and residual.

    Args:
        channels: Channels of the query tokens.
        num_heads: Number of heads.
        head_channels: Channels of a head.
        mlp_channels: Hidden channels of the feed-forward branch.
        context_channels: Channels of what is attended to.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        head_channels: int,
        mlp_channels: int,
        context_channels: int,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(channels, num_heads, head_channels)
        self.cross_attention = Attention(channels, num_heads, head_channels, context_channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, mlp_channels),
            nn.GELU(),
            nn.Linear(mlp_channels, channels),
        )

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Refine tokens (B, L, channels) by a context (B, S, context_channels)."""
        x = x + self.self_attention(x)
        x = x + self.cross_attention(x, context)
        return x + self.mlp(x)


class SingleQueryDecoder(nn.Module):
    """Layers in which one token reads a map out (HaMeR, arXiv 2312.05251, section 3.2).

    The query starts as the embedding of the number zero plus a learned position, both as in
    HaMeR. So the weight of the embedding has no effect and no gradient but zero; nor have the
    query and key of the self-attention, where the token is alone. They are kept so that the
    baseline has HaMeR's size.

    Args:
        context_channels: Channels of the map.
        channels: Channels of the token.
        depth: Number of layers.
        num_heads: Number of heads.
        head_channels: Channels of a head.
        mlp_channels: Hidden channels of the feed-forward branches.
    """

    def __init__(
        self,
        context_channels: int,
        channels: int = 1024,
        depth: int = 6,
        num_heads: int = 8,
        head_channels: int = 64,
        mlp_channels: int = 1024,
    ) -> None:
        super().__init__()
        self.token_embed = nn.Linear(1, channels)
        self.pos_embed = nn.Parameter(torch.randn(1, 1, channels))
        self.layers = nn.ModuleList(
            DecoderLayer(channels, num_heads, head_channels, mlp_channels, context_channels)
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Read a map (B, context_channels, H, W) into a vector (B, channels)."""
        context = x.flatten(2).transpose(1, 2)
        token = self.token_embed(x.new_zeros(x.shape[0], 1, 1)) + self.pos_embed
        for layer in self.layers:
            token = layer(token, context)
        return token.squeeze(1)
