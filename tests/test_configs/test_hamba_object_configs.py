"""The configs of objects fit the objects, and leave no parameter of the scans decaying."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmpose")
pytest.importorskip("trimesh")

from mamba_mm.datasets.toy_objects import TOY_OBJECTS, toy_object

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "mmpose" / "hamba_object"
OBJECTS = FOLDER / "hamba_vmamba-nano_toy-objects-128x96.py"
SCENES = FOLDER / "hand-object_vmamba-nano_toy-scenes-128x96.py"


@pytest.fixture(autouse=True)
def mmpose_scope():
    with DefaultScope.overwrite_default_scope("mmpose"):
        yield


def test_diameters_are_those_of_the_drawn_objects():
    cfg = Config.fromfile(OBJECTS)
    drawn = [toy_object(name).diameter for name in TOY_OBJECTS]
    np.testing.assert_allclose(cfg.model.head.output_model.diameters, drawn, atol=1e-5)


def test_the_network_of_objects_is_the_same_beside_hands():
    alone, both = Config.fromfile(OBJECTS), Config.fromfile(SCENES)
    assert both.model.object.head == alone.model.head
    assert both.model.object.backbone == both.model.hand.backbone == alone.model.backbone
    hands = Config.fromfile(FOLDER.parent / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py")
    assert both.model.hand.head == hands.model.head
    assert both.train_dataloader.dataset.datasets[1].pipeline == alone.train_transforms
    assert both.hand_train_transforms == hands.train_pipeline[:-1]


@pytest.mark.parametrize("path", [OBJECTS, SCENES], ids=lambda path: path.stem)
def test_no_parameter_of_the_scan_decays(path):
    cfg = Config.fromfile(path)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decays = {
        id(parameter): group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    scans = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.endswith(("A_logs", "Ds", "dt_projs_bias"))
    ]
    assert len(scans) > 10
    assert all(decays[id(parameter)] == 0 for parameter in scans)
    assert max(decays.values()) == 0.05


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_SCENES_DATA", "/somewhere")
    cfg = Config.fromfile(SCENES)
    assert cfg.val_evaluator[1].models == cfg.visualizer.models == "/somewhere/models"
    roots = [part.data_root for part in cfg.train_dataloader.dataset.datasets]
    assert roots == ["/somewhere/"] * 2
