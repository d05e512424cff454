"""The converter of official checkpoints, as a function and as a command."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mamba_mm.models import VMAMBA_ARCHS, VMamba
from mamba_mm.models.utils.checkpoint import (
    VMAMBA_CONFIGS,
    ArchMismatchError,
    CheckpointFormatError,
    CheckpointWriteError,
    NonFiniteWeightsError,
    StateMismatchError,
    convert_official,
    load_pretrained_vmamba,
)
from mamba_mm.models.utils.checkpoint.linear_head import NUM_CLASSES

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/model_converters/convert_official.py"


def official(arch, classes=NUM_CLASSES):
    """A classification file: the norm and the head lie under ``classifier``."""
    torch.manual_seed(0)
    model = VMamba(arch, out_indices=(3,))
    state = {k.replace("outnorm3", "classifier.norm"): v for k, v in model.state_dict().items()}
    width = model.out_channels[0]
    state["classifier.norm.weight"] = torch.rand(width)
    state["classifier.head.weight"] = 0.02 * torch.randn(classes, width)
    state["classifier.head.bias"] = torch.randn(classes)
    return state


@pytest.fixture
def nano(tmp_path):
    path = tmp_path / "official.pth"
    torch.save({"model": official("nano")}, path)
    return path


def rewritten(path, change):
    """Change the state dict of a file in place."""
    state = torch.load(path)["model"]
    change(state)
    torch.save({"model": state}, path)
    return path


def run_command(*args):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, args)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_command_converts_and_says_what_it_found(nano, tmp_path):
    done = run_command(nano, tmp_path / "new/converted.pth", "--arch", "nano")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "vmamba, preset nano" in done.stdout
    written = torch.load(tmp_path / "new/converted.pth", weights_only=True)
    assert set(written) == {"meta", "state_dict"}
    assert written["meta"]["family"] == "vmamba"
    assert written["meta"]["preset"] == "nano"
    assert written["meta"]["source"]["file"] == "official.pth"
    assert os.listdir(tmp_path / "new") == ["converted.pth"]


def test_command_tells_users_what_is_wrong_without_a_traceback(nano, tmp_path, monkeypatch, capsys):
    arguments = [nano, tmp_path / "converted.pth", "--arch", "tiny_s1l8"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in (SCRIPT, *arguments)])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    failed = capsys.readouterr()
    assert exit_.value.code == 1
    assert failed.out == ""
    assert failed.err.startswith("error: ")
    assert "Traceback" not in failed.err
    assert "* dims         32, 64, 128, 256  96, 192, 384, 768" in failed.err
    assert not (tmp_path / "converted.pth").exists()


def test_a_classifier_gets_the_same_logits_as_its_source(tmp_path):
    pytest.importorskip("mmpretrain")
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS

    state = official("tiny_s1l8")
    source, converted = tmp_path / "official.pth", tmp_path / "converted.pth"
    torch.save({"model": state, "epoch": 264}, source)
    report = convert_official(source, converted)
    written = torch.load(converted, weights_only=True)
    assert written["meta"]["preset"] == report.converted.preset == "tiny_s1l8"
    assert len(written["state_dict"]) == 276

    config = Config.fromfile(ROOT / written["meta"]["config"])
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(config.model).eval()
    model.load_state_dict(written["state_dict"], strict=True)

    backbone = VMamba("tiny_s1l8", out_indices=(3,)).eval()
    load_pretrained_vmamba(backbone, source)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = backbone(image)[0].mean((2, 3))
        logits = features @ state["classifier.head.weight"].T + state["classifier.head.bias"]
        torch.testing.assert_close(model(image, mode="tensor"), logits, rtol=1e-5, atol=1e-5)


def test_every_released_preset_has_its_config():
    assert set(VMAMBA_CONFIGS) == set(VMAMBA_ARCHS) - {"nano", "vmunet_encoder"}


@pytest.mark.parametrize("preset", VMAMBA_CONFIGS)
def test_configs_exist_and_are_of_the_preset(preset):
    pytest.importorskip("mmpretrain")
    model = Config.fromfile(ROOT / VMAMBA_CONFIGS[preset]).model
    assert model.backbone.arch == preset
    assert tuple(model.backbone.out_indices) == (3,)
    assert model.head.num_classes == NUM_CLASSES
    assert model.head.in_channels == VMAMBA_ARCHS[preset].dims[-1]


def test_detector_files_keep_their_norms_and_other_modules(tmp_path):
    state = VMamba("nano").state_dict()
    state = {f"backbone.{key}": value for key, value in state.items()}
    state["roi_head.bbox_head.fc_cls.weight"] = torch.ones(81, 4)
    source, target = tmp_path / "detector.pth", tmp_path / "converted.pth"
    torch.save({"state_dict": state, "meta": {}}, source)

    report = convert_official(source, target)
    assert report.converted.config is None
    assert set(torch.load(target)["state_dict"]) == set(state)

    report = convert_official(source, target, drop_head=True, force=True)
    assert report.converted.dropped == ("roi_head.bbox_head.fc_cls.weight",)
    assert set(torch.load(target)["state_dict"]) == {k for k in state if k.startswith("backbone.")}
    load_pretrained_vmamba(VMamba("nano"), target)


def test_norms_that_no_model_has_and_a_left_over_classifier_are_dropped(tmp_path):
    state = VMamba("nano").state_dict() | {
        "outnorm9.weight": torch.ones(1),
        "classifier.head.bias": torch.ones(NUM_CLASSES),
    }
    torch.save({"state_dict": state}, tmp_path / "dense.pth")
    converted = convert_official(tmp_path / "dense.pth", tmp_path / "out.pth").converted
    assert converted.dropped == ("classifier.head.bias", "outnorm9.weight")
    assert converted.config is None
    assert set(converted.state_dict) == {f"backbone.{key}" for key in VMamba("nano").state_dict()}


def test_the_moving_average_is_taken_on_request(tmp_path):
    weights = official("nano")
    average = {key: value + 0.5 for key, value in weights.items()}
    torch.save({"model": weights, "model_ema": average}, tmp_path / "dump.pth")
    for key, expected in ((None, weights), ("model_ema", average)):
        convert_official(tmp_path / "dump.pth", tmp_path / "out.pth", key=key, force=True)
        written = torch.load(tmp_path / "out.pth")
        assert written["meta"]["source"]["container"] == (key or "model")
        ours, theirs = written["state_dict"]["head.fc.bias"], expected["classifier.head.bias"]
        assert torch.equal(ours, theirs)


def test_other_classes_need_the_head_dropped(tmp_path):
    source, target = tmp_path / "official.pth", tmp_path / "converted.pth"
    torch.save({"model": official("nano", classes=7)}, source)
    with pytest.raises(StateMismatchError, match=r"(?s)--drop-head.*head\.weight: \(7, 256\)"):
        convert_official(source, target)
    assert not target.exists()
    report = convert_official(source, target, drop_head=True)
    assert report.converted.dropped == ("classifier.head.bias", "classifier.head.weight")
    assert report.converted.config is None
    assert not any(key.startswith("head.") for key in torch.load(target)["state_dict"])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda s: s.pop("classifier.head.bias"), StateMismatchError, r"classifier\.head\.bias"),
        (lambda s: s.pop("patch_embed.0.bias"), StateMismatchError, r"patch_embed\.0\.bias"),
        (lambda s: s.update(extra=torch.ones(1)), StateMismatchError, "extra"),
        (lambda s: s["classifier.head.bias"].fill_(torch.nan), NonFiniteWeightsError, "head"),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("classifier.")],
            StateMismatchError,
            r"outnorm3\.weight",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("layers.2.blocks.1.")],
            ArchMismatchError,
            r"(?s)no released size; the closest is nano.*\* depths       1, 1, 1, 1",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("layers.")],
            CheckpointFormatError,
            "not of one known family",
        ),
        (
            lambda s: s.update({"layers_up.0.upsample.expand.weight": torch.ones(1)}),
            CheckpointFormatError,
            "not of one known family",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(nano, tmp_path, change, error, match):
    rewritten(nano, change)
    with pytest.raises(error, match=match):
        convert_official(nano, tmp_path / "converted.pth")
    assert os.listdir(tmp_path) == ["official.pth"]


def test_an_unknown_arch_is_refused(nano, tmp_path):
    with pytest.raises(ArchMismatchError, match=r"(?s)'huge'.*tiny_s1l8"):
        convert_official(nano, tmp_path / "converted.pth", arch="huge")


def test_nothing_is_overwritten_silently(nano, tmp_path):
    original = nano.read_bytes()
    with pytest.raises(CheckpointWriteError, match="same file"):
        convert_official(nano, tmp_path / "." / "official.pth", force=True)
    target = tmp_path / "converted.pth"
    target.write_text("mine")
    with pytest.raises(CheckpointWriteError, match="--force"):
        convert_official(nano, target)
    assert target.read_text() == "mine"
    with pytest.raises(CheckpointWriteError, match="folder"):
        convert_official(nano, tmp_path, force=True)
    with pytest.raises(CheckpointWriteError, match="cannot be written"):
        convert_official(nano, target / "below-a-file.pth")
    assert nano.read_bytes() == original
    assert sorted(os.listdir(tmp_path)) == ["converted.pth", "official.pth"]


def test_a_converted_file_starts_a_detection_backbone(nano, tmp_path):
    convert_official(nano, tmp_path / "converted.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "converted.pth"))
    model = VMamba("nano", init_cfg=init_cfg)
    model.init_weights()
    body = torch.load(nano)["model"]["layers.2.blocks.1.op.A_logs"]
    assert torch.equal(model.layers[2].blocks[1].op.A_logs, body)
    assert torch.equal(model.outnorm3.weight, torch.ones(256))
