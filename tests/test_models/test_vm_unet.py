"""The two halves of VM-UNet: sizes, taps, padding, gradients, precision, mistakes."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import nn

from mamba_mm.models import VMUNET_ARCHS, VMUNetArch, VMUNetDecoder, VMUNetEncoder
from mamba_mm.registry import MODELS

pytest.importorskip("mmseg")

# encoder, both halves with one class, with nine
OFFICIAL_SIZES = {
    "vm_unet": (13_752_480, 27_427_561, 27_427_761),
    "vm_unet_deep": (22_122_912, 44_273_833, 44_274_033),
}


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def build_head(arch="nano", num_classes=1, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        config = dict(type="mamba_mm.VMUNetHead", arch=arch, num_classes=num_classes)
        return MODELS.build(config | options)


def randomised(*modules):
    """Weights whose every path matters: at the start the residual branches are nearly 0."""
    torch.manual_seed(0)
    for module in modules:
        for parameter in module.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return modules


def pair(**options):
    """Encoder and head with random weights, in evaluation mode."""
    return [m.eval() for m in randomised(VMUNetEncoder("nano"), build_head(**options))]


# --- the presets ------------------------------------------------------------------------


@pytest.mark.parametrize("arch", OFFICIAL_SIZES)
def test_sizes_of_the_official_models(arch):
    encoder_size, one_class, nine_classes = OFFICIAL_SIZES[arch]
    with torch.device("meta"):
        encoder, one, nine = VMUNetEncoder(arch), build_head(arch), build_head(arch, 9)
    assert count(encoder) == encoder_size
    assert count(encoder, one) == one_class
    assert count(encoder, nine) == nine_classes
    if arch == "vm_unet":
        assert len(encoder.state_dict()) == 117
        assert len(encoder.state_dict()) + len(one.state_dict()) == 222


def test_presets_are_the_official_models_and_nano():
    assert set(VMUNET_ARCHS) == {*OFFICIAL_SIZES, "nano"}


def test_stochastic_depth_rises_in_the_encoder_and_falls_in_the_decoder():
    with torch.device("meta"):
        encoder, decoder = VMUNetEncoder("vm_unet"), VMUNetDecoder(VMUNET_ARCHS["vm_unet"])
    up = [b.drop_path.rate for stage in encoder.layers for b in stage.blocks]
    down = [b.drop_path.rate for layer in decoder.layers_up for b in layer.blocks]
    assert up == pytest.approx([0.2 * i / 7 for i in range(8)])
    assert down == pytest.approx([0.2 * i / 6 for i in reversed(range(7))])


def test_the_rate_of_both_halves_can_be_set():
    encoder = VMUNetEncoder("nano", drop_path_rate=0.3)
    head = build_head(drop_path_rate=0.3)
    assert encoder.layers[3].blocks[0].drop_path.rate == pytest.approx(0.3)
    assert head.decoder.layers_up[0].blocks[0].drop_path.rate == pytest.approx(0.3)


# --- shapes and padding -----------------------------------------------------------------


def test_taps():
    maps = VMUNetEncoder("nano")(torch.randn(2, 3, 64, 96))
    assert isinstance(maps, tuple)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 16, 24),
        (64, 8, 12),
        (128, 4, 6),
        (256, 2, 3),
        (256, 2, 3),
        (3, 64, 96),
    ]
    assert all(m.is_contiguous() for m in maps)


@pytest.mark.parametrize("indices", [(0, 1, 2, 3, 4), (1, 2, 3, 4, 5), (4,), (0, 5), (0,)])
def test_out_indices_choose_the_maps(indices):
    (whole,) = randomised(VMUNetEncoder("nano"))
    part = VMUNetEncoder("nano", out_indices=indices)
    part.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 40, 33)
    maps = whole.eval()(image)
    assert part.out_channels == tuple(maps[i].shape[1] for i in indices)
    for i, m in zip(indices, part.eval()(image), strict=True):
        torch.testing.assert_close(m, maps[i])


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (100, 100), (96, 80), (33, 7), (1, 1)])
def test_logits_have_the_size_of_the_image(size):
    encoder, head = pair()
    with torch.no_grad():
        logits = head(encoder(torch.randn(1, 3, *size)))
    assert logits.shape == (1, 1, *size)
    assert logits.isfinite().all()


def test_other_sizes_are_padded_at_the_end_and_cropped_back():
    encoder, head = pair()
    image = torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        logits = head(encoder(image))
        padded = head(encoder(F.pad(image, (0, 26, 0, 14))))
    assert torch.equal(logits, padded[..., :50, :70])


def test_a_grey_image_is_repeated():
    encoder, head = pair()
    grey = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        one, three = head(encoder(grey)), head(encoder(grey.expand(-1, 3, -1, -1)))
    assert torch.equal(one, three)
    with pytest.raises(ValueError, match=r"VMUNetEncoder: expected .*\(B, 4, H, W\)"):
        VMUNetEncoder("nano", in_channels=4)(grey)


def test_rows_and_columns_are_not_mistaken():
    encoder, head = pair()
    image = torch.randn(1, 3, 32, 64)
    upright, turned = head(encoder(image)), head(encoder(image.mT))
    assert upright.shape == turned.mT.shape
    assert not torch.allclose(upright, turned.mT, atol=1e-2)


def test_a_skip_is_added_before_the_layer_and_the_first_is_not_used():
    encoder, head = pair()
    image = torch.randn(1, 3, 32, 32)
    maps = list(encoder(image))
    logits = head(maps)
    assert torch.equal(head([maps[0] + 1, *maps[1:]]), logits)
    for i in (1, 2, 3, 4):
        changed = [m + (i == j) for j, m in enumerate(maps)]
        assert not torch.allclose(head(changed), logits, atol=1e-3)
    # What enters a layer is the sum.
    shift = torch.randn_like(maps[3])
    first = head.decoder.layers_up[0]
    head.decoder.layers_up[0] = nn.Sequential(first, Shift(shift))
    shifted = head(maps)
    head.decoder.layers_up[0] = first
    torch.testing.assert_close(head([*maps[:3], maps[3] + shift, *maps[4:]]), shifted)


class Shift(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def forward(self, x):
        return x + self.shift


# --- gradients and training -------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 32), (37, 50)])
def test_every_parameter_gets_a_gradient(size):
    encoder, head = randomised(VMUNetEncoder("nano"), build_head(num_classes=3))
    image = torch.randn(2, 3, *size, requires_grad=True)
    head(encoder(image)).square().sum().backward()
    for name, parameter in [*encoder.named_parameters(), *head.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert (image.grad.abs().sum((0, 1)) > 0).all()


def test_autocast():
    encoder, head = pair()
    image = torch.randn(1, 3, 40, 64)
    plain = head(encoder(image))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = head(encoder(image))
    assert lowered.dtype == torch.bfloat16
    error = (plain - lowered.float()).abs().max() / plain.abs().max()
    assert 0 < error < 0.05
    lowered.float().square().sum().backward()
    for module in (encoder, head):
        assert all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize(("frozen", "depth"), [(0, 0), (2, 2), (4, 4)])
def test_frozen_stages(frozen, depth):
    model = VMUNetEncoder("nano", frozen_stages=frozen).train()
    for i, stage in enumerate(model.layers):
        assert all(p.requires_grad == (i >= depth) for p in stage.parameters())
        assert stage.training == (i >= depth)
    assert not any(p.requires_grad for p in model.patch_embed.parameters())


def test_stages_that_no_map_needs_do_not_train():
    model = VMUNetEncoder("nano", out_indices=(0, 1))
    trained = {n.split(".")[1] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"0", "2"}  # layers.0, and patch_embed.0 and .2
    model(torch.randn(1, 3, 32, 32))[1].sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_layer_depth_is_vmambas():
    model = VMUNetEncoder("nano")
    assert model.get_layer_depth("backbone.patch_embed.0.weight", "backbone.") == (0, 6)
    assert model.get_layer_depth("backbone.layers.3.blocks.0.op.Ds", "backbone.") == (4, 6)
    assert model.get_layer_depth("decode_head.conv_seg.bias", "backbone.") == (5, 6)


# --- the head in MMSegmentation ---------------------------------------------------------


def test_one_channel_has_the_threshold_of_one_half():
    assert build_head(num_classes=1).threshold == 0.5
    binary = build_head(num_classes=2, out_channels=1)
    assert (binary.out_channels, binary.threshold) == (1, 0.5)
    assert build_head(num_classes=2, out_channels=1, threshold=0.4).threshold == 0.4
    assert build_head(num_classes=3).threshold is None


def test_the_head_names_what_it_needs():
    head = build_head()
    assert list(head.in_channels) == [64, 128, 256, 256, 3]
    assert head.channels == 8
    encoder = VMUNetEncoder("nano", out_indices=(1, 2, 3, 4, 5))
    assert list(encoder.out_channels) == list(head.in_channels)
    fitting = build_head(in_index=(0, 1, 2, 3, 4))
    assert fitting(encoder(torch.randn(1, 3, 40, 32))).shape == (1, 1, 40, 32)


def test_official_initialisation():
    torch.manual_seed(0)
    decoder = VMUNetDecoder(VMUNET_ARCHS["nano"])
    expand = decoder.layers_up[1].upsample
    assert expand.expand.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (expand.norm.weight == 1).all()
    assert (decoder.layers_up[0].blocks[0].op.Ds == 1).all()


# --- mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("small", "unknown arch 'small'; known: vm_unet, vm_unet_deep, nano"),
        ({"base": "nano", "decoder_depth": 2}, "unknown arch field.* decoder_depth; known: base"),
        ({"base": "nano", "decoder_depths": (1, 1)}, "decoder_depths needs one positive entry"),
        ({"base": "nano", "decoder_depths": (1, 1, 0, 1)}, "decoder_depths needs one positive"),
        ({"base": "nano", "dims": 30}, r"dims\[0\] must be a multiple of 4.*got 30"),
    ],
)
def test_bad_arch_is_explained_by_both_halves(arch, message):
    with pytest.raises(ValueError, match=message):
        VMUNetEncoder(arch)
    with pytest.raises(ValueError, match=message):
        build_head(arch)


def test_a_dict_makes_another_model():
    arch = {"base": "nano", "dims": 16, "decoder_depths": [1, 1, 1, 2]}
    encoder = VMUNetEncoder(arch)
    assert isinstance(encoder.arch_settings, VMUNetArch)
    head = build_head(arch)
    assert len(head.decoder.layers_up[3].blocks) == 2
    assert head(encoder(torch.randn(1, 3, 32, 32))).shape == (1, 1, 32, 32)


def test_halves_of_different_archs_are_told_so():
    maps = VMUNetEncoder("nano")(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"got \(64, 128, 256, 256\); give .* the same arch"):
        build_head({"base": "nano", "dims": 16})(maps)


def test_maps_that_do_not_halve_are_refused():
    decoder = VMUNetDecoder(VMUNET_ARCHS["nano"])
    skips = [torch.randn(1, c, s, s) for c, s in ((64, 5), (128, 3), (256, 2))]
    with pytest.raises(ValueError, match="half as large as the one before"):
        decoder(skips, torch.randn(1, 256, 2, 2))


def test_missing_maps_are_named():
    maps = VMUNetEncoder("nano", out_indices=(1, 2, 3, 4))(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"in_index \(1, 2, 3, 4, 5\) .* it returned 4"):
        build_head()(maps)
    with pytest.raises(ValueError, match="in_index must name 5 maps"):
        build_head(in_index=(0, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out_indices": (0, 6)}, "out_indices .* from 0 to 5"),
        ({"out_indices": ()}, "out_indices"),
        ({"frozen_stages": 5}, "frozen_stages"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        VMUNetEncoder("nano", **options)


def test_unknown_options_are_not_swallowed():
    with pytest.raises(TypeError, match="depth"):
        VMUNetEncoder("nano", depth=1)
    with pytest.raises(TypeError, match="depth"):
        build_head(depth=1)


# --- the registry -----------------------------------------------------------------------


def test_registry_under_the_toolboxs_scope():
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = ROOT_MODELS.build(
            dict(
                type="mmseg.EncoderDecoder",
                backbone=dict(type="mamba_mm.VMUNetEncoder", arch="nano"),
                decode_head=dict(type="mamba_mm.VMUNetHead", arch="nano", num_classes=4),
            )
        )
    assert type(model.backbone) is VMUNetEncoder
    assert type(model.decode_head).__name__ == "VMUNetHead"
    logits = model.eval()(torch.randn(1, 3, 50, 40), mode="tensor")
    assert logits.shape == (1, 4, 50, 40)


def test_without_the_toolbox_the_encoder_works_and_the_head_names_it():
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mmseg': raise ModuleNotFoundError(name)\n"
        "importlib.util.find_spec = lambda n, p=None: None if n == 'mmseg' else find(n, p)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from mmengine.registry import MODELS\n"
        "MODELS.build(dict(type='mamba_mm.VMUNetEncoder', arch='nano'))\n"
        "MODELS.build(dict(type='mamba_mm.VMUNetHead', arch='nano', num_classes=1))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "mamba_mm.VMUNetHead needs MMSegmentation, which is not installed: pip" in run.stderr
