import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mamba_mm.layers import SSMixer1D, depthwise_conv1d
from mamba_mm.ops import selective_scan_ref, use_backend

VIM = {"bidirectional": True, "merge": "mean"}
VARIANTS = {
    "mamba": {},
    "vim": VIM,
    "bimamba_v1": {"bidirectional": True, "shared": ("conv", "x_proj", "dt", "D")},
    "all_shared": {"bidirectional": True, "shared": ("conv", "x_proj", "dt", "A", "D")},
    "hydra": {
        "bidirectional": True,
        "shared": ("conv", "A", "D"),
        "conv": "centred",
        "conv_size": 7,
        "shift": True,
    },
    "centred_own": {"bidirectional": True, "conv": "centred", "conv_size": 3},
    "plain": {"gate": False, "conv_bias": False, "activation": "gelu", "dt_rank": 3},
    "shift_forward": {"shift": True},
}


def randomised(channels=6, d_state=4, **options):
    """Every parameter matters and none equals another."""
    torch.manual_seed(0)
    mixer = SSMixer1D(channels, d_state=d_state, **options).double()
    for parameter in mixer.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return mixer


def tokens(length=11, channels=6, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, length, channels, dtype=torch.float64, generator=generator)


def own_or_shared(mixer, name, backward):
    names = {"A": ("A_log", "A_b_log")}.get(name, (name, f"{name}_b"))
    has_own = backward and hasattr(mixer, names[1])
    return getattr(mixer, names[1] if has_own else names[0])


def convolve(x, conv1d, centred):
    """The convolution of (B, E, L) as PyTorch defines it."""
    taps, length = conv1d.weight.shape[2], x.shape[2]
    if centred:
        return F.conv1d(x, conv1d.weight, conv1d.bias, padding=taps // 2, groups=x.shape[1])
    y = F.conv1d(x, conv1d.weight, conv1d.bias, padding=taps - 1, groups=x.shape[1])
    return y[..., :length]


def direction_by_definition(mixer, x, z, backward):
    """One direction with flipped copies, as the official code computes it."""
    conv1d = own_or_shared(mixer, "conv1d", backward)
    centred = mixer._directions[0].domain == "centred"
    if centred:
        x = convolve(x, conv1d, True)
    if backward:
        x, z = x.flip(-1), None if z is None else z.flip(-1)
    if not centred:
        x = convolve(x, conv1d, False)
    u = mixer.activation(x)
    rank, states, _ = mixer.split_sizes
    projected = torch.einsum("re,bel->brl", own_or_shared(mixer, "x_proj", backward).weight, u)
    dt, B, C = projected.split((rank, states, states), dim=1)
    dt_proj = own_or_shared(mixer, "dt_proj", backward)
    skip = own_or_shared(mixer, "D", backward)
    y = selective_scan_ref(
        u,
        torch.einsum("er,brl->bel", dt_proj.weight, dt),
        -torch.exp(own_or_shared(mixer, "A", backward)),
        B,
        C,
        None if mixer.shift else skip,
        z=None if mixer.shift else z,
        delta_bias=dt_proj.bias,
        delta_softplus=True,
    )
    if mixer.shift:
        y = F.pad(y, (1, 0))[..., :-1] + skip[:, None] * u
        y = y if z is None else y * F.silu(z)
    return y.flip(-1) if backward else y


def mixer_by_definition(mixer, x):
    xz = mixer.in_proj(x).transpose(1, 2)
    x, z = xz.chunk(2, dim=1) if mixer.gate else (xz, None)
    y = direction_by_definition(mixer, x, z, False)
    if len(mixer._directions) == 2:
        y = y + direction_by_definition(mixer, x, z, True)
        y = y / 2 if mixer.merge == "mean" else y
    return mixer.out_proj(y.transpose(1, 2))


# --- the definition ---------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [1, 2, 3, 11, 40])
def test_equals_the_definition_with_flipped_copies(variant, length):
    mixer, x = randomised(**VARIANTS[variant]), tokens(length)
    torch.testing.assert_close(mixer(x), mixer_by_definition(mixer, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_equal_those_of_the_definition(variant):
    mixer = randomised(**VARIANTS[variant])
    results = []
    for run in (mixer, lambda x: mixer_by_definition(mixer, x)):
        x = tokens().requires_grad_()
        inputs = [x, *mixer.parameters()]
        results.append(torch.autograd.grad(run(x).sin().sum(), inputs))
    names = ["input", *(name for name, _ in mixer.named_parameters())]
    for name, ours, theirs in zip(names, *results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11, msg=name)
        assert ours.abs().sum() > 0, name


@pytest.mark.parametrize("length", [1, 7, 197])
def test_backward_direction_is_the_forward_one_of_the_flipped_sequence(length):
    """To float32 rounding: the taps of the convolution are added in the other order."""
    mixer = randomised(**VIM).float()
    forward, backward = mixer._directions
    forward = dataclasses.replace(backward, routes=forward.routes, domain=forward.domain)
    x = tokens(length, mixer.inner_channels).float()
    walked = mixer._scan_direction(x, backward)
    flipped = mixer._scan_direction(x.flip(1), forward).flip(1)
    torch.testing.assert_close(walked, flipped, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variant", ["vim", "hydra"])
def test_every_backend_computes_the_same(variant):
    mixer, x = randomised(**VARIANTS[variant]), tokens()
    expected = mixer(x)
    for backend in ("torch", "reference"):
        with use_backend(backend):
            torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-11)
    mixer.fused = False
    torch.testing.assert_close(mixer(x), expected, rtol=1e-9, atol=1e-11)


def test_causal_and_bidirectional_reach():
    x = tokens(9)
    changed = x.clone()
    changed[:, 4] += 1
    moved = {}
    for name in ("mamba", "vim", "centred_own"):
        mixer = randomised(**VARIANTS[name])
        difference = (mixer(changed) - mixer(x)).abs().amax(dim=(0, 2))
        moved[name] = [i for i, d in enumerate(difference) if d > 1e-9]
    assert moved == {
        "mamba": [4, 5, 6, 7, 8],
        "vim": list(range(9)),
        "centred_own": list(range(9)),
    }


# --- the convolution --------------------------------------------------------------------


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_anticausal_convolution_is_the_causal_one_reversed(taps, length):
    x = tokens(length, 5)
    conv1d = nn.Conv1d(5, 5, taps, groups=5).double()
    causal = depthwise_conv1d(x, conv1d.weight, conv1d.bias, "causal")
    torch.testing.assert_close(causal, convolve(x.mT, conv1d, False).mT)
    reversed_ = depthwise_conv1d(x.flip(1), conv1d.weight, conv1d.bias, "anticausal").flip(1)
    torch.testing.assert_close(reversed_, causal)
    if taps % 2:
        centred = depthwise_conv1d(x, conv1d.weight, None, "centred")
        conv1d.bias.data.zero_()
        torch.testing.assert_close(centred, convolve(x.mT, conv1d, True).mT)


# --- precision and layout ---------------------------------------------------------------


def test_parameters_of_the_recurrence_stay_float32_under_autocast():
    mixer = randomised(channels=16, **VIM).float()
    x = tokens(20, 16).float()
    plain = mixer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = mixer(x)
        assert mixer.scan(mixer.in_proj(x).chunk(2, -1)[0]).dtype == torch.float32
    assert lowered.dtype == torch.bfloat16
    error = (plain - lowered.float()).abs().max() / plain.abs().max()
    assert 0 < error < 0.05
    lowered.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in mixer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_models(dtype):
    mixer = randomised(channels=16, **VIM).to(dtype)
    y = mixer(tokens(20, 16).to(dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()


def test_tokens_may_lie_anyhow():
    mixer, x = randomised(**VIM), tokens()
    expected = mixer(x)
    for strided in (x.transpose(1, 2).contiguous().transpose(1, 2), x.repeat(1, 1, 2)[..., :6]):
        torch.testing.assert_close(mixer(strided), expected)


# --- parameters -------------------------------------------------------------------------


def test_parameters_are_named_as_in_mamba_and_vim():
    mamba = {
        "in_proj.weight": (2 * 384, 192),
        "conv1d.weight": (384, 1, 4),
        "conv1d.bias": (384,),
        "x_proj.weight": (12 + 32, 384),
        "dt_proj.weight": (384, 12),
        "dt_proj.bias": (384,),
        "A_log": (384, 16),
        "D": (384,),
        "out_proj.weight": (192, 384),
    }
    shapes = {k: tuple(v.shape) for k, v in SSMixer1D(192).state_dict().items()}
    assert shapes == mamba
    backward = {"A_b_log": (384, 16), "D_b": (384,)}
    backward |= {
        key.replace(".", "_b."): shape
        for key, shape in mamba.items()
        if key.startswith(("conv1d", "x_proj", "dt_proj"))
    }
    shapes = {k: tuple(v.shape) for k, v in SSMixer1D(192, **VIM).state_dict().items()}
    assert shapes == mamba | backward


@pytest.mark.parametrize("shared", [(), ("conv",), ("A", "D"), ("x_proj", "dt")])
def test_what_is_shared_has_no_second_parameter(shared):
    names = set(SSMixer1D(16, bidirectional=True, shared=shared).state_dict())
    second = {
        "conv": "conv1d_b.weight",
        "x_proj": "x_proj_b.weight",
        "dt": "dt_proj_b.weight",
        "A": "A_b_log",
        "D": "D_b",
    }
    assert {part for part, name in second.items() if name not in names} == set(shared)


def test_initialisation():
    mixer = SSMixer1D(128, **VIM)
    for dt_proj, A_log, D in (
        (mixer.dt_proj, mixer.A_log, mixer.D),
        (mixer.dt_proj_b, mixer.A_b_log, mixer.D_b),
    ):
        steps = F.softplus(dt_proj.bias)
        assert 1e-3 * 0.99 <= steps.min() < 2e-3
        assert 0.05 < steps.max() <= 0.1 * 1.01
        assert dt_proj.weight.abs().max() <= 8**-0.5
        torch.testing.assert_close(A_log[3], torch.arange(1, 17).log())
        assert (D == 1).all()


def test_rank_of_the_step_sizes():
    assert SSMixer1D(40).split_sizes[0] == math.ceil(40 / 16)
    assert SSMixer1D(40, dt_rank=5).dt_proj.weight.shape == (80, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv": "valid"}, "unknown conv 'valid'; known: causal, centred"),
        ({"merge": "max", "bidirectional": True}, "unknown merge 'max'; known: sum, mean"),
        ({"activation": "relu"}, "unknown activation 'relu'; known: silu, gelu"),
        ({"shared": ("B",), "bidirectional": True}, "unknown shared part 'B'; known: conv, x_proj"),
        ({"conv": "centred"}, "odd conv_size, got 4"),
        ({"merge": "mean"}, "set bidirectional=True"),
        ({"shared": ("A",)}, "set bidirectional=True"),
        ({"d_state": 0}, "at least 1, got 32, 0, 1 and 4"),
        ({"ssm_ratio": 0.01}, "at least 1"),
        ({"conv_size": 0}, "at least 1"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        SSMixer1D(16, **options)
