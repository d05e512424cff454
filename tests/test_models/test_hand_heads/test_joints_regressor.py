"""The joints regressor, the reduction and the read-out."""

import pytest
import torch

from mamba_mm.models.heads import ChannelReduction, JointsRegressor, ReadOut
from mamba_mm.registry import MODELS

SIZES = dict(pose=96, betas=10, cam=3)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_sizes():
    with torch.device("meta"):
        regressor = JointsRegressor(512, SIZES)
        half = JointsRegressor(512, SIZES, num_directions=2)
        narrow = JointsRegressor(512, SIZES, depth=1, ssm=dict(ssm_ratio=1.0))
        assert count(ChannelReduction(1280, 512)) == 919_552
        assert count(ReadOut(1578, SIZES)) == 172_111
    assert count(regressor) == 13_833_837
    assert [count(r.blocks[0]) for r in (regressor, half, narrow)] == [
        3_444_224,
        3_302_912,
        2_772_992,
    ]


def test_the_map_is_read_as_a_map():
    """On a real map rows and columns are different walks."""
    torch.manual_seed(0)
    regressor = JointsRegressor(8, dict(a=5), depth=2, init_gain=None)
    x = torch.randn(2, 8, 4, 4)
    blocks = regressor.norm(regressor.blocks(x)).mean(dim=(2, 3))
    torch.testing.assert_close(regressor(x)["a"], regressor.read_out.outputs["a"](blocks))
    assert not torch.allclose(regressor(x)["a"], regressor(x.flip(2))["a"], atol=1e-6)


def test_the_light_form_reads_the_mean():
    torch.manual_seed(0)
    regressor = JointsRegressor(8, dict(a=5, b=2), mode="mlp", init_gain=None)
    x = torch.randn(2, 8, 4, 3)
    mean = x.mean(dim=(2, 3))
    expected = regressor.read_out(regressor.norm(mean + regressor.mlp(mean)))
    torch.testing.assert_close(regressor(x), expected)
    assert {name: y.shape for name, y in expected.items()} == {"a": (2, 5), "b": (2, 2)}
    regressor(x)["a"].sum().backward()
    assert regressor.mlp[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", ["vss", "mlp"])
def test_every_parameter_is_used(mode):
    torch.manual_seed(0)
    regressor = JointsRegressor(8, dict(a=5, b=2), mode=mode, depth=1, hidden_dims=6)
    sum(y.square().sum() for y in regressor(torch.randn(2, 8, 4, 3)).values()).backward()
    assert all(p.grad.abs().max() > 0 for p in regressor.parameters())


def test_outputs_start_near_zero_or_as_pytorch_starts_them():
    torch.manual_seed(0)
    small, plain = ReadOut(64, dict(a=32)), ReadOut(64, dict(a=32), init_gain=None)
    bound = 0.01 * (6 / (64 + 32)) ** 0.5
    assert 0.9 * bound < small.outputs["a"].weight.abs().max() <= bound
    assert (small.outputs["a"].bias == 0).all()
    assert plain.outputs["a"].weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.05)
    assert (plain.outputs["a"].bias != 0).any()


def test_hidden_layer():
    torch.manual_seed(0)
    read_out = ReadOut(6, dict(a=3), hidden_dims=5)
    assert count(read_out) == 6 * 5 + 5 + 5 * 3 + 3
    x = torch.randn(2, 6)
    hidden = read_out.hidden[0](x).relu()
    torch.testing.assert_close(read_out(x)["a"], read_out.outputs["a"](hidden))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(mode="cnn"), "unknown mode 'cnn'; known: vss, mlp"),
        (dict(depth=0), "depth must be at least 1"),
        (dict(num_directions=8), "1, 2 or 4, got 8"),
        (dict(hidden_dims=0), "hidden_dims must be positive"),
        (dict(output_sizes={}), "must have a positive size"),
        (dict(output_sizes=dict(a=0)), "must have a positive size"),
        (dict(ssm=dict(rank=2)), "unknown settings"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        JointsRegressor(**{"channels": 8, "output_sizes": SIZES, **options})


def test_they_are_built_by_configs():
    assert isinstance(
        MODELS.build(dict(type="mamba_mm.JointsRegressor", channels=8, output_sizes=dict(a=1))),
        JointsRegressor,
    )
    reduction = MODELS.build(dict(type="mamba_mm.ChannelReduction", in_channels=6, out_channels=4))
    assert reduction(torch.zeros(2, 6, 5, 3)).shape == (2, 4, 5, 3)
    assert (reduction[2](torch.tensor([-1.0])) == 0).all()
