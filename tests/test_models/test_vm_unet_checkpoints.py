"""Both halves of a VM-UNet start from a VM-UNet or from an ImageNet VMamba, strictly."""

import pytest
import torch
from checkpoint_samples import (
    body,
    classifier,
    is_unchanged,
    random_backbone,
    snapshot,
    spelling_b,
    spelling_c,
    spelling_d,
)
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from vm_unet_samples import SMALL, official_vm_unet

from mamba_mm.models import VMUNET_ARCHS, VMamba, VMUNetEncoder
from mamba_mm.models.backbones.vmamba import resolve_arch
from mamba_mm.models.utils import load_pretrained_vm_unet_encoder, load_pretrained_vm_unet_head
from mamba_mm.models.utils.checkpoint import (
    ArchMismatchError,
    CheckpointFormatError,
    NonFiniteWeightsError,
    StateMismatchError,
    UnsafeCheckpointError,
)

pytest.importorskip("mmseg")

# The same blocks in a VMamba that is deeper in its third stage.
VMAMBA = {key: value for key, value in SMALL.items() if key != "base"} | dict(
    base="v0_tiny", depths=(2, 2, 4, 2)
)


@pytest.fixture
def saved(tmp_path):
    def save(content):
        path = tmp_path / "file.pth"
        torch.save(content, path)
        return path

    return save


@pytest.fixture
def log(caplog):
    """What goes to MMEngine's current logger."""
    logger = MMLogger.get_instance("vm-unet-test")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def head(arch=SMALL, num_classes=1, **options):
    with DefaultScope.overwrite_default_scope("mmseg"):
        config = dict(type="mamba_mm.VMUNetHead", arch=arch, num_classes=num_classes)
        return MODELS.build(config | options)


def encoder(arch=SMALL, **options):
    return VMUNetEncoder(arch, **options)


# --- from ImageNet weights --------------------------------------------------------------


def meta_v0(arch):
    with torch.device("meta"):
        shapes = VMamba(arch, out_indices=(3,)).state_dict()
    return {
        k.replace("outnorm3", "classifier.norm"): torch.zeros(v.shape) for k, v in shapes.items()
    }


def test_counts_for_the_official_depths(saved):
    path = saved({"model": spelling_b(meta_v0("v0_small"))})
    report = load_pretrained_vm_unet_encoder(encoder("vm_unet"), path)
    assert len(report.copied) == 117
    assert report.arch == "v0_small"
    assert [key for key in report.dropped if "blocks" in key] == [
        f"layers.2.blocks.{i}.*" for i in range(2, 27)
    ]
    assert report.left_initial == ()

    report = load_pretrained_vm_unet_head(head("vm_unet"), path)
    assert len(report.copied) == 91
    assert set(report.left_initial) == {
        *(f"decoder.layers_up.{i}.upsample.expand.weight" for i in (1, 2, 3)),
        *(
            f"decoder.layers_up.{i}.upsample.norm.{k}"
            for i in (1, 2, 3)
            for k in ("weight", "bias")
        ),
        *("decoder.final_up.expand.weight", "decoder.final_up.norm.weight"),
        *("decoder.final_up.norm.bias", "conv_seg.weight", "conv_seg.bias"),
    }


SPELLINGS = {
    "A": lambda state: {"model": state},
    "B": lambda state: {"model": spelling_b(state)},
    "C": lambda state: {"model": spelling_c(state)},
    "D": lambda state: {"state_dict": spelling_d(state)},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_both_halves_start_from_a_vmamba(spelling, saved):
    source = random_backbone(VMAMBA)
    path = saved(SPELLINGS[spelling](classifier(source)))
    weights = body(source)

    first = encoder()
    load_pretrained_vm_unet_encoder(first, path)
    for key, value in first.state_dict().items():
        assert torch.equal(value, weights[key]), key

    second = head()
    before = snapshot(second)
    report = load_pretrained_vm_unet_head(second, path)
    for key, value in second.state_dict().items():
        if ".blocks." not in key:
            assert torch.equal(value, before[key]), key
            continue
        _, _, layer, rest = key.split(".", 3)
        assert torch.equal(value, weights[f"layers.{3 - int(layer)}.{rest}"]), key
    assert len(report.copied) == 7 * 13


def test_through_the_config_and_the_log_tells_what_was_copied(saved, log):
    path = str(saved({"model": spelling_b(classifier(random_backbone(VMAMBA)))}))
    init_cfg = dict(type="Pretrained", checkpoint=path)
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(
            dict(
                type="EncoderDecoder",
                backbone=dict(type="mamba_mm.VMUNetEncoder", arch=SMALL, init_cfg=init_cfg),
                decode_head=dict(
                    type="mamba_mm.VMUNetHead", arch=SMALL, num_classes=1, init_cfg=init_cfg
                ),
            )
        )
    model.init_weights()
    told = [message for message in log.messages if message.startswith("Loaded")]
    assert [line.split()[1] for line in told] == ["117", "91"]
    assert all(f"from {path}" in line for line in told)
    assert "layers.2.blocks.3.*" in told[0]
    assert "left initial (14)" in told[1]
    first, last = model.backbone.layers[3].blocks, model.decode_head.decoder.layers_up[0].blocks
    assert torch.equal(first[1].op.A_logs, last[1].op.A_logs)


UNFIT = {
    "another width": VMAMBA | dict(dims=32),
    "another number of states": VMAMBA | dict(d_state=4),
    "too shallow": VMAMBA | dict(depths=(2, 2, 1, 2)),
    "second generation": dict(base="tiny_s1l8", dims=16),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("half", ["encoder", "head"])
def test_other_blocks_are_refused_before_copying(name, half, saved):
    path = saved({"model": classifier(random_backbone(UNFIT[name]))})
    model, load = {
        "encoder": (encoder(), load_pretrained_vm_unet_encoder),
        "head": (head(), load_pretrained_vm_unet_head),
    }[half]
    before = snapshot(model)
    with pytest.raises(ArchMismatchError, match=r"(?s)do not fit.*v0_tiny or v0_small.*\n\* "):
        load(model, path)
    assert is_unchanged(model, before)


def test_a_missing_block_is_an_error(saved):
    state = classifier(random_backbone(VMAMBA))
    del state["layers.1.blocks.0.op.Ds"]
    with pytest.raises(StateMismatchError, match=r"layers\.1\.blocks\.0\.op\.Ds"):
        load_pretrained_vm_unet_encoder(encoder(), saved({"model": state}))
    with pytest.raises(StateMismatchError, match=r"layers_up\.2\.blocks\.0\.op\.Ds"):
        load_pretrained_vm_unet_head(head(), saved({"model": state}))


# --- from a VM-UNet ---------------------------------------------------------------------


def test_both_halves_take_their_share_of_a_vm_unet(saved):
    state = official_vm_unet(SMALL)
    path = saved(state)
    first, second = encoder(), head()
    report = load_pretrained_vm_unet_encoder(first, path)
    assert len(report.copied) == 117
    assert report.family == "VM-UNet"
    assert dict(report.ignored_modules) == {"decoder": 105}
    assert len(load_pretrained_vm_unet_head(second, path).copied) == 105

    key = "vmunet.layers.1.blocks.1.self_attention.x_proj_weight"
    assert torch.equal(first.layers[1].blocks[1].op.x_proj_weight, state[key])
    key = "vmunet.layers_up.3.blocks.0.ln_1.bias"
    assert torch.equal(second.decoder.layers_up[3].blocks[0].norm.bias, state[key])
    assert torch.equal(second.conv_seg.weight, state["vmunet.final_conv.weight"])


def test_what_mmengine_saves_loads_again(saved):
    first, second = encoder(), head()
    state = {f"backbone.{k}": v + 1 for k, v in first.state_dict().items()}
    state |= {f"decode_head.{k}": v + 1 for k, v in second.state_dict().items()}
    path = saved({"state_dict": state, "meta": {}})
    load_pretrained_vm_unet_encoder(first, path)
    report = load_pretrained_vm_unet_head(second, path)
    assert report.spelling == "D/A"
    for prefix, half in (("backbone.", first), ("decode_head.", second)):
        assert is_unchanged(half, {k: state[prefix + k] for k in half.state_dict()})


def test_a_prefix_can_be_named(saved):
    state = {f"student.{key}": value for key, value in official_vm_unet(SMALL).items()}
    model = encoder()
    load_pretrained_vm_unet_encoder(model, saved(state), prefix="student")
    assert torch.equal(model.patch_embed[0].bias, state["student.vmunet.patch_embed.proj.bias"])
    with pytest.raises(CheckpointFormatError, match=r"no encoder in any known place"):
        load_pretrained_vm_unet_encoder(model, saved(state))


def test_a_decoder_of_other_classes_fits_when_asked(saved):
    path = saved(official_vm_unet(SMALL, classes=4))
    model = head()
    with pytest.raises(StateMismatchError, match=r"conv_seg\.weight: \(4, 4, 1, 1\)"):
        load_pretrained_vm_unet_head(model, path)
    report = load_pretrained_vm_unet_head(model, path, allow=["conv_seg.*"])
    assert set(report.skipped) == {"conv_seg.weight", "conv_seg.bias"}


def test_another_vm_unet_is_refused(saved):
    path = saved(official_vm_unet(SMALL | dict(depths=(1, 2, 2, 2))))
    with pytest.raises(ArchMismatchError, match=r"\* depths +1, 2, 2, 2 +2, 2, 2, 2"):
        load_pretrained_vm_unet_encoder(encoder(), path)
    load_pretrained_vm_unet_head(head(), path)  # the decoder is the same
    path = saved(official_vm_unet(SMALL | dict(decoder_depths=(1, 1, 1, 1))))
    with pytest.raises(ArchMismatchError, match=r"\* decoder_depths +1, 1, 1, 1 +2, 2, 2, 1"):
        load_pretrained_vm_unet_head(head(), path)
    load_pretrained_vm_unet_encoder(encoder(), path)


def test_non_finite_weights_are_refused(saved):
    state = official_vm_unet(SMALL)
    state["vmunet.layers_up.1.upsample.norm.weight"][0] = torch.nan
    with pytest.raises(NonFiniteWeightsError, match=r"layers_up\.1\.upsample\.norm\.weight"):
        load_pretrained_vm_unet_head(head(), saved(state))


class Custom:
    pass


def test_files_that_run_code_are_refused_with_the_way_out(saved):
    content = {"model_state_dict": official_vm_unet(SMALL), "args": Custom()}
    with pytest.raises(UnsafeCheckpointError, match=r"(?s)could run code.*--unsafe-load"):
        load_pretrained_vm_unet_encoder(encoder(), saved(content))


def test_the_encoder_is_vanilla_vmamba():
    """As the authors' encoder fits VMamba's own class, difference 0."""
    torch.manual_seed(0)
    ours = encoder().eval()
    arch = dict(vars(resolve_arch(SMALL, None, VMUNET_ARCHS)))
    del arch["decoder_depths"]
    vmamba = VMamba(arch, output_norms=False).eval()
    vmamba.load_state_dict(ours.state_dict(), strict=True)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        maps, stages = ours(image), vmamba(image)
    assert torch.equal(maps[4], stages[3])
