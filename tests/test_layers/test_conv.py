import copy

import torch
from torch import nn

from mamba_mm.layers.conv import channels_last_conv


def lies_channels_last(conv):
    return conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_weight_keeps_its_layout():
    conv = channels_last_conv(4, 6, 3, stride=2, padding=1)
    assert lies_channels_last(conv)
    conv.load_state_dict(nn.Conv2d(4, 6, 3).state_dict())
    for other in (conv, copy.deepcopy(conv), conv.double()):
        assert lies_channels_last(other)


def test_it_is_an_ordinary_convolution():
    conv, plain = channels_last_conv(4, 6, 3, stride=2, padding=1), nn.Conv2d(4, 6, 3, 2, 1)
    plain.load_state_dict(conv.state_dict())
    x = torch.randn(2, 4, 7, 9)
    torch.testing.assert_close(conv(x), plain(x))
