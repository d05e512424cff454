"""The demo's configs build, take one training step and predict, at a small image size."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

FOLDER = Path(__file__).parents[2] / "configs" / "mmdet" / "vmamba"
CONFIGS = {
    "rtmdet-ins_vmamba-nano_fpn_shapes.py": 6,
    "rtmdet-ins_vmamba-nano_fpn_coco-4-photos.py": 1,
}


@pytest.fixture(params=CONFIGS)
def config(request):
    config = Config.fromfile(FOLDER / request.param)
    init_default_scope(config.default_scope)
    return config


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return MODELS.build(config.model)


def inputs_for(config):
    classes = len(config.metainfo["classes"])
    shapes = [[3, 64, 96], [3, 96, 64]]
    data = demo_mm_inputs(2, shapes, num_items=[2, 1], num_classes=classes + 1, with_mask=True)
    for sample in data["data_samples"]:
        sample.gt_instances.labels %= classes  # the helper counts classes from 1
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))  # and names one that is not so
    return data


def test_the_backbone_is_ours_and_the_heads_fit_the_classes(config, model):
    assert type(model.backbone).__module__.startswith("mamba_mm.")
    assert model.bbox_head.num_classes == CONFIGS[Path(config.filename).name]
    assert len(config.metainfo["palette"]) == len(config.metainfo["classes"])


def test_one_training_step_moves_every_parameter_of_the_backbone(config, model):
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: value.clone() for name, value in model.backbone.named_parameters()}

    logged = model.train().train_step(inputs_for(config), optimizer)

    assert {"loss_cls", "loss_bbox", "loss_mask"} <= set(logged)
    assert torch.isfinite(logged["loss"])
    unmoved = [
        name
        for name, value in model.backbone.named_parameters()
        if torch.equal(value, before[name])
    ]
    assert not unmoved


def test_one_prediction_has_boxes_and_masks_of_the_images_size(config, model):
    data = inputs_for(config)
    with torch.no_grad():
        samples = model.eval().test_step(data)

    assert len(samples) == 2
    for sample in samples:
        found = sample.pred_instances
        assert found.bboxes.shape == (len(found), 4)
        assert found.masks.shape == (len(found), *sample.ori_shape[:2])
        assert found.scores.shape == found.labels.shape == (len(found),)


def test_the_data_folders_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("MAMBA_MM_DEMO_DATA", "/elsewhere/drawn")
    monkeypatch.setenv("MAMBA_MM_DATA_DIR", "/elsewhere/real")
    shapes, photos = (Config.fromfile(FOLDER / name) for name in CONFIGS)

    assert shapes.train_dataloader.dataset.data_root == "/elsewhere/drawn/"
    assert shapes.val_evaluator.ann_file == "/elsewhere/drawn/annotations/instances_val.json"
    assert photos.train_dataloader.dataset.data_root == "/elsewhere/real/coco/"
    assert photos.val_evaluator.ann_file == "/elsewhere/real/coco/test_coco.json"


def test_the_class_names_are_those_that_are_drawn():
    from mamba_mm.datasets.shapes import CATEGORIES

    config = Config.fromfile(FOLDER / next(iter(CONFIGS)))
    assert config.metainfo["classes"] == tuple(kind.name for kind in CATEGORIES)
