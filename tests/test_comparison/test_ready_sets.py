"""The ready-made sets name configs that exist and models that can be built."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

pytest.importorskip("mmengine")

from mamba_mm.comparison.configs import read_configs
from mamba_mm.comparison.models import create_model
from mamba_mm.comparison.sets import SETS
from mamba_mm.measuring.image_shape import ImageShape

TOOLBOXES = {
    "classification": "mmpretrain",
    "detection": "mmdet",
    "segmentation": "mmseg",
    "pose": "mmpose",
}


class WeightsWithoutMemory(TorchFunctionMode):
    """Put weights on the meta device, and only them: the models compute with small tensors."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.empty:
            kwargs = {**kwargs, "device": "meta"}
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", SETS)
def test_models_are_of_one_size_class_and_one_toolbox(name):
    pytest.importorskip(TOOLBOXES[name])
    ready = SETS[name]
    configs = read_configs(ready.entries)
    assert {config.toolbox for config in configs} == {TOOLBOXES[name]}
    assert [config.is_ours for config in configs] == [
        entry.config.startswith("mamba_mm::") for entry in ready.entries
    ]
    assert configs[0].is_ours
    assert ready.baseline in [config.name for config in configs if not config.is_ours]
    backbones = []
    for config in configs:
        with WeightsWithoutMemory():
            model = create_model(config)
        backbones.append(sum(p.numel() for p in model.backbone.parameters()) / 1e6)
    assert min(backbones) > 20
    assert max(backbones) < 32


@pytest.mark.parametrize("name", SETS)
def test_shapes_can_be_read(name):
    shapes = [ImageShape.parse(text) for text in SETS[name].shapes]
    assert len({shape.pixels for shape in shapes if shape.batch == 1}) > 2  # enough for a line
