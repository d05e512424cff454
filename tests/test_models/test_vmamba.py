import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import nn

from mamba_mm.models import VMAMBA_ARCHS, VMamba, VMambaArch
from mamba_mm.registry import MODELS

# body, body with four output norms, tensors of the classifier's state dict
OFFICIAL_SIZES = {
    "v0_tiny": (22_122_912, 22_125_792, 212),
    "v0_small": (43_646_880, 43_649_760, 446),
    "v0_base": (75_227_008, 75_230_848, 446),
    "tiny_s2l5": (29_935_296, 29_938_176, 222),
    "small_s2l15": (49_377_216, 49_380_096, 402),
    "base_s2l15": (87_530_752, 87_534_592, 402),
    "tiny_s1l8": (29_478_528, 29_481_408, 276),
    "small_s1l20": (48_242_304, 48_245_184, 492),
    "base_s1l20": (85_587_456, 85_591_296, 492),
    "vmunet_encoder": (13_752_480, 13_755_360, 121),
}
SMALL_V0 = {"base": "v0_tiny", "dims": 16, "depths": (1, 1, 1, 1), "d_state": 2}
SMALL = ["nano", SMALL_V0]


def count(model, without=""):
    named = model.named_parameters()
    return sum(p.numel() for name, p in named if not without or not name.startswith(without))


def randomised(arch, **options):
    """A model whose every path matters: at the start the residual branches are nearly 0."""
    torch.manual_seed(0)
    model = VMamba(arch, **options)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


# --- the presets ------------------------------------------------------------------------


@pytest.mark.parametrize("arch", OFFICIAL_SIZES)
def test_sizes_of_the_released_models(arch):
    body, backbone, classifier_tensors = OFFICIAL_SIZES[arch]
    with torch.device("meta"):
        model = VMamba(arch)
    assert count(model) == backbone
    assert count(model, without="outnorm") == body
    assert len(model.state_dict()) == classifier_tensors + 4


def test_presets_are_the_released_models_and_nano():
    assert set(VMAMBA_ARCHS) == {*OFFICIAL_SIZES, "nano"}


def block_keys(gate_and_bias, mlp):
    keys = ["norm.weight", "norm.bias", "op.in_proj.weight", "op.conv2d.weight"]
    keys += ["op.conv2d.bias"] if gate_and_bias else []
    keys += ["op.x_proj_weight", "op.dt_projs_weight", "op.dt_projs_bias", "op.A_logs", "op.Ds"]
    keys += ["op.out_norm.weight", "op.out_norm.bias", "op.out_proj.weight"]
    if mlp:
        keys += ["norm2.weight", "norm2.bias"]
        keys += [f"mlp.{fc}.{kind}" for fc in ("fc1", "fc2") for kind in ("weight", "bias")]
    return keys


def official_keys(depths, generation):
    modern = generation != "v0"
    embed = (0, 2, 5, 7) if modern else (0, 2)
    keys = {f"patch_embed.{i}.{kind}" for i in embed for kind in ("weight", "bias")}
    blocks = [f"layers.{i}.blocks.{j}" for i in range(4) for j in range(depths[i])]
    keys |= {f"{block}.{key}" for block in blocks for key in block_keys(not modern, modern)}
    down = ["1.weight", "1.bias", "3.weight", "3.bias"]
    if not modern:
        down = ["norm.weight", "norm.bias", "reduction.weight"]
    keys |= {f"layers.{i}.downsample.{k}" for i in range(3) for k in down}
    return keys | {f"outnorm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("arch", "generation"), [("v0_tiny", "v0"), ("tiny_s2l5", "s2"), ("tiny_s1l8", "s1")]
)
def test_state_dict_is_spelled_as_the_official_one(arch, generation):
    with torch.device("meta"):
        model = VMamba(arch)
    assert set(model.state_dict()) == official_keys(VMAMBA_ARCHS[arch].depths, generation)


def test_shapes_of_the_official_state_dict():
    with torch.device("meta"):
        state = VMamba("tiny_s2l5").state_dict()
    shapes = {
        "in_proj.weight": (1536, 768),
        "conv2d.weight": (1536, 1, 3, 3),
        "x_proj_weight": (4, 50, 1536),
        "dt_projs_weight": (4, 1536, 48),
        "dt_projs_bias": (4, 1536),
        "A_logs": (6144, 1),
        "Ds": (6144,),
        "out_proj.weight": (768, 1536),
    }
    for key, shape in shapes.items():
        assert state[f"layers.3.blocks.1.op.{key}"].shape == shape


def test_linear_weights_saved_as_convolutions_load():
    source = randomised("nano")
    state = source.state_dict()
    linear = [name for name, m in source.named_modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 5 * 4
    for name in linear:
        state[f"{name}.weight"] = state[f"{name}.weight"][:, :, None, None]
    target = VMamba("nano")
    target.load_state_dict(state)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


# --- shapes and layouts -----------------------------------------------------------------


def test_strides_4_8_16_32():
    maps = VMamba("nano")(torch.randn(2, 3, 64, 96))
    assert isinstance(maps, tuple)
    sizes = [(2, 32, 16, 24), (2, 64, 8, 12), (2, 128, 4, 6), (2, 256, 2, 3)]
    assert [tuple(m.shape) for m in maps] == sizes
    assert all(m.is_contiguous() for m in maps)


@pytest.mark.parametrize("arch", SMALL, ids=["nano", "v0"])
@pytest.mark.parametrize("size", [(37, 53), (4, 4), (4, 67), (33, 32)])
def test_any_size_of_a_patch_or_more(arch, size):
    maps = VMamba(arch)(torch.randn(1, 3, *size))
    first = [-(-n // 4) if arch == "nano" else n // 4 for n in size]
    for i, m in enumerate(maps):
        assert tuple(m.shape[2:]) == tuple(-(-n // 2**i) for n in first)
        assert m.isfinite().all()


@pytest.mark.parametrize("arch", SMALL, ids=["nano", "v0"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 3, 64), "at least 4x4 pixels.*got 3x64"),
        ((1, 3, 64, 1), "at least 4x4 pixels.*got 64x1"),
        ((1, 4, 64, 64), r"\(B, 3, H, W\), got \(1, 4, 64, 64\)"),
        ((3, 64, 64), r"\(B, 3, H, W\), got \(3, 64, 64\)"),
    ],
)
def test_other_shapes_are_refused(arch, shape, message):
    with pytest.raises(ValueError, match=message):
        VMamba(arch)(torch.randn(shape))


def test_other_numbers_of_channels():
    assert VMamba("nano", in_channels=5)(torch.randn(1, 5, 32, 32))[0].shape == (1, 32, 8, 8)


@pytest.mark.parametrize("arch", SMALL, ids=["nano", "v0"])
def test_channels_first_and_last_give_the_same(arch):
    model = randomised(arch).eval()
    image = torch.randn(2, 3, 37, 53)
    with torch.no_grad():
        first = model(image)
        last = model.to(memory_format=torch.channels_last)(
            image.contiguous(memory_format=torch.channels_last)
        )
    for a, b in zip(first, last, strict=True):
        assert a.is_contiguous()
        assert b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_rows_and_columns_are_not_mistaken():
    model = randomised("nano").eval()
    image = torch.randn(1, 3, 32, 64)
    upright, turned = model(image)[0], model(image.mT)[0]
    assert upright.shape == turned.mT.shape
    assert not torch.allclose(upright, turned.mT, atol=1e-2)


@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (1, 2, 3), (3,), (0, 2), [1]])
def test_out_indices_choose_the_maps(indices):
    whole = randomised("nano").eval()
    part = VMamba("nano", out_indices=indices).eval()
    state = whole.state_dict()
    unused = {f"outnorm{i}" for i in range(4) if i not in indices}
    part.load_state_dict({k: v for k, v in state.items() if k.split(".")[0] not in unused})
    image = torch.randn(1, 3, 32, 32)
    maps = whole(image)
    assert part.out_channels == tuple((32, 64, 128, 256)[i] for i in indices)
    for i, m in zip(indices, part(image), strict=True):
        torch.testing.assert_close(m, maps[i])


# --- gradients and training -------------------------------------------------------------


@pytest.mark.parametrize("arch", SMALL, ids=["nano", "v0"])
@pytest.mark.parametrize("indices", [(0, 1, 2, 3), (3,), (0, 1)])
def test_exactly_the_trainable_parameters_get_a_gradient(arch, indices):
    model = randomised(arch, out_indices=indices)
    sum(m.square().sum() for m in model(torch.randn(2, 3, 32, 48))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad.abs().sum() > 0, name
    deepest = max(indices)
    for i, stage in enumerate(model.layers):
        assert all(p.requires_grad == (i <= deepest) for p in stage.blocks.parameters())


@pytest.mark.parametrize("frozen", [-1, 0, 1, 2, 4])
def test_frozen_stages(frozen):
    model = VMamba("nano", frozen_stages=frozen, drop_path_rate=0.2)
    assert model.eval() is model
    assert model.train() is model
    parts = {"patch_embed": 0} | {f"layers.{i}": i + 1 for i in range(4)}
    parts |= {f"outnorm{i}": i + 1 for i in range(4)}
    for name, needed in parts.items():
        part, is_frozen = model.get_submodule(name), frozen >= needed
        assert all(p.requires_grad != is_frozen for p in part.parameters()), name
        assert all(m.training != is_frozen for m in part.modules()), name
    assert not model.eval().training


def test_norm_eval_keeps_batch_norms_in_evaluation():
    arch = {"base": "nano", "norm": "bn"}
    for norm_eval in (False, True):
        model = VMamba(arch, norm_eval=norm_eval).train()
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert len(norms) == 2 + 3 * 5 + 3 + 4
        assert all(norm.training != norm_eval for norm in norms)
        assert model.layers[0].blocks[0].drop_path.training


def test_checkpointing_recomputes_every_block():
    model = VMamba("nano", with_cp=True)
    runs = []
    for stage in model.layers:
        for block in stage.blocks:
            block.op.register_forward_hook(lambda *_: runs.append(1))
    sum(m.sum() for m in model(torch.randn(1, 3, 32, 32))).backward()
    assert len(runs) == 2 * 5


def test_drop_path_grows_linearly_over_all_blocks():
    model = VMamba("nano", drop_path_rate=0.4)
    rates = [block.drop_path.rate for stage in model.layers for block in stage.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("arch", "rate"),
    [("v0_base", 0.6), ("base_s2l15", 0.6), ("base_s1l20", 0.5), ("tiny_s1l8", 0.2), ("nano", 0)],
)
def test_drop_path_of_a_preset(arch, rate):
    with torch.device("meta"):
        assert VMamba(arch).layers[-1].blocks[-1].drop_path.rate == pytest.approx(rate)
        overridden = VMamba(arch, drop_path_rate=0.05)
    assert overridden.layers[-1].blocks[-1].drop_path.rate == pytest.approx(0.05)


def test_linear_layers_start_small():
    model = VMamba({"base": "nano", "dims": 128, "depths": (1, 1)}, out_indices=(0, 1))
    mlp = model.layers[1].blocks[0].mlp
    assert mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (mlp.fc1.bias == 0).all()
    assert model.layers[1].blocks[0].op.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("arch", SMALL, ids=["nano", "v0"])
def test_autocast(arch):
    model = randomised(arch).eval()
    image = torch.randn(2, 3, 32, 48)
    plain = model(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = model(image)
    for a, b in zip(plain, lowered, strict=True):
        error = (a - b.float()).abs().max() / a.abs().max()
        assert 0 < error < 0.05
    sum(m.float().square().sum() for m in lowered).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


# --- layer depths -----------------------------------------------------------------------


def test_layer_depth():
    model = VMamba("nano")  # depths 1, 1, 2, 1
    depth = {
        "backbone.patch_embed.0.weight": 0,
        "backbone.layers.0.blocks.0.norm.weight": 1,
        "backbone.layers.0.downsample.1.weight": 1,
        "backbone.layers.2.blocks.0.op.Ds": 3,
        "backbone.layers.2.blocks.1.op.Ds": 4,
        "backbone.layers.2.downsample.3.bias": 4,
        "backbone.layers.3.blocks.0.op.Ds": 5,
        "backbone.outnorm0.weight": 6,
        "head.fc.weight": 6,
    }
    assert {name: model.get_layer_depth(name, "backbone.") for name in depth} == {
        name: (value, 7) for name, value in depth.items()
    }


def test_layer_depth_of_every_parameter_rises_from_stem_to_norms():
    model = VMamba("nano")
    depths = [model.get_layer_depth(name)[0] for name, _ in model.named_parameters()]
    assert depths == sorted(depths)
    assert set(depths) == set(range(7))


# --- mistakes ---------------------------------------------------------------------------


def test_unknown_arch_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown arch 'tiny'; known: ") as error:
        VMamba("tiny")
    assert all(name in str(error.value) for name in VMAMBA_ARCHS)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ({"base": "huge"}, "unknown arch 'huge'; known: v0_tiny"),
        ({"base": "nano", "dstate": 2}, "unknown arch field.* dstate; known: base, dims, depths"),
        ({"dims": 32}, "needs depths, or base"),
        ({}, "needs dims and depths, or base"),
        ({"dims": (32, 64), "depths": (1, 1, 1)}, "one entry a stage"),
        ({"base": "nano", "depths": (1, 0, 1, 1)}, "must be positive"),
        ({"base": "nano", "d_state": 0}, "must be positive"),
        ({"base": "nano", "norm": "gn"}, "unknown norm 'gn'; known: ln, bn"),
        ({"base": "nano", "activation": "relu"}, "unknown activation 'relu'; known: silu, gelu"),
        ({"base": "nano", "patch_embed": "v9"}, "unknown patch_embed 'v9'; known: v1, v2"),
        ({"base": "nano", "downsample": "v2"}, "unknown downsample 'v2'; known: v1, v3"),
        ({"base": "nano", "mlp_ratio": -1}, "mlp_ratio must not be negative"),
        ({"base": "nano", "drop_path_rate": 1.0}, r"drop_path_rate must lie in \[0, 1\)"),
    ],
)
def test_bad_arch_is_explained(arch, message):
    with pytest.raises(ValueError, match=message):
        VMamba(arch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_indices": (0, 4)}, r"out_indices .* from 0 to 3, got \(0, 4\)"),
        ({"out_indices": (-1,)}, "out_indices .* from 0 to 3"),
        ({"out_indices": (1, 0)}, "ascending"),
        ({"out_indices": (1, 1)}, "each once"),
        ({"out_indices": ()}, "out_indices"),
        ({"frozen_stages": 5}, r"frozen_stages must be from -1 \(none\) to 4 .* got 5"),
        ({"frozen_stages": -2}, "frozen_stages"),
        ({"drop_path_rate": -0.1}, "drop_path_rate"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        VMamba("nano", **options)


def test_unknown_options_are_not_swallowed():
    with pytest.raises(TypeError, match="ssm_d_state"):
        VMamba("nano", ssm_d_state=1)


def test_arch_dict_overrides_a_preset():
    model = VMamba({"base": "tiny_s1l8", "dims": 16, "depths": [1, 1, 1, 1]})
    assert model.arch_settings == VMambaArch((16, 32, 64, 128), (1, 1, 1, 1), drop_path_rate=0.2)


# --- MMEngine ---------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["mmdet", "mmpretrain"])
def test_registry_under_a_toolbox_scope(scope):
    pytest.importorskip(scope, reason=f"{scope} is not installed")
    with DefaultScope.overwrite_default_scope(scope):
        model = ROOT_MODELS.build({"type": "mamba_mm.VMamba", "arch": "nano"})
    assert type(model) is VMamba
    assert MODELS.get("VMamba") is VMamba


def test_models_import_without_any_toolbox():
    blocked = "mmdet", "mmcv", "mmpretrain", "mmseg", "mmpose"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "from mmengine.registry import MODELS\n"
        "MODELS.build(dict(type='mamba_mm.VMamba', arch='nano'))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_official_initialisation_stays_without_init_cfg():
    model = VMamba("nano")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_other_init_cfg_goes_to_mmengine():
    model = VMamba("nano", init_cfg={"type": "Constant", "layer": "Conv2d", "val": 0.5, "bias": 0})
    model.init_weights()
    assert (model.patch_embed[0].weight == 0.5).all()


def test_pretrained_init_cfg_loads_after_the_others(tmp_path):
    source, path = randomised("nano"), tmp_path / "nano.pth"
    torch.save({"state_dict": source.state_dict()}, path)
    init_cfg = [
        {"type": "Pretrained", "checkpoint": str(path)},
        {"type": "Constant", "layer": "Conv2d", "val": 0.5, "bias": 0},
    ]
    model = VMamba("nano", init_cfg=init_cfg)
    model.init_weights()
    assert model.init_cfg == init_cfg
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_pretrained_init_cfg_is_strict(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"state_dict": VMamba(SMALL_V0).state_dict()}, path)
    with pytest.raises(Exception, match="d_state"):
        VMamba("nano", init_cfg={"type": "Pretrained", "checkpoint": str(path)}).init_weights()


@pytest.mark.parametrize("extra", [{"map_location": "cpu", "checkpoint": "x.pth"}, {}])
def test_pretrained_init_cfg_with_other_fields_is_refused(extra):
    model = VMamba("nano", init_cfg={"type": "Pretrained", **extra})
    with pytest.raises(ValueError, match="takes checkpoint and, optionally, prefix"):
        model.init_weights()


# --- taps -------------------------------------------------------------------------------


def test_taps_at_the_inputs_of_stages():
    """Index i is what the embedding or the downsampling before stage i returns."""
    (plain, tapped) = (
        randomised("nano", **options).eval()
        for options in (
            {},
            {"taps": "stage_input", "output_norms": False, "out_indices": (0, 2, 4)},
        )
    )
    tapped.load_state_dict(
        {key: value for key, value in plain.state_dict().items() if "outnorm" not in key}
    )
    assert tapped.out_channels == (32, 128, 256)
    image = torch.randn(1, 3, 37, 53)
    maps = [plain.patch_embed(image)]
    for stage in plain.layers:
        x = stage.blocks(maps[-1])
        maps.append(x if stage.downsample is None else stage.downsample(x))
    for i, m in zip((0, 2, 4), tapped(image), strict=True):
        torch.testing.assert_close(m, maps[i])
        assert m.is_contiguous()


@pytest.mark.parametrize("indices", [(0,), (0, 1, 2), (4,)])
def test_stages_behind_the_last_tap_do_not_train(indices):
    model = VMamba("nano", taps="stage_input", output_norms=False, out_indices=indices)
    sum(m.square().sum() for m in model(torch.randn(1, 3, 32, 32))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    for i, stage in enumerate(model.layers):
        assert all(p.requires_grad == (i < indices[-1]) for p in stage.parameters())


def test_output_norms_can_be_left_out():
    model = VMamba("nano", output_norms=False, frozen_stages=2)
    assert not any("outnorm" in name for name in model.state_dict())
    assert len(model(torch.randn(1, 3, 32, 32))) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": "input"}, "unknown taps 'input'; known: stage_output, stage_input"),
        ({"taps": "stage_input"}, "pass output_norms=False"),
        (
            {"taps": "stage_input", "output_norms": False, "out_indices": (5,)},
            "out_indices .* from 0 to 4",
        ),
    ],
)
def test_bad_taps_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        VMamba("nano", **options)
