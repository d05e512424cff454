"""The test loop with test-time augmentation, through the installed toolbox's own script."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import LOOPS, DefaultScope

pytest.importorskip("mmpose")
from mmpose.registry import MODELS
from torch.utils.data import DataLoader
from training_runs import run_script

from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands
from mamba_mm.engine.hand_mesh_test_loop import HandMeshTestLoop

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"


@pytest.mark.slow
def test_metrics_say_that_they_are_of_augmented_tests(tmp_path, monkeypatch):
    data = tmp_path / "hands"
    config = ToyHandsConfig(train_images=1, val_images=4, image_size=96, left_share=0.5)
    write_toy_hands(data, config, report=lambda line: None)
    monkeypatch.setenv("MAMBA_MM_HANDS_DATA", str(data))
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(Config.fromfile(CONFIG).model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "random.pth")

    found = {}
    for name, options in dict(
        plain=[],
        loop=["test_cfg.type=mamba_mm.HandMeshTestLoop"],
        augmented=[
            "test_cfg.type=mamba_mm.HandMeshTestLoop",
            "test_cfg.rot_scale_tta.scales=(0.9,1.0)",
            "test_cfg.rot_scale_tta.rotations=(0,30)",
        ],
    ).items():
        work = tmp_path / name
        flags = ["--cfg-options", *options] if options else []
        run_script("test", CONFIG, tmp_path / "random.pth", "--work-dir", work, *flags)
        (metrics,) = work.glob("*/*.json")
        found[name] = json.loads(metrics.read_text())
    keys = {"mesh/PA-MPJPE", "mesh/PA-MPVPE", "mesh/F@15"}
    assert keys <= found["plain"].keys()
    for key in keys:
        assert found["loop"][key] == found["plain"][key]
        # Random weights see the crops differently, but not by much.
        assert found["augmented"][f"rot_scale_tta/{key}"] == pytest.approx(
            found["plain"][key], rel=0.2
        )
    assert not keys & found["augmented"].keys()


def test_it_is_known_by_its_name():
    assert LOOPS.get("mamba_mm.HandMeshTestLoop") is not None


def test_a_dataloader_that_is_built_already():
    with pytest.raises(TypeError, match="dataloader has to be a config, got a DataLoader"):
        HandMeshTestLoop(None, DataLoader([1]), [], rot_scale_tta=True)


@pytest.mark.parametrize("settings", [True, {}, dict(rotations=(0, 5))])
def test_a_set_without_a_crop(settings):
    with pytest.raises(ValueError, match="needs a TopdownAffine; it has nothing"):
        HandMeshTestLoop(None, dict(dataset=dict(type="Some")), [], rot_scale_tta=settings)
