"""The small baselines differ from the demo in their backbone, and hardly in their size."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mamba_mm.measuring.recipes import differences_beside_the_backbone, recipe_of

FOLDER = Path(__file__).parents[2] / "configs" / "mmdet"
DEMO = FOLDER / "vmamba" / "rtmdet-ins_vmamba-nano_fpn_shapes.py"
PARAMETERS = {
    "rtmdet-ins_resnet18-w24_fpn_shapes.py": 1_939_097,
    "rtmdet-ins_swin-nano_fpn_shapes.py": 1_857_431,
}


@pytest.fixture(params=PARAMETERS)
def config(request):
    return Config.fromfile(FOLDER / "baselines" / request.param)


def test_only_the_backbone_differs_from_the_demo(config):
    demo = recipe_of(Config.fromfile(DEMO))
    assert differences_beside_the_backbone(demo, recipe_of(config)) == {}


def test_the_model_has_about_the_demos_parameters_and_all_of_them_learn(config):
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()

    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == PARAMETERS[Path(config.filename).name]
    assert counted == pytest.approx(1_873_089, rel=0.05)
    assert type(model.backbone).__module__.startswith("mmdet.")
    assert "init_cfg" not in config.model.backbone  # random weights, as the demo's

    maps = model.extract_feat(torch.randn(2, 3, 64, 64))
    assert [tuple(one.shape) for one in maps] == [(2, 48, n, n) for n in (8, 4, 2)]
    sum(one.square().sum() for one in maps).backward()
    unmoved = [
        name
        for name, parameter in model.backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not unmoved


def test_batch_norms_of_the_resnet_learn():
    config = Config.fromfile(FOLDER / "baselines" / "rtmdet-ins_resnet18-w24_fpn_shapes.py")
    init_default_scope(config.default_scope)
    backbone = MODELS.build(config.model.backbone)
    backbone.train()
    assert all(module.training for module in backbone.modules())
