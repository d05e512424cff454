"""Maps that lie channels-last: their convolutions, and how to tell."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def channels_last_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """Make a convolution whose weight lies channels-last, as the maps between our layers do.

    Otherwise PyTorch lays the weight out anew on every call. Shape, names and state dict are
    those of any ``nn.Conv2d``; loading a state dict keeps the layout.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
    return conv.to(memory_format=torch.channels_last)


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of a batch of images or maps, (B, C, H, W).

    Channels-last only where nothing but that describes it: of one channel it is contiguous too.
    """
    if x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format
