import math

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope

from mamba_mm.layers import resize_pos_embed
from mamba_mm.models import VIM_ARCHS, VimArch, VisionMamba
from mamba_mm.registry import MODELS

# parameters with a head of 1000 classes; position rows at 224 x 224 pixels
OFFICIAL_SIZES = {
    "tiny": (7_148_008, 197),
    "tiny_plus": (7_250_344, 730),
    "small": (25_796_584, 197),
    "small_plus": (26_001_256, 730),
    "base": (97_598_440, 197),
}
PLUS = {"base": "nano", "embed_dims": 32, "depth": 2, "stride": 8}
SMALL = {"nano": "nano", "plus": PLUS}
small = pytest.mark.parametrize("arch", SMALL.values(), ids=SMALL)


def randomised(arch, **options):
    """A model no two parameters of which are alike, so that a mix-up shows."""
    torch.manual_seed(0)
    model = VisionMamba(arch, **options)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


# --- the presets ------------------------------------------------------------------------


@pytest.mark.parametrize("arch", OFFICIAL_SIZES)
def test_sizes_of_the_released_models(arch):
    with_head, rows = OFFICIAL_SIZES[arch]
    with torch.device("meta"):
        model = VisionMamba(arch)
    dims = VIM_ARCHS[arch].embed_dims
    assert sum(p.numel() for p in model.parameters()) == with_head - 1000 * (dims + 1)
    assert model.pos_embed.shape == (1, rows, dims)
    assert len(model.state_dict()) == 413


def test_presets_are_the_released_models_and_nano():
    assert set(VIM_ARCHS) == {*OFFICIAL_SIZES, "nano"}


def test_state_dict_is_spelled_as_the_official_one():
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in VisionMamba("tiny").state_dict().items()}
    keys = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    keys |= {"norm_f.weight"}
    mixer = ["in_proj.weight", "out_proj.weight", "A_log", "A_b_log", "D", "D_b"]
    for b in ("", "_b"):
        mixer += [f"x_proj{b}.weight", f"conv1d{b}.weight", f"conv1d{b}.bias"]
        mixer += [f"dt_proj{b}.weight", f"dt_proj{b}.bias"]
    for i in range(24):
        keys |= {f"layers.{i}.norm.weight", *(f"layers.{i}.mixer.{key}" for key in mixer)}
    assert set(shapes) == keys
    assert shapes["patch_embed.proj.weight"] == (192, 3, 16, 16)
    assert shapes["layers.23.mixer.x_proj_b.weight"] == (44, 384)
    assert shapes["layers.23.mixer.A_b_log"] == (384, 16)


# --- shapes -----------------------------------------------------------------------------


@small
@pytest.mark.parametrize("size", [(64, 96), (37, 53), (16, 16), (1, 40), (33, 17)])
def test_any_size(arch, size):
    model = VisionMamba(arch, img_size=(64, 96), out_indices=(0, 1)).eval()
    stride, dims = model.arch_settings.stride, model.arch_settings.embed_dims
    grid = tuple(max(math.ceil((n - 16) / stride), 0) + 1 for n in size)
    maps = model(torch.randn(2, 3, *size))
    assert isinstance(maps, tuple)
    for m in maps:
        assert tuple(m.shape) == (2, dims, *grid)
        assert m.is_contiguous()
        assert m.isfinite().all()


def test_zeros_are_appended_where_patches_do_not_reach_the_end():
    model = randomised("nano").eval()
    image = torch.randn(1, 3, 37, 53)
    padded = torch.zeros(1, 3, 48, 64)
    padded[..., :37, :53] = image
    torch.testing.assert_close(model(image), model(padded))


@pytest.mark.parametrize("shape", [(1, 4, 32, 32), (3, 32, 32), (1, 3, 0, 32)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\), got .*; check in_channels"):
        VisionMamba("nano")(torch.randn(shape))


def test_other_numbers_of_channels():
    assert VisionMamba("nano", in_channels=5)(torch.randn(1, 5, 32, 32))[0].shape == (1, 64, 2, 2)


def test_rows_and_columns_are_not_mistaken():
    model = randomised("nano", img_size=(64, 96)).eval()
    image = torch.randn(1, 3, 64, 96)
    upright, turned = model(image)[0], model(image.mT)[0]
    assert upright.shape == turned.mT.shape
    assert not torch.allclose(upright, turned.mT, atol=1e-2)


def test_position_embedding_follows_the_size_of_the_image():
    """A model for one size, fed another, is the model for the other with it interpolated."""
    model = randomised("nano", img_size=(64, 96)).eval()
    for size, grid in (((96, 48), (6, 3)), ((64, 96), (4, 6))):
        own = VisionMamba("nano", img_size=size).eval()
        state = model.state_dict()
        state["pos_embed"] = resize_pos_embed(model.pos_embed.data, (4, 6), grid)
        own.load_state_dict(state)
        image = torch.randn(1, 3, *size)
        torch.testing.assert_close(model(image), own(image))


def test_the_official_resizing_is_another():
    image = torch.randn(1, 3, 96, 48)
    ours, official = (
        randomised("nano", img_size=64, pos_embed_resize=mode).eval()(image)[0]
        for mode in ("middle", "official")
    )
    assert not torch.allclose(ours, official, atol=1e-3)


# --- what is returned -------------------------------------------------------------------


def test_out_types_show_the_same_tokens():
    image = torch.randn(2, 3, 48, 80)
    found = {
        out_type: randomised("nano", img_size=(48, 80), out_type=out_type).eval()(image)[0]
        for out_type in ("raw", "featmap", "cls_token", "avg_featmap")
    }
    raw = found["raw"]
    assert raw.shape == (2, 16, 64)
    patches = raw[:, [i for i in range(16) if i != 7]]  # 3 x 5 patches: the class is row 7
    assert torch.equal(found["cls_token"], raw[:, 7])
    assert torch.equal(found["featmap"], patches.mT.reshape(2, 64, 3, 5))
    torch.testing.assert_close(found["avg_featmap"], patches.mean(1))


def test_taps_are_the_stream_and_the_mixers_output():
    image = torch.randn(1, 3, 32, 48)
    plain = {"out_indices": (0, 1, 3), "tap_norm": False, "out_type": "raw"}
    stream = randomised("nano", **plain).eval()
    mixer = randomised("nano", **plain, tap="mixer").eval()
    seen = []
    for i in (0, 1, 3):
        stream.layers[i].mixer.register_forward_hook(lambda _, __, output: seen.append(output))
    added, mixed = stream(image), mixer(image)
    for ours, theirs in zip(mixed, seen, strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(added[1], added[0] + mixed[1])
    normed = randomised("nano", out_indices=(3,), out_type="raw").eval()
    torch.testing.assert_close(normed(image)[0], normed.norm_f(added[2]))


def test_taps_before_the_last_have_norms_of_their_own():
    names = dict(VisionMamba("nano", out_indices=(0, 2, 3)).named_modules())
    assert {name for name in names if name.startswith("outnorm")} == {"outnorm0", "outnorm2"}
    model = VisionMamba("nano", out_indices=(0, 2, 3), tap_norm=False)
    assert not any(name.startswith("outnorm") for name, _ in model.named_modules())


@pytest.mark.parametrize(
    ("given", "indices"), [(-1, (3,)), (0, (0,)), ((0, -1), (0, 3)), ([1, 2], (1, 2))]
)
def test_out_indices(given, indices):
    model = VisionMamba("nano", out_indices=given)
    assert model.out_indices == indices
    assert model.out_channels == (64,) * len(indices)


def test_without_class_token():
    model = randomised("nano", img_size=(32, 48), with_cls_token=False).eval()
    assert model.pos_embed.shape == (1, 6, 64)
    assert "cls_token" not in model.state_dict()
    assert model(torch.randn(1, 3, 48, 48))[0].shape == (1, 64, 3, 3)


# --- gradients and training -------------------------------------------------------------


@small
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"out_indices": (0, 1)},
        {"out_indices": (0,)},
        {"out_type": "cls_token"},
        {"out_type": "raw", "tap": "mixer"},
        {"tap_norm": False},
        {"with_cls_token": False},
    ],
    ids=str,
)
def test_exactly_the_trainable_parameters_get_a_gradient(arch, options):
    model = randomised(arch, img_size=(32, 48), **options)
    sum(m.square().sum() for m in model(torch.randn(2, 3, 48, 40))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad.abs().sum() > 0, name
    for i, block in enumerate(model.layers):
        runs = i <= model.out_indices[-1]
        assert all(p.requires_grad == runs for p in block.parameters())


@pytest.mark.parametrize("frozen", [-1, 0, 1, 3, 4])
def test_frozen_stages(frozen):
    model = VisionMamba("nano", frozen_stages=frozen, out_indices=(0, 3), drop_path_rate=0.2)
    assert model.eval() is model
    assert model.train() is model
    parts = {"patch_embed": 0, "outnorm0": 1, "norm_f": 4}
    parts |= {f"layers.{i}": i + 1 for i in range(4)}
    for name, needed in parts.items():
        part, is_frozen = model.get_submodule(name), frozen >= needed
        assert all(p.requires_grad != is_frozen for p in part.parameters()), name
        assert all(m.training != is_frozen for m in part.modules()), name
    assert model.pos_embed.requires_grad == model.cls_token.requires_grad == (frozen < 0)
    assert not model.eval().training


def test_checkpointing_recomputes_every_block():
    model = VisionMamba("nano", with_cp=True)
    runs = []
    for block in model.layers:
        # A hook after the forward pass would not see a recomputation: that stops early.
        block.mixer.register_forward_pre_hook(lambda *_: runs.append(1))
    model(torch.randn(1, 3, 32, 32))[0].sum().backward()
    assert len(runs) == 2 * 4


def test_drop_path_grows_linearly():
    rates = [b.drop_path.rate for b in VisionMamba("nano", drop_path_rate=0.3).layers]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    with torch.device("meta"):
        assert VisionMamba("small").layers[-1].drop_path.rate == pytest.approx(0.05)
        assert VisionMamba("tiny").layers[-1].drop_path.rate == 0


@small
def test_autocast(arch):
    model = randomised(arch, img_size=(32, 48)).eval()
    image = torch.randn(2, 3, 32, 48)
    (plain,) = model(image)
    streams = []
    model.layers[1].register_forward_pre_hook(lambda _, args: streams.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (lowered,) = model(image)
    assert streams == [torch.float32]
    error = (plain - lowered.float()).abs().max() / plain.abs().max()
    assert 0 < error < 0.05
    lowered.float().square().sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_precisions(dtype):
    model = VisionMamba("nano").to(dtype)
    streams = []
    model.layers[1].register_forward_pre_hook(lambda _, args: streams.append(args[0].dtype))
    (y,) = model(torch.randn(1, 3, 32, 32, dtype=dtype))
    assert y.dtype == dtype
    assert streams == [torch.promote_types(dtype, torch.float32)]
    assert y.isfinite().all()


def test_compiles_and_exports_whole():
    model = randomised(PLUS | {"depth": 1}, img_size=(32, 48)).eval()
    image = torch.randn(1, 3, 48, 40)
    with torch.no_grad():
        (expected,) = model(image)
        (exported,) = torch.export.export(model, (image,)).module()(image)
        torch.testing.assert_close(exported, expected)
    (compiled,) = torch.compile(model, fullgraph=True, backend="aot_eager")(image)
    torch.testing.assert_close(compiled, expected, rtol=1e-5, atol=1e-5)


# --- initialisation ---------------------------------------------------------------------


def test_official_initialisation_forgets_the_backward_step_sizes():
    model = VisionMamba({"base": "nano", "embed_dims": 192})
    for block in model.layers:
        forward = torch.nn.functional.softplus(block.mixer.dt_proj.bias)
        assert 0.9e-3 < forward.min() < forward.max() < 0.101
        assert (block.mixer.dt_proj_b.bias == 0).all()
        for dt_proj in (block.mixer.dt_proj, block.mixer.dt_proj_b):
            assert dt_proj.weight.std().item() == pytest.approx(0.165, rel=0.05)


def test_symmetric_initialisation_does_not():
    model = VisionMamba("nano", init="symmetric")
    backward = torch.nn.functional.softplus(model.layers[0].mixer.dt_proj_b.bias)
    assert 0.9e-3 < backward.min() < backward.max() < 0.101


def test_official_initialisation_of_the_rest():
    model = VisionMamba({"base": "nano", "embed_dims": 192})
    proj = model.patch_embed["proj"]
    assert proj.weight.std().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.02)
    assert proj.weight.abs().max() <= 2.28 * (3 * 16 * 16) ** -0.5
    assert (proj.bias == 0).all()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
    out_proj = model.layers[0].mixer.out_proj.weight
    assert out_proj.abs().max().item() == pytest.approx(384**-0.5 / 4**0.5, rel=0.02)
    for block in model.layers:
        assert (block.mixer.D_b == 1).all()
        assert (block.norm.weight == 1).all()


def test_official_initialisation_stays_without_init_cfg():
    model = VisionMamba("nano")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


# --- layer depths -----------------------------------------------------------------------


def test_layer_depth():
    model = VisionMamba("nano")
    depth = {
        "backbone.patch_embed.proj.weight": 0,
        "backbone.pos_embed": 0,
        "backbone.cls_token": 0,
        "backbone.layers.0.norm.weight": 1,
        "backbone.layers.3.mixer.A_b_log": 4,
        "backbone.norm_f.weight": 5,
        "backbone.outnorm0.weight": 5,
        "head.fc.weight": 5,
    }
    assert {name: model.get_layer_depth(name, "backbone.") for name in depth} == {
        name: (value, 6) for name, value in depth.items()
    }


# --- mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("large", "unknown arch 'large'; known: tiny, tiny_plus"),
        ({"base": "huge"}, "unknown arch 'huge'"),
        ({"base": "nano", "dims": 2}, "unknown arch field.* dims; known: base, embed_dims, depth"),
        ({"depth": 2}, "needs embed_dims, or base"),
        ({"base": "nano", "depth": 0}, "must be positive, got depth=0"),
        ({"base": "nano", "dt_rank": 0}, "must be positive, got ssm_ratio=2.0, dt_rank=0"),
        ({"base": "nano", "stride": 32}, "stride 32 leaves pixels between patches of 16"),
        ({"base": "nano", "drop_path_rate": 1.0}, r"drop_path_rate must lie in \[0, 1\)"),
    ],
)
def test_bad_arch_is_explained(arch, message):
    with pytest.raises(ValueError, match=message):
        VisionMamba(arch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_indices": (0, 4)}, r"from 0 to 3 .* got \(0, 4\)"),
        ({"out_indices": (1, 0)}, "ascending"),
        ({"out_indices": (3, -1)}, "each once"),
        ({"out_indices": ()}, "out_indices"),
        ({"out_type": "cls"}, "unknown out_type 'cls'; known: featmap, cls_token"),
        ({"tap": "residual"}, "unknown tap 'residual'; known: add, mixer"),
        ({"pos_embed_resize": "bad"}, "unknown pos_embed_resize 'bad'; known: middle, official"),
        ({"init": "zero"}, "unknown init 'zero'; known: official, symmetric"),
        ({"out_type": "cls_token", "with_cls_token": False}, "needs with_cls_token=True"),
        ({"frozen_stages": 5}, r"from -1 \(none\) to 4 .* got 5"),
        ({"img_size": (1, 2, 3)}, r"\(height, width\) in pixels, got \(1, 2, 3\)"),
        ({"img_size": 0}, "img_size"),
        ({"drop_path_rate": -0.1}, "drop_path_rate"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        VisionMamba("nano", **options)


def test_unknown_options_are_not_swallowed():
    with pytest.raises(TypeError, match="if_devide_out"):
        VisionMamba("nano", if_devide_out=True)


def test_arch_dict_overrides_a_preset():
    model = VisionMamba({"base": "tiny", "embed_dims": 32, "depth": 1}, drop_path_rate=0.1)
    assert model.arch_settings == VimArch(32, depth=1, drop_path_rate=0.1)


# --- MMEngine ---------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["mmdet", "mmpretrain", "mmseg"])
def test_registry_under_a_toolbox_scope(scope):
    pytest.importorskip(scope, reason=f"{scope} is not installed")
    with DefaultScope.overwrite_default_scope(scope):
        model = ROOT_MODELS.build({"type": "mamba_mm.VisionMamba", "arch": "nano"})
    assert type(model) is VisionMamba
    assert MODELS.get("VisionMamba") is VisionMamba
