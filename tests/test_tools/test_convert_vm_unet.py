"""The converter on VM-UNet's official files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from vm_unet_samples import official_vm_unet

from mamba_mm.models import VMUNET_ARCHS
from mamba_mm.models.utils.checkpoint import (
    VMUNET_CONFIGS,
    ArchMismatchError,
    CheckpointFormatError,
    NonFiniteWeightsError,
    StateMismatchError,
    UnsafeCheckpointError,
    convert_official,
    load_pretrained_vm_unet_encoder,
    read_checkpoint,
)

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/model_converters/convert_official.py"


@pytest.fixture
def converted(tmp_path):
    def convert(content, **options):
        torch.save(content, tmp_path / "best.pth")
        report = convert_official(
            tmp_path / "best.pth", tmp_path / "out.pth", force=True, **options
        )
        return report, torch.load(tmp_path / "out.pth", weights_only=True)

    return convert


def training_dump(state):
    """What the official training script writes as latest.pth."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    return {
        "epoch": 12,
        "min_loss": np.float64(0.25),
        "min_epoch": 11,
        "loss": np.mean([0.2, 0.3]),
        "model_state_dict": state,
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
    }


CONTAINERS = {
    "best.pth": lambda state: state,
    "latest.pth": training_dump,
    "distributed": lambda state: {f"module.{key}": value for key, value in state.items()},
    "model": lambda state: {"model": state},
    "without prefix": lambda state: {k.removeprefix("vmunet."): v for k, v in state.items()},
    "spelling A": lambda state: {
        k.replace("ln_1", "norm").replace("self_attention", "op"): v for k, v in state.items()
    },
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_and_spelling_gives_the_same(name, converted):
    state = official_vm_unet("nano")
    report, written = converted(CONTAINERS[name](state))
    assert (written["meta"]["family"], written["meta"]["preset"]) == ("vm_unet", "nano")
    assert written["meta"]["out_channels"] == 1
    assert written["meta"]["config"] is None
    container = {"latest.pth": "model_state_dict", "model": "model"}.get(name, "bare state dict")
    assert report.container == container
    _, expected = converted(state)
    assert written["state_dict"].keys() == expected["state_dict"].keys()
    for key, value in expected["state_dict"].items():
        assert torch.equal(written["state_dict"][key], value), key


@pytest.mark.parametrize("classes", [1, 9])
def test_official_model_fills_the_config_it_names_and_computes_the_same(classes, converted):
    pytest.importorskip("mmseg")
    state = official_vm_unet("vm_unet", classes)
    assert len(state) == 222
    report, written = converted(state, arch="vm_unet")
    assert (
        report.converted.config == written["meta"]["config"] == VMUNET_CONFIGS["vm_unet", classes]
    )
    config = Config.fromfile(ROOT / written["meta"]["config"])
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(config.model).eval()
    model.load_state_dict(written["state_dict"], strict=True)

    bottom = "vmunet.layers_up.3.blocks.0.self_attention.dt_projs_bias"
    assert torch.equal(
        model.decode_head.decoder.layers_up[3].blocks[0].op.dt_projs_bias, state[bottom]
    )
    assert torch.equal(model.decode_head.conv_seg.bias, state["vmunet.final_conv.bias"])
    with torch.no_grad():
        assert model(torch.randn(1, 3, 40, 32), mode="tensor").shape == (1, classes, 40, 32)


def test_every_config_is_of_its_preset():
    for (preset, channels), path in VMUNET_CONFIGS.items():
        model = Config.fromfile(ROOT / path).model
        assert model.backbone.arch == model.decode_head.arch == preset
        assert model.decode_head.get("out_channels", model.decode_head.num_classes) == channels
        assert preset in VMUNET_ARCHS


def test_a_converted_file_converts_to_itself(converted):
    _, first = converted(official_vm_unet("nano", classes=3))
    report, second = converted({"state_dict": first["state_dict"]})
    assert report.converted.spelling == "D/A"
    for key, value in first["state_dict"].items():
        assert torch.equal(second["state_dict"][key], value)


def test_the_encoder_alone(converted, tmp_path):
    from mamba_mm.models import VMUNetEncoder

    state = official_vm_unet("nano")
    report, written = converted(state, drop_head=True)
    assert all(key.startswith("backbone.") for key in written["state_dict"])
    assert len(written["state_dict"]) + len(report.converted.dropped) == len(state)
    model = VMUNetEncoder("nano")
    load_pretrained_vm_unet_encoder(model, tmp_path / "out.pth")
    key = "vmunet.layers.2.blocks.0.self_attention.Ds"
    assert torch.equal(model.layers[2].blocks[0].op.Ds, state[key])


def test_counts_of_a_profiler_are_dropped_and_listed(converted):
    counts = {"total_ops": torch.zeros(1), "vmunet.layers.0.total_params": torch.zeros(1)}
    report, _ = converted(official_vm_unet("nano") | counts)
    assert report.converted.dropped == tuple(counts)
    assert "dropped  2 tensors: total_ops" in str(report)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda s: s.pop("vmunet.final_conv.bias"), StateMismatchError, r"conv_seg\.bias"),
        (lambda s: s.pop("vmunet.final_conv.weight"), StateMismatchError, "last convolution"),
        (
            lambda s: s.pop("vmunet.layers_up.1.upsample.expand.weight"),
            StateMismatchError,
            r"decode_head\.decoder\.layers_up\.1\.upsample\.expand\.weight",
        ),
        (lambda s: s.update({"vmunet.extra": torch.ones(1)}), StateMismatchError, r"1 unexpected"),
        (
            lambda s: s.update({"vmunet.final_up.norm.bias": torch.ones(5)}),
            StateMismatchError,
            r"final_up\.norm\.bias: \(5,\), \(8,\)",
        ),
        (
            lambda s: s["vmunet.layers.0.blocks.0.ln_1.bias"].fill_(torch.inf),
            NonFiniteWeightsError,
            r"layers\.0\.blocks\.0\.norm\.bias",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("vmunet.layers.")],
            CheckpointFormatError,
            "no encoder in any known place",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if ".layers_up.3.blocks" in k],
            ArchMismatchError,
            r"(?s)no released size; the closest is nano.*\* decoder_depths",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, change, error, match):
    state = official_vm_unet("nano")
    change(state)
    torch.save(state, tmp_path / "best.pth")
    with pytest.raises(error, match=match):
        convert_official(tmp_path / "best.pth", tmp_path / "out.pth")
    assert os.listdir(tmp_path) == ["best.pth"]


def test_another_preset_than_asserted_is_refused(tmp_path):
    torch.save(official_vm_unet("nano"), tmp_path / "best.pth")
    with pytest.raises(ArchMismatchError, match=r"(?s)VM-UNet weights of nano.*\* dims"):
        convert_official(tmp_path / "best.pth", tmp_path / "out.pth", arch="vm_unet")
    with pytest.raises(ArchMismatchError, match=r"(?s)'tiny_s1l8'.*vm_unet_deep"):
        convert_official(tmp_path / "best.pth", tmp_path / "out.pth", arch="tiny_s1l8")


class Custom:
    pass


def test_files_that_run_code_are_refused_and_the_way_out_works(tmp_path):
    source = tmp_path / "latest.pth"
    torch.save({"model_state_dict": official_vm_unet("nano"), "args": Custom()}, source)
    with pytest.raises(UnsafeCheckpointError, match=r"--unsafe-load"):
        convert_official(source, tmp_path / "out.pth")
    convert_official(source, tmp_path / "out.pth", trusted=True)
    assert read_checkpoint(tmp_path / "out.pth").content["meta"]["preset"] == "nano"


def test_command(tmp_path):
    torch.save(official_vm_unet("nano"), tmp_path / "best.pth")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "best.pth"), str(tmp_path / "out.pth")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "vm_unet, preset nano (bare state dict, spelling B)" in done.stdout
