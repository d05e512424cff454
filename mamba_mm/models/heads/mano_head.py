"""The simplest head that regresses a hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .mesh_head import HandMeshHead, Prediction


class MANOHead(HandMeshHead):
    """The mean over the map, and linear layers: a baseline, and a proof of the data path.

    Args:
        in_channels: Channels of the backbone's map.
        **settings: As in :class:`HandMeshHead`.
    """

    def __init__(self, in_channels: int, **settings: Any) -> None:
        super().__init__(in_channels, **settings)
        self.read_out = self.build_read_out(in_channels)

    def forward(self, feats: Sequence[Tensor]) -> dict[str, Prediction]:
        """Predict from the backbone's maps; see :class:`HandMeshHead`."""
        feature = self.take_map(feats).mean(dim=(2, 3))
        return {"final": self.output_model(self.read_out(feature))}
