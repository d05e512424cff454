import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import nn

from mamba_mm.models import SimpleFeaturePyramid, VisionMamba


def sizes(maps):
    return [tuple(m.shape[2:]) for m in maps]


def test_levels_from_one_map():
    neck = SimpleFeaturePyramid(8, 16, stride=16, num_outs=5)
    maps = neck((torch.randn(2, 8, 5, 7),))
    assert sizes(maps) == [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]
    assert {m.shape[:2] for m in maps} == {(2, 16)}


def test_levels_from_a_map_each_keep_their_channels():
    neck = SimpleFeaturePyramid([8] * 4, None)
    inputs = [torch.randn(1, 8, 4, 6) for _ in range(4)]
    maps = neck(inputs)
    assert sizes(maps) == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert torch.equal(maps[2], inputs[2])
    assert torch.equal(maps[3], nn.functional.max_pool2d(inputs[3], 2))


def test_the_scales_follow_from_the_true_stride():
    """At stride 8 the finest level is twice as fine as the map, not four times."""
    neck = SimpleFeaturePyramid(8, None, stride=8)
    assert sizes(neck((torch.randn(1, 8, 8, 8),))) == [(16, 16), (8, 8), (4, 4), (2, 2)]
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in neck.modules()) == 1


@pytest.mark.parametrize("norm", ["ln", "bn"])
@pytest.mark.parametrize("out_channels", [None, 16])
def test_every_parameter_gets_a_gradient(norm, out_channels):
    neck = SimpleFeaturePyramid(8, out_channels, norm=norm)
    sum(m.sin().sum() for m in neck((torch.randn(2, 8, 4, 6),))).backward()
    for name, parameter in neck.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("arch", "stride"), [("nano", 16), ({"base": "nano", "stride": 8}, 8)])
def test_a_vim_with_its_pyramid(arch, stride):
    backbone = VisionMamba(arch, out_indices=(0, 1, 2, 3))
    neck = SimpleFeaturePyramid(list(backbone.out_channels), 16, stride=stride)
    maps = neck(backbone(torch.randn(1, 3, 64, 96)))
    widths = [m.shape[3] for m in maps]
    assert [round(96 / w) for w in widths] == ([4, 8, 16, 32] if stride == 16 else [4, 9, 16, 32])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 12}, "stride 8 is not 12 times a power of two|stride 4 is not 12"),
        ({"stride": 0}, "not 0 times a power of two"),
        ({"out_strides": (8, 4)}, r"must ascend, got \(8, 4\)"),
        ({"out_strides": ()}, "must ascend"),
        ({"num_outs": 3}, "num_outs=3 for 4 out_strides"),
        ({"norm": "gn"}, "unknown norm 'gn'; known: ln, bn"),
        ({"in_channels": (8, 16, 8, 8)}, "one number, or 4 equal ones"),
        ({"in_channels": (8, 8)}, "one number, or 4 equal ones"),
    ],
)
def test_mistakes_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        SimpleFeaturePyramid(**{"in_channels": 8, "out_channels": 16} | options)


def test_another_number_of_maps_is_refused():
    with pytest.raises(ValueError, match="expected 1 map or 4, one a level, got 2"):
        SimpleFeaturePyramid(8, 16)([torch.randn(1, 8, 4, 4)] * 2)


def test_registry():
    settings = {"type": "mamba_mm.SimpleFeaturePyramid", "in_channels": 8}
    with DefaultScope.overwrite_default_scope("mmdet"):
        pytest.importorskip("mmdet", reason="mmdet is not installed")
        assert type(ROOT_MODELS.build(settings)) is SimpleFeaturePyramid
