import math

import pytest
import torch
import torch.nn.functional as F

from mamba_mm.layers import SSMixer2D, VSSBlock, ss_mixer
from mamba_mm.ops import selective_scan_ref, use_backend
from mamba_mm.ops.routes import ROUTE_SETS, multi_head

local_vmamba_layer = ROUTE_SETS["local_vmamba_tiny"][0]
VARIANTS = {
    "s1": {},
    "v0": {"ssm_ratio": 2.0, "d_state": 4, "gate": True, "conv_bias": True},
    "gelu": {"activation": "gelu", "dt_rank": 3},
}


def walk_of(route, height, width):
    """The positions of a route, written out by its definition in the paper."""
    positions = [divmod(i, width) for i in range(height * width)]
    if route in (1, 3):
        positions.sort(key=lambda position: position[::-1])
    return positions[::-1] if route in (2, 3) else positions


def scan_by_definition(mixer, x):
    """Route by route, with the sequential scan."""
    rank, states, _ = mixer.split_sizes
    inner, (height, width) = x.shape[1], x.shape[2:]
    total = torch.zeros_like(x)
    for route in range(4):
        rows, columns = zip(*walk_of(route, height, width), strict=True)
        u = x[:, :, rows, columns]
        projected = torch.einsum("re,bel->brl", mixer.x_proj_weight[route], u)
        dt, B, C = projected.split((rank, states, states), dim=1)
        own = slice(route * inner, (route + 1) * inner)
        y = selective_scan_ref(
            u,
            torch.einsum("er,brl->bel", mixer.dt_projs_weight[route], dt),
            -torch.exp(mixer.A_logs[own]),
            B,
            C,
            mixer.Ds[own],
            delta_bias=mixer.dt_projs_bias[route],
            delta_softplus=True,
        )
        total[:, :, rows, columns] += y
    return total


@pytest.mark.parametrize("variant", VARIANTS)
def test_scan_equals_its_definition(variant):
    torch.manual_seed(0)
    mixer = SSMixer2D(6, **VARIANTS[variant]).double()
    inner = mixer.out_norm.normalized_shape[0]
    x = torch.randn(2, inner, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(mixer.scan(x), scan_by_definition(mixer, x))


ROUTES = {
    "bidirectional": 2,
    "atrous2": 4,
    "serpentine": 1,
    "fer": 8,
    "mhsvm_x": 4,
    "heads": 6,
    "list": 2,
    "mapping": 1,
}


def routes_of(name, channels):
    if name == "heads":
        return multi_head([["row", "col"], ["~row", "~col"], ["snake_row", "zigzag"]], channels)
    if name == "list":
        return ["row", "~col"]
    if name == "mapping":
        return {"routes": ["row", "~row"], "param_group": [0, 0], "merge": "mean"}
    return name


@pytest.mark.parametrize("name", ROUTES)
def test_other_routes_fused_and_unfused(name):
    """A route set makes another mixer; the unfused scan computes the same, gradients too."""
    results = []
    for fused in (None, False):
        torch.manual_seed(0)
        mixer = SSMixer2D(6, d_state=2, routes=routes_of(name, 6), fused=fused).double()
        assert mixer.x_proj_weight.shape[0] == ROUTES[name]
        x = torch.randn(2, 6, 4, 5, dtype=torch.float64, requires_grad=True)
        y = mixer(x)
        gradients = torch.autograd.grad(y.square().sum(), [x, *mixer.parameters()])
        results.append([y, *gradients])
    assert all(g.abs().max() > 0 for g in results[0])
    torch.testing.assert_close(*results)


def test_routes_decide_what_is_computed():
    mixers = [SSMixer2D(4, routes=routes) for routes in ("cross", ["row", "~row", "col", "~col"])]
    mixers[1].load_state_dict(mixers[0].state_dict())
    x = torch.randn(1, 4, 3, 5)
    assert not torch.allclose(mixers[0](x), mixers[1](x))


@pytest.mark.parametrize(
    ("routes", "needed"),
    [
        ("msvmamba_v2", "2 branches"),
        ("vim", "an extra token"),
        (["row:reverse_then_middle"], "an extra token"),
        (local_vmamba_layer, "a gate for every route"),
        ({"routes": ["row"], "dynamic": True}, "an order of the tokens"),
        ({"routes": ["row"] * 2, "channel_slices": [(0, 2), (2, 4)]}, "end at the 8 inner"),
        (
            {"routes": ["row"] * 2, "channel_slices": [(0, 4), (4, 8)], "param_group": [1, 0]},
            "parameter groups",
        ),
    ],
)
def test_routes_that_need_another_mixer_are_refused(routes, needed):
    with pytest.raises(ValueError, match=needed):
        SSMixer2D(8, routes=routes)


def test_unfused_scan_may_be_demanded_and_the_fused_one_refused(monkeypatch):
    mixer = SSMixer2D(4, fused=True)
    with use_backend("torch"), pytest.raises(ValueError, match="has no fused op"):
        mixer(torch.randn(1, 4, 3, 3))


def test_gate_multiplies_the_normed_output():
    torch.manual_seed(0)
    mixer = SSMixer2D(4, gate=True, conv_bias=True)
    x = torch.randn(1, 4, 3, 3)
    inside, z = mixer.in_proj(x).chunk(2, dim=1)
    ungated = mixer.out_norm(mixer.scan(F.silu(mixer.conv2d(inside))))
    torch.testing.assert_close(mixer(x), mixer.out_proj(ungated * F.silu(z)))


def test_initialisation():
    torch.manual_seed(0)
    mixer = SSMixer2D(256, ssm_ratio=2.0, d_state=16)
    rank, inner = 16, 512
    assert mixer.split_sizes == (rank, 16, 16)

    dt = F.softplus(mixer.dt_projs_bias.double())
    assert dt.min() >= 1e-3 * 0.999
    assert dt.max() <= 1e-1 * 1.001
    middle = (math.log(1e-3) + math.log(1e-1)) / 2
    spread = (math.log(1e-1) - math.log(1e-3)) / math.sqrt(12)
    assert dt.log().mean().item() == pytest.approx(middle, abs=0.1)
    assert dt.log().std().item() == pytest.approx(spread, rel=0.05)

    expected = torch.arange(1, 17).log().expand(4 * inner, 16)
    torch.testing.assert_close(mixer.A_logs.data, expected)
    assert (mixer.Ds == 1).all()
    for weight, fan_in in ((mixer.dt_projs_weight, rank), (mixer.x_proj_weight, inner)):
        assert weight.abs().max() <= fan_in**-0.5
        assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.05)


def test_one_state_decays_at_rate_one():
    assert (SSMixer2D(8).A_logs == 0).all()


@pytest.mark.parametrize(("channels", "rank"), [(96, 6), (32, 2), (20, 2), (16, 1), (8, 1)])
def test_rank_is_a_sixteenth_of_the_stage_width_rounded_up(channels, rank):
    assert SSMixer2D(channels, ssm_ratio=2.0).dt_projs_weight.shape == (4, 2 * channels, rank)


@pytest.mark.parametrize(
    ("scan_float32", "expected"), [(False, torch.bfloat16), (True, torch.float32)]
)
def test_precision_of_the_scan_under_autocast(monkeypatch, scan_float32, expected):
    seen = {}

    def spy(x, params, A, D, delta_bias, *, delta_weight, out_dtype, **options):
        assert not torch.is_autocast_enabled("cpu")
        seen["inputs"] = {t.dtype for t in (x, params)}
        seen["parameters"] = {t.dtype for t in (A, D, delta_bias, delta_weight)}
        seen["out"] = out_dtype
        return torch.zeros_like(x, dtype=out_dtype)

    monkeypatch.setattr(ss_mixer, "route_scan", spy)
    mixer = SSMixer2D(8, scan_float32=scan_float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer(torch.randn(1, 8, 3, 3))
    assert y.dtype == torch.bfloat16
    assert seen == {"inputs": {expected}, "parameters": {torch.float32}, "out": torch.float32}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"activation": "relu"}, "silu, gelu"),
        ({"norm": "gn"}, "ln, bn"),
        ({"d_state": 0}, "at least 1"),
        ({"dt_rank": 0}, "at least 1"),
        ({"ssm_ratio": 0.0}, "at least 1"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        SSMixer2D(8, **options)


def test_block_draws_both_branches_from_one_drop_path():
    block = VSSBlock(SSMixer2D(8), 8, drop_path=0.3)
    drawn = []
    block.drop_path.register_forward_hook(lambda *_: drawn.append(1))
    block(torch.randn(2, 8, 3, 3))
    assert len(drawn) == 2


def test_block_without_mlp_has_no_second_norm():
    names = dict(VSSBlock(SSMixer2D(8), 8, mlp_ratio=0).named_children())
    assert set(names) == {"norm", "op", "drop_path"}


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_a_residual_is_added_and_left_as_it_is(activation):
    mixer = SSMixer2D(6, activation=activation)
    x, residual = torch.randn(2, 6, 5, 4), torch.randn(2, 6, 5, 4)
    copy = residual.clone()
    expected = residual + mixer(x)
    torch.testing.assert_close(mixer(x, residual), expected)
    with torch.no_grad():
        torch.testing.assert_close(mixer(x, residual), expected)
    assert torch.equal(residual, copy)


def test_the_kernel_of_the_convolution_may_be_long_in_one_direction():
    """On a map of one column the outer columns of a square kernel meet nothing but padding."""
    torch.manual_seed(0)
    square, line = SSMixer2D(6), SSMixer2D(6, conv_size=(3, 1))
    state = square.state_dict()
    state["conv2d.weight"] = state["conv2d.weight"][..., 1:2]
    line.load_state_dict(state)
    x = torch.randn(2, 6, 7, 1)
    torch.testing.assert_close(line(x), square(x))


def test_size_of_the_convolution():
    weights = {size: SSMixer2D(8, conv_size=size).conv2d.weight for size in (1, 5, (5, 3))}
    assert [tuple(w.shape[2:]) for w in weights.values()] == [(1, 1), (5, 5), (5, 3)]
    assert SSMixer2D(8, conv_size=(5, 3))(torch.randn(1, 8, 4, 6)).shape == (1, 8, 4, 6)


@pytest.mark.parametrize("size", [0, 2, (3, 4), (3, 3, 3)])
def test_kernels_that_would_change_the_size_are_refused(size):
    with pytest.raises(ValueError, match="conv_size must be an odd number"):
        SSMixer2D(8, conv_size=size)
