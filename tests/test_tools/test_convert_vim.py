"""The converter of official checkpoints on Vim's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mamba_mm.models import VIM_ARCHS, VisionMamba, VMamba
from mamba_mm.models.utils.checkpoint import (
    VIM_CONFIGS,
    ArchMismatchError,
    CheckpointFormatError,
    NonFiniteWeightsError,
    StateMismatchError,
    convert_official,
    load_pretrained_vim,
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/model_converters/convert_official.py"
ROPE = {"rope.freqs_cos": torch.ones(196, 64), "rope.freqs_sin": torch.ones(196, 64)}


def official(arch="nano", classes=1000, **options):
    torch.manual_seed(0)
    model = VisionMamba(arch, **options)
    dims = model.arch_settings.embed_dims
    head = {"head.weight": 0.1 * torch.randn(classes, dims), "head.bias": torch.randn(classes)}
    return model.state_dict() | head


@pytest.fixture
def convert(tmp_path):
    """Convert a state dict; return the report and what was written."""

    def run(state, **options):
        torch.save({"model": state}, tmp_path / "official.pth")
        report = convert_official(
            tmp_path / "official.pth", tmp_path / "new.pth", force=True, **options
        )
        return report, torch.load(tmp_path / "new.pth", weights_only=True)

    return run


def without_head(state):
    return {key: value for key, value in state.items() if not key.startswith("head.")}


def test_every_released_preset_has_its_config():
    assert set(VIM_CONFIGS) == set(VIM_ARCHS) - {"nano"}


@pytest.mark.parametrize("preset", VIM_CONFIGS)
def test_configs_exist_and_are_of_the_preset(preset):
    pytest.importorskip("mmpretrain")
    model = Config.fromfile(ROOT / VIM_CONFIGS[preset]).model
    assert model.backbone.arch == preset
    assert model.backbone.out_type == "cls_token"
    assert (model.head.num_classes, model.head.in_channels) == (1000, VIM_ARCHS[preset].embed_dims)


@pytest.mark.parametrize("preset", ["tiny", "tiny_plus"])
def test_both_strides_are_told_apart_and_compute_the_same(preset, convert, tmp_path):
    pytest.importorskip("mmpretrain")
    from mmengine.registry import MODELS, DefaultScope

    state = official(preset) | ROPE
    assert len(state) == 415 + 2
    report, written = convert(state)
    assert written["meta"]["family"] == "vim"
    assert written["meta"]["preset"] == preset
    assert written["meta"]["config"] == VIM_CONFIGS[preset]
    assert written["meta"]["config_options"] == {}
    assert written["meta"]["img_size"] == [224, 224]
    assert report.converted.dropped == tuple(ROPE)
    assert len(written["state_dict"]) == 415

    config = Config.fromfile(ROOT / written["meta"]["config"])
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(config.model).eval()
    model.load_state_dict(written["state_dict"], strict=True)
    backbone = VisionMamba(preset, out_type="cls_token").eval()
    load_pretrained_vim(backbone, tmp_path / "official.pth")
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits = backbone(image)[0] @ state["head.weight"].T + state["head.bias"]
        torch.testing.assert_close(model(image, mode="tensor"), logits, rtol=1e-5, atol=1e-5)


def test_round_trip(convert, tmp_path):
    state = official()
    _, written = convert(state)
    back = {
        key.removeprefix("backbone.").replace("head.fc.", "head."): value
        for key, value in written["state_dict"].items()
    }
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    again = convert_official(tmp_path / "new.pth", tmp_path / "again.pth")
    assert again.converted.spelling == "D/official"
    twice = torch.load(tmp_path / "again.pth")["state_dict"]
    assert all(torch.equal(twice[key], value) for key, value in written["state_dict"].items())


def test_another_image_size_is_told_and_remembered(convert, tmp_path):
    state = official(img_size=(64, 96))
    with pytest.raises(CheckpointFormatError, match=r"24 position rows .*--img-size H W"):
        convert(state)
    with pytest.raises(CheckpointFormatError, match=r"--img-size 64 x 64 pixels have 4 x 4 at"):
        convert(state, img_size=(64, 64))
    report, written = convert(state, img_size=(64, 96))
    assert written["meta"]["config_options"] == {"model.backbone.img_size": [64, 96]}
    assert report.converted.config is None
    model = VisionMamba("nano", img_size=(64, 96))
    model.load_state_dict(
        {
            k.removeprefix("backbone."): v
            for k, v in written["state_dict"].items()
            if "head" not in k
        }
    )
    # What was told once need not be told again: 24 rows alone would not tell.
    load_pretrained_vim(VisionMamba("nano", img_size=48), tmp_path / "new.pth")


def test_the_report_names_the_config_with_its_options(convert):
    report, _ = convert(official({"base": "tiny"}, img_size=(64, 96)), img_size=(64, 96))
    assert f"config   {VIM_CONFIGS['tiny']}\n" in str(report)
    assert "with     --cfg-options model.backbone.img_size=[64,96]" in str(report)
    assert "--cfg-options" not in str(convert(official())[0])


def test_backbones_alone(convert):
    report, written = convert(official(classes=7), drop_head=True)
    assert report.converted.config is None
    assert report.converted.dropped == ("head.bias", "head.weight")
    assert len(written["state_dict"]) == 5 + 4 * 17
    report, written = convert(without_head(official(with_cls_token=False)))
    assert report.converted.config is None
    assert written["state_dict"]["backbone.pos_embed"].shape == (1, 196, 64)
    state = without_head(official(out_indices=(1, 3)))
    assert "backbone.outnorm1.weight" in convert(state)[1]["state_dict"]


@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        (lambda s: s, {"arch": "tiny"}, ArchMismatchError, r"\* embed_dims  64 +192"),
        (lambda s: s, {"arch": "huge"}, ArchMismatchError, r"(?s)no Vim preset 'huge'.*tiny_plus"),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("layers.3.")],
            {},
            ArchMismatchError,
            "holds a Vim of no released size; the closest is nano",
        ),
        (lambda s: s.pop("head.bias"), {}, StateMismatchError, r"head\.bias"),
        (lambda s: s.update(extra=torch.ones(1)), {}, StateMismatchError, "extra"),
        (lambda s: s.pop("cls_token"), {}, CheckpointFormatError, "197 position rows"),
        (lambda s: s["head.bias"].fill_(torch.inf), {}, NonFiniteWeightsError, "head"),
        (
            lambda s: s.update({"head.weight": torch.ones(7, 64), "head.bias": torch.ones(7)}),
            {},
            StateMismatchError,
            "--drop-head",
        ),
        (lambda s: s.update(pos_embed=torch.ones(3)), {}, StateMismatchError, r"\(3,\)"),
    ],
)
def test_what_does_not_fit_is_not_written(change, options, error, match, convert, tmp_path):
    state = official()
    change(state)
    with pytest.raises(error, match=match):
        convert(state, **options)
    assert os.listdir(tmp_path) == ["official.pth"]


def test_the_stride_can_be_asserted(convert):
    with pytest.raises(ArchMismatchError, match=r"\* stride +16 +8"):
        convert(official("tiny"), arch="tiny_plus")


def test_img_size_is_refused_where_nothing_depends_on_it(convert):
    state = {k: v for k, v in VMamba("nano").state_dict().items() if "outnorm" not in k}
    with pytest.raises(CheckpointFormatError, match=r"holds a vmamba, .* leave --img-size out"):
        convert(state, img_size=(64, 96))


def test_command(tmp_path):
    torch.save({"model": official(img_size=(64, 96))}, tmp_path / "official.pth")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "official.pth"), str(tmp_path / "n.pth")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--img-size", "64", "96"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "found    vim, preset nano (model, spelling official)" in done.stdout
