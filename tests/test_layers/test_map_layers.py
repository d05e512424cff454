"""Linear2d, LayerNorm2d, DropPath, the patch embeddings and the downsampling layers."""

import pytest
import torch
from torch import nn

from mamba_mm.layers import (
    ConvDownsample,
    DropPath,
    LayerNorm2d,
    Linear2d,
    PatchEmbedV1,
    PatchEmbedV2,
    PatchMerging2d,
)


def channel_last(x):
    return x.permute(0, 2, 3, 1)


def test_linear2d_is_linear_over_channels():
    layer, reference = Linear2d(5, 7), nn.Linear(5, 7)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(channel_last(layer(x)), reference(channel_last(x)))


def test_linear2d_loads_the_weight_of_a_1x1_convolution():
    layer, convolution = Linear2d(5, 7), nn.Conv2d(5, 7, 1)
    layer.load_state_dict(convolution.state_dict())
    assert layer.weight.shape == (7, 5)
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(layer(x), convolution(x))


def test_linear2d_refuses_another_convolution():
    with pytest.raises(RuntimeError, match="size mismatch"):
        Linear2d(5, 7).load_state_dict(nn.Conv2d(5, 7, 3).state_dict())


def test_linear2d_reports_a_missing_weight():
    with pytest.raises(RuntimeError, match=r'Missing key.*"weight"'):
        Linear2d(5, 7).load_state_dict({"bias": torch.zeros(7)})


def test_layer_norm_2d_is_layer_norm_over_channels():
    layer, reference = LayerNorm2d(6), nn.LayerNorm(6, eps=1e-5)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 3, 4)
    torch.testing.assert_close(channel_last(layer(x)), reference(channel_last(x)))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25).train()
    out = layer(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert (out.flatten(1) == out[:, :1, 0]).all()
    assert abs(out.mean().item() - 1) < 0.05


def test_drop_path_does_nothing_in_evaluation():
    x = torch.randn(4, 2)
    assert DropPath(0.5).eval()(x) is x


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_refuses_what_is_no_rate(rate):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        DropPath(rate)


@pytest.mark.parametrize(("embed", "expected"), [(PatchEmbedV1, (9, 13)), (PatchEmbedV2, (10, 14))])
def test_patch_embedding_of_an_odd_image(embed, expected):
    assert embed(3, 8)(torch.randn(1, 3, 37, 53)).shape == (1, 8, *expected)


@pytest.mark.parametrize("layer", [PatchMerging2d, ConvDownsample])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1), (1, 6)])
def test_downsampling_rounds_up(layer, size):
    expected = tuple((n + 1) // 2 for n in size)
    assert layer(8, 16)(torch.randn(2, 8, *size)).shape == (2, 16, *expected)


def test_patch_merging_takes_rows_first():
    layer = PatchMerging2d(1, 4)
    layer.norm, layer.reduction = nn.Identity(), nn.Identity()
    merged = layer(torch.arange(9.0).view(1, 1, 3, 3))
    assert merged[0, :, 0, 0].tolist() == [0, 3, 1, 4]
    assert merged[0, :, 1, 1].tolist() == [8, 0, 0, 0]
