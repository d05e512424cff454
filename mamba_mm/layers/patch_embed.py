"""From an image to a map of patches, a quarter of its height and width.

The children are named by the official checkpoints, whose numbering has gaps.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .conv import channels_last_conv
from .norm import NORMS


class PatchEmbedV1(nn.Sequential):
    """One convolution over separate 4x4 patches, then a norm.

    An image that 4 does not divide loses its last rows and columns, as in the official
    model.

    Args:
        in_channels: Channels of the image.
        channels: Channels of the map.
        norm: ``"ln"`` or ``"bn"``.
    """

    def __init__(self, in_channels: int, channels: int, norm: str = "ln") -> None:
        layers = OrderedDict()
        layers["0"] = channels_last_conv(in_channels, channels, 4, stride=4)
        layers["2"] = NORMS[norm](channels)
        super().__init__(layers)


class PatchEmbedV2(nn.Sequential):
    """Two overlapping 3x3 convolutions of stride 2, each with a norm.

    Sizes are rounded up. Arguments as in :class:`PatchEmbedV1`.
    """

    def __init__(self, in_channels: int, channels: int, norm: str = "ln") -> None:
        half = channels // 2
        layers = OrderedDict()
        layers["0"] = channels_last_conv(in_channels, half, 3, stride=2, padding=1)
        layers["2"] = NORMS[norm](half)
        layers["4"] = nn.GELU()
        layers["5"] = channels_last_conv(half, channels, 3, stride=2, padding=1)
        layers["7"] = NORMS[norm](channels)
        super().__init__(layers)


PATCH_EMBEDS: dict[str, type[nn.Module]] = {"v1": PatchEmbedV1, "v2": PatchEmbedV2}
"""The patch embeddings by the names of the official repository."""
