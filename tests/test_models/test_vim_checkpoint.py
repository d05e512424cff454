"""Strict loading of Vim weights: every deviation is listed, or refused with a reason."""

import argparse
import logging

import pytest
import torch
from checkpoint_samples import is_unchanged, snapshot
from mmengine.logging import MMLogger

from mamba_mm.layers import resize_pos_embed
from mamba_mm.models import VisionMamba
from mamba_mm.models.utils.checkpoint import (
    ArchMismatchError,
    CheckpointFormatError,
    NonFiniteWeightsError,
    StateMismatchError,
    UnsafeCheckpointError,
    load_pretrained_vim,
)

PLUS = {"base": "nano", "stride": 8}
ROPE = {"rope.freqs_cos": torch.ones(196, 64), "rope.freqs_sin": torch.ones(196, 64)}


def official(arch="nano", classes=1000, seed=0, **options):
    """The state dict of an official classification file."""
    torch.manual_seed(seed)
    model = VisionMamba(arch, **options)
    state = {k: v + 0.05 * torch.randn_like(v) for k, v in model.state_dict().items()}
    dims = model.arch_settings.embed_dims
    return state | {"head.weight": torch.randn(classes, dims), "head.bias": torch.randn(classes)}


def without_head(state):
    return {key: value for key, value in state.items() if not key.startswith("head.")}


@pytest.fixture
def saved(tmp_path):
    def save(content, name="file.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def pretrained(path, **options):
    model = VisionMamba(**options, init_cfg=dict(type="Pretrained", checkpoint=str(path)))
    model.init_weights()
    return model


# --- what loads -------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ["nano", PLUS], ids=["stride16", "stride8"])
@pytest.mark.parametrize("container", ["model", "bare", "state_dict", "module"])
def test_official_files_of_both_strides(arch, container, saved):
    state = official(arch)
    contents = {
        "model": {"model": state},
        "bare": state,
        "state_dict": {"state_dict": {f"backbone.{k}": v for k, v in without_head(state).items()}},
        "module": {"model": {f"module.{k}": v for k, v in state.items()}},
    }
    path = saved(contents[container])
    model = VisionMamba(arch)
    report = load_pretrained_vim(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    heads = () if container == "state_dict" else ("head.weight", "head.bias")
    assert report.dropped == heads
    assert report.family == "Vim"
    assert report.arch == ("nano" if arch == "nano" else "custom")
    assert "tensors of Vim" in str(report)


def test_old_rotary_buffers_are_dropped_with_a_warning(saved, caplog):
    path = saved({"model": official() | ROPE})
    model = VisionMamba("nano")
    logger = MMLogger.get_instance("rotary", logger_name="rotary")
    logger.addHandler(caplog.handler)
    report = load_pretrained_vim(model, path)
    assert set(report.dropped) == {"head.weight", "head.bias", *ROPE}
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "rope.freqs_cos, rope.freqs_sin" in warnings[0]


def test_training_dumps_with_their_command_line(saved):
    """DeiT's script saves argparse.Namespace beside the weights; none of its code is run."""
    arguments = argparse.Namespace(model="vim_tiny", lr=5e-4, distributed=True)
    state = official()
    path = saved({"model": state, "args": arguments, "epoch": 299})
    assert torch.equal(pretrained(path, arch="nano").pos_embed, state["pos_embed"])


class Anything:
    pass


def test_other_objects_are_refused_with_the_way_out(saved):
    path = saved({"model": official(), "args": Anything()})
    with pytest.raises(UnsafeCheckpointError, match=r"(?s)Anything.*torch\.save.*--unsafe-load"):
        load_pretrained_vim(VisionMamba("nano"), path)


def test_taps_keep_the_norms_that_no_official_file_has(saved):
    path = saved({"model": official()})
    model = VisionMamba("nano", out_indices=(1, 3))
    report = load_pretrained_vim(model, path)
    assert report.left_initial == ("outnorm1.weight",)


def test_files_with_norms_must_have_those_of_the_model(saved):
    path = saved(without_head(official(out_indices=(0, 1, 3))))
    model = VisionMamba("nano", out_indices=(1, 3))
    assert load_pretrained_vim(model, path).dropped == ("outnorm0.weight",)
    with pytest.raises(StateMismatchError, match=r"missing[^\n]*\n  outnorm2\.weight"):
        load_pretrained_vim(VisionMamba("nano", out_indices=(2, 3)), path)


# --- the position embedding -------------------------------------------------------------


@pytest.mark.parametrize("mode", ["middle", "official"])
@pytest.mark.parametrize("with_cls_token", [True, False])
@pytest.mark.parametrize("img_size", [224, (64, 96)])
def test_position_embedding_is_fitted(mode, with_cls_token, img_size, saved):
    state = official()
    options = dict(img_size=img_size, with_cls_token=with_cls_token, pos_embed_resize=mode)
    model = VisionMamba("nano", **options)
    report = load_pretrained_vim(model, saved({"model": state}))
    expected = resize_pos_embed(
        state["pos_embed"], (14, 14), model.grid, keep_class=with_cls_token, mode=mode
    )
    assert torch.equal(model.pos_embed, expected)
    assert ("cls_token" in report.dropped) != with_cls_token
    changed = img_size != 224 or not with_cls_token
    assert bool(report.notes) == changed
    assert ("in the official way" in str(report)) == (changed and mode == "official")
    if img_size != 224:
        assert "pos_embed interpolated from 14 x 14 to 4 x 6 patches" in str(report)


def test_the_2x2_case_gives_rows_0_1_3_4(saved):
    state = official(img_size=32)
    state["pos_embed"] = torch.arange(5.0).view(1, 5, 1).expand(1, 5, 64).clone()
    model = VisionMamba("nano", img_size=32, with_cls_token=False)
    load_pretrained_vim(model, saved(state))
    assert model.pos_embed[0, :, 0].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(("source", "target"), [("nano", PLUS), (PLUS, "nano")])
def test_the_other_stride_is_refused_unless_it_is_asked_for(source, target, saved):
    state = official(source)
    path = saved({"model": state})
    model = VisionMamba(target)
    before = snapshot(model)
    names = r"(?s)stride (8|16) \(a (plain|\"plus\") variant\).*stride (8|16) \(a .*across_strides"
    with pytest.raises(ArchMismatchError, match=names):
        load_pretrained_vim(model, path)
    assert is_unchanged(model, before)
    old, new = ((14, 14), (27, 27)) if source == "nano" else ((27, 27), (14, 14))
    config = dict(type="Pretrained", checkpoint=str(path), across_strides=True)
    model = VisionMamba(target, init_cfg=config)
    model.init_weights()
    assert torch.equal(model.pos_embed, resize_pos_embed(state["pos_embed"], old, new))


def test_a_file_of_another_size_needs_it_told(saved):
    state = official(img_size=(64, 96))
    path = saved({"model": state})
    with pytest.raises(CheckpointFormatError, match=r"24 position rows, .*img_size=\(height"):
        load_pretrained_vim(VisionMamba("nano"), path)
    model = VisionMamba("nano")
    load_pretrained_vim(model, path, img_size=(64, 96))
    expected = resize_pos_embed(state["pos_embed"], (4, 6), (14, 14))
    assert torch.equal(model.pos_embed, expected)
    with pytest.raises(CheckpointFormatError, match="64 x 64 pixels have 4 x 4 = 16 patches"):
        load_pretrained_vim(VisionMamba("nano"), path, img_size=(64, 64))
    same = VisionMamba("nano", img_size=(64, 96))
    load_pretrained_vim(same, path)
    assert torch.equal(same.pos_embed, state["pos_embed"])


def test_as_many_patches_in_another_shape_are_not_guessed(saved):
    path = saved({"model": official()})
    model = VisionMamba("nano", img_size=(7 * 16, 28 * 16))
    with pytest.raises(CheckpointFormatError, match=r"14 x 14 or, as in the model, 7 x 28"):
        load_pretrained_vim(model, path)
    load_pretrained_vim(model, path, img_size=(224, 224))


def test_stride_8_rows_are_not_taken_for_a_larger_image(saved):
    """729 patches are 27 x 27 at stride 8 of 224 pixels, and at stride 16 of 432."""
    path = saved({"model": official(PLUS)})
    model = VisionMamba("nano", img_size=432)
    assert model.pos_embed.shape[1] == 730
    with pytest.raises(ArchMismatchError, match="stride 8"):
        load_pretrained_vim(model, path)
    load_pretrained_vim(model, path, img_size=(432, 432))


def test_ordinary_state_dicts_are_resized_too():
    state = without_head(official())
    model = VisionMamba("nano", img_size=(64, 96))
    model.load_state_dict(state)
    assert torch.equal(model.pos_embed, resize_pos_embed(state["pos_embed"], (14, 14), (4, 6)))
    with pytest.raises(ArchMismatchError, match=r"The state dict has .* stride 8"):
        model.load_state_dict(without_head(official(PLUS)))
    with pytest.raises(CheckpointFormatError, match="15 position rows"):
        model.load_state_dict(without_head(official(img_size=(48, 80))))
    without = VisionMamba("nano", with_cls_token=False)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*cls_token"):
        without.load_state_dict(state)


# --- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda s: s.pop("norm_f.weight"), StateMismatchError, r"missing.*\n  norm_f\.weight"),
        (lambda s: s.update(extra=torch.ones(1)), StateMismatchError, r"unexpected.*\n  extra"),
        (lambda s: s.pop("pos_embed"), CheckpointFormatError, "has no pos_embed"),
        (lambda s: s.update(pos_embed=torch.ones(197, 64)), StateMismatchError, r"\(197, 64\)"),
        (lambda s: s["cls_token"].fill_(torch.nan), NonFiniteWeightsError, "cls_token"),
        (
            lambda s: s.update({"layers.1.mixer.D_b": torch.ones(7)}),
            StateMismatchError,
            r"layers\.1\.mixer\.D_b: \(7,\), \(128,\)",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("layers.3.")],
            ArchMismatchError,
            r"\* depth       3 +4",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if "_b" in k.split("mixer.")[-1]],
            CheckpointFormatError,
            "is no Vim: it has no backward branch",
        ),
    ],
)
def test_what_does_not_fit_changes_nothing(change, error, match, saved):
    state = official()
    change(state)
    model = VisionMamba("nano")
    before = snapshot(model)
    with pytest.raises(error, match=match):
        load_pretrained_vim(model, saved({"model": state}))
    assert is_unchanged(model, before)


def test_another_size_is_shown_field_by_field(saved):
    with torch.device("meta"):
        shapes = VisionMamba("small").state_dict()
    path = saved({"model": {key: torch.zeros(1).expand(v.shape) for key, v in shapes.items()}})
    with pytest.raises(ArchMismatchError) as error:
        load_pretrained_vim(VisionMamba("nano"), path)
    assert "* embed_dims  384   64" in str(error.value)
    assert "holds Vim weights of small, but the model is nano" in str(error.value)


def test_partial_loads_only_on_request(saved):
    state = official()
    del state["norm_f.weight"]
    report = load_pretrained_vim(VisionMamba("nano"), saved(state), allow=["norm_f.*"])
    assert report.skipped == ("norm_f.weight",)


@pytest.mark.parametrize("extra", [{"map_location": "cpu", "checkpoint": "x.pth"}, {}])
def test_pretrained_init_cfg_with_other_fields_is_refused(extra):
    model = VisionMamba("nano", init_cfg={"type": "Pretrained", **extra})
    with pytest.raises(ValueError, match="optionally, prefix, img_size, across_strides; got"):
        model.init_weights()
