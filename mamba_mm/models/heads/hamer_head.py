"""HaMeR's head, the baseline that Hamba is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .cross_attention import SingleQueryDecoder
from .mesh_head import HandMeshHead, Prediction


class HaMeRHead(HandMeshHead):
    """A transformer decoder with one query (HaMeR, arXiv 2312.05251), then linear layers.

    The defaults are HaMeR's; for a map of 1280 channels they make 39,497,837 parameters. Written
    from the paper, for comparison with :class:`HambaHead`.

    Args:
        in_channels: Channels of the backbone's map.
        embed_dims: Channels of the query token.
        depth: Number of layers.
        num_heads: Number of heads.
        head_channels: Channels of a head.
        mlp_channels: Hidden channels of the feed-forward branches.
        **settings: As in :class:`HandMeshHead`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        embed_dims: int = 1024,
        depth: int = 6,
        num_heads: int = 8,
        head_channels: int = 64,
        mlp_channels: int = 1024,
        **settings: Any,
    ) -> None:
        super().__init__(in_channels, **settings)
        self.transformer = SingleQueryDecoder(
            in_channels, embed_dims, depth, num_heads, head_channels, mlp_channels
        )
        self.read_out = self.build_read_out(embed_dims)

    def forward(self, feats: Sequence[Tensor]) -> dict[str, Prediction]:
        """Predict from the backbone's maps; see :class:`HandMeshHead`."""
        feature = self.transformer(self.take_map(feats))
        return {"final": self.output_model(self.read_out(feature))}
