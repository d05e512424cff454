"""From the channels of a backbone to those of a head."""

from __future__ import annotations

from torch import nn

from mamba_mm.registry import MODELS


@MODELS.register_module()
class ChannelReduction(nn.Sequential):
    """Two 1x1 convolutions with batch norm and ReLU between them; no position is lost.

    Hamba's "Down Sample" box (arXiv 2407.09646, figure 2) reduces the channels of the backbone's
    map, not its size. It maps (B, in_channels, H, W) to (B, out_channels, H, W).

    Args:
        in_channels: Channels of the backbone's map.
        out_channels: Channels of the head.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 1),
        )
