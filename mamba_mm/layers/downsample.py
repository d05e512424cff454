"""Halving the height and width of a map between two stages.

The children are named by the official checkpoints.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import channels_last_conv
from .linear import Linear2d
from .norm import NORMS


class PatchMerging2d(nn.Module):
    """Swin's patch merging: four neighbours side by side, norm, linear map.

    An odd height or width is padded with zeros at the end.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels of the output, usually 2C.
        norm: ``"ln"`` or ``"bn"``.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str = "ln") -> None:
        super().__init__()
        self.norm = NORMS[norm](4 * in_channels)
        self.reduction = Linear2d(4 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, out_channels, ceil(H / 2), ceil(W / 2))."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, width % 2, 0, height % 2))
        # Rows advance first: this order is part of the weights.
        top_left, bottom_left = x[..., 0::2, 0::2], x[..., 1::2, 0::2]
        top_right, bottom_right = x[..., 0::2, 1::2], x[..., 1::2, 1::2]
        x = torch.cat((top_left, bottom_left, top_right, bottom_right), dim=1)
        return self.reduction(self.norm(x))


class ConvDownsample(nn.Sequential):
    """A 3x3 convolution of stride 2, then a norm. Sizes are rounded up.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        norm: ``"ln"`` or ``"bn"``.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: str = "ln") -> None:
        layers = OrderedDict()
        layers["1"] = channels_last_conv(in_channels, out_channels, 3, stride=2, padding=1)
        layers["3"] = NORMS[norm](out_channels)
        super().__init__(layers)


DOWNSAMPLES: dict[str, type[nn.Module]] = {"v1": PatchMerging2d, "v3": ConvDownsample}
"""The downsampling layers by the names of the official repository."""
