"""Where the tokens lie, and what is read from them."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope

from mamba_mm.models.heads import TokenSampler
from mamba_mm.registry import MODELS


def painted(row, column, height, width):
    x = torch.zeros(1, 1, height, width)
    x[0, 0, row, column] = 1
    return x


def sample(sampler, x, *point):
    return sampler(x, torch.tensor([[point]], dtype=torch.float32)).item()


@pytest.mark.parametrize("offset", [6.0, 8.0])
@pytest.mark.parametrize("size", [(192, 256), (256, 256)])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 7), (15, 11), (3, 2)])
def test_a_painted_token_is_read_at_its_own_pixel(offset, size, row, column):
    sampler = TokenSampler(1, size, token_offset=offset, mlp=False)
    x = painted(row, column, size[1] // 16, size[0] // 16)
    assert sample(sampler, x, 16 * column + offset, 16 * row + offset) == pytest.approx(1, abs=1e-5)
    # a token further there is nothing left of it
    assert sample(sampler, x, 16 * column + offset, 16 * (row ^ 1) + offset) == 0


def test_the_wrong_offset_misses_by_an_eighth_of_a_token():
    sampler = TokenSampler(1, (192, 256), token_offset=8.0, mlp=False)
    assert sample(sampler, painted(5, 7, 16, 12), 16 * 7 + 6, 16 * 5 + 6) == pytest.approx(0.875**2)


def test_between_two_tokens_lies_their_mean():
    sampler = TokenSampler(1, (192, 256), token_offset=6.0, mlp=False)
    assert sample(sampler, painted(5, 7, 16, 12), 16 * 7 + 14, 16 * 5 + 6) == pytest.approx(0.5)


def test_x_and_y_may_have_strides_and_offsets_of_their_own():
    sampler = TokenSampler(1, (100, 70), token_stride=(20, 10), token_offset=(3, 1), mlp=False)
    assert sample(sampler, painted(4, 2, 7, 5), 43, 41) == pytest.approx(1, abs=1e-5)


def test_the_offset_is_half_a_stride_by_default():
    sampler = TokenSampler(1, (96, 64), mlp=False)
    assert sample(sampler, painted(1, 2, 2, 3), 80, 48) == pytest.approx(1, abs=1e-5)
    assert sample(sampler, painted(1, 2, 4, 6), 40, 24) == pytest.approx(1, abs=1e-5)


def test_the_table_of_coordinates_for_a_native_crop():
    """-1 and 1 are the edges of the image if patches lie side by side; else 2 pixels beside."""
    points = torch.tensor([[0.0, 0.0], [192.0, 256.0], [48.0, 192.0]])
    expected = 2 * points / torch.tensor([192.0, 256.0]) - 1
    torch.testing.assert_close(TokenSampler(1, (192, 256)).grid(points, (16, 12)), expected)
    padded = TokenSampler(1, (192, 256), token_offset=6.0).grid(points - 2, (16, 12))
    torch.testing.assert_close(padded, expected)


@pytest.mark.parametrize(("mode", "expected"), [("border", 1.0), ("zeros", 0.0)])
@pytest.mark.parametrize("point", [(-300, 5), (2, -50), (-1e6, -1e6)])
def test_points_outside(mode, expected, point):
    sampler = TokenSampler(1, (192, 256), mlp=False, padding_mode=mode)
    assert sample(sampler, painted(0, 0, 16, 12), *point) == pytest.approx(expected)


@pytest.mark.parametrize("detach", [True, False])
def test_gradient_reaches_the_map_and_the_points_only_if_wanted(detach):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 16, 12, requires_grad=True)
    points = torch.tensor([[[70.0, 90.0], [20.0, 33.0]]], requires_grad=True)
    TokenSampler(4, (192, 256), detach=detach)(x, points).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert (points.grad is None) == detach
    assert detach or points.grad.abs().min() > 0


def test_tokens_come_in_the_order_of_the_points_and_pass_the_mlp():
    torch.manual_seed(0)
    sampler = TokenSampler(4, (192, 256)).eval()
    x = torch.randn(2, 4, 16, 12)
    columns = torch.tensor([3, 0, 11])
    points = torch.stack([16.0 * columns + 8, torch.full((3,), 16.0 * 5 + 8)], dim=1)
    tokens = sampler(x, points.expand(2, 3, 2))
    first, norm, _, last = sampler.mlp
    expected = F.linear(x[:, :, 5, columns].transpose(1, 2), first.weight[..., 0], first.bias)
    expected = F.relu(expected / (1 + norm.eps) ** 0.5)
    expected = F.linear(expected, last.weight[..., 0], last.bias)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


def test_positions_stay_precise_in_bfloat16():
    """At pixel 184 bfloat16 knows only whole pixels, and at token 11.375 only 16ths."""
    torch.manual_seed(0)
    sampler = TokenSampler(4, (192, 256), mlp=False)
    x = torch.randn(1, 4, 16, 12)
    points = torch.tensor([[[183.4, 201.7]]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = sampler(x.bfloat16(), points)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        half.float(), sampler(x.bfloat16().float(), points), rtol=4e-3, atol=0
    )


def test_a_stride_is_not_guessed():
    sampler = TokenSampler(4, (200, 256))
    with pytest.raises(ValueError, match=r"no multiple.*token_stride"):
        sampler(torch.zeros(1, 4, 16, 12), torch.zeros(1, 2, 2))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(padding_mode="reflection"), "border, zeros"),
        (dict(token_stride=0), "must be positive"),
        (dict(token_offset=(1, 2, 3)), "one number or two"),
        (dict(input_size=(0, 256)), "must be positive"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        TokenSampler(**{"channels": 4, "input_size": (192, 256), **options})


def test_it_is_built_by_a_config_of_any_toolbox():
    config = dict(type="mamba_mm.TokenSampler", channels=512, input_size=(192, 256))
    with DefaultScope.overwrite_default_scope("mmpose"):
        sampler = MODELS.build(config)
    assert sum(p.numel() for p in sampler.parameters()) == 526_336
