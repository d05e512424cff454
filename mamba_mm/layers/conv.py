"""Convolutions on maps that lie channels-last."""

from __future__ import annotations

import torch
from torch import nn


def channels_last_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0
) -> nn.Conv2d:
    """Make a convolution whose weight lies channels-last, as the maps between our layers do.

    Otherwise PyTorch lays the weight out anew on every call. Shape, names and state dict are
    those of any ``nn.Conv2d``; loading a state dict keeps the layout.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)
    return conv.to(memory_format=torch.channels_last)
