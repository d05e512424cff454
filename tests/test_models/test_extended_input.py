"""Backbones that read depth start as the function that they were without it."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_checkpoint

from mamba_mm.layers.extended_input import ExtendedInputConv2d
from mamba_mm.models.utils import CheckpointError

TINY_VIT = dict(
    arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
    patch_cfg=dict(padding=2),
    img_size=(64, 48),
    patch_size=16,
    with_cls_token=False,
    out_type="featmap",
)
BACKBONES = {
    "VMamba": (dict(type="mamba_mm.VMamba", arch="nano"), "patch_embed.0"),
    "VMamba v0": (
        dict(type="mamba_mm.VMamba", arch=dict(base="nano", patch_embed="v1")),
        "patch_embed.0",
    ),
    "Vim": (
        dict(type="mamba_mm.VisionMamba", arch=dict(base="nano", depth=2), img_size=(64, 48)),
        "patch_embed.proj",
    ),
    "ViT": (dict(type="mmpretrain.VisionTransformer", **TINY_VIT), "patch_embed.projection"),
    "ResNet": (dict(type="mmpose.ResNet", depth=18, base_channels=16, stem_channels=16), "conv1"),
}


@pytest.fixture(params=BACKBONES)
def case(request):
    """Config of a backbone without depth, and the name of its first layer."""
    config, first = BACKBONES[request.param]
    toolbox = config["type"].split(".")[0]
    pytest.importorskip(toolbox)
    pytest.importorskip(f"{toolbox}.models")
    return config, first


def built(config, seed=0):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmengine"):
        model = MODELS.build(config)
        model.init_weights()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.eval()  # returns None in MMPose's ResNet
    return model


def from_file(config, path, **options):
    """The extended backbone as a runner makes it: from the file in its ``init_cfg``."""
    init_cfg = dict(type="Pretrained", checkpoint=str(path), **options)
    extended = dict(
        type="mamba_mm.ExtendedInputBackbone", backbone={**config, "init_cfg": init_cfg}
    )
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope("mmengine"):
        model = MODELS.build(extended)
        model.init_weights()
    model.eval()
    return model


@pytest.fixture
def saved(tmp_path):
    def save(model, prefix=""):
        state = {prefix + key: value for key, value in model.state_dict().items()}
        torch.save({"state_dict": state}, tmp_path / "colours.pth")
        return tmp_path / "colours.pth"

    return save


def rgbd(seed=2):
    torch.manual_seed(seed)
    return torch.randn(2, 4, 64, 48)


def test_the_function_is_that_of_the_colours_bit_for_bit(case, saved):
    config, first = case
    colours = built(config)
    model = from_file(config, saved(colours, prefix="backbone."), prefix="backbone.")
    images = rgbd()
    with torch.no_grad():
        expected = colours(images[:, :3].contiguous())
        for depth in (images[:, 3:], 100 * images[:, 3:], torch.zeros(2, 1, 64, 48)):
            found = model(torch.cat([images[:, :3], depth], dim=1))
            assert len(found) == len(expected)
            assert all(map(torch.equal, found, expected))
    layer = model.get_submodule(first)
    assert layer.weight.shape[1] == 4
    assert not layer.weight[:, 3].any()
    assert model.state_dict().keys() == colours.state_dict().keys()


def test_the_new_weights_learn_from_the_first_step(case, saved):
    config, first = case
    model = from_file(config, saved(built(config)))
    weight = model.get_submodule(first).weight
    sum(m.square().sum() for m in model(rgbd())).backward()
    assert (weight.grad[:, 3] != 0).float().mean() > 0.9
    assert weight is dict(model.named_parameters())[f"{first}.weight"]


def test_weights_with_depth_load_as_ever(case, saved):
    config, _ = case
    trained = built({**config, "in_channels": 4})
    model = from_file(config, saved(trained))
    for key, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    # And into the plain backbone of four channels, whose names and shapes are the same.
    built({**config, "in_channels": 4}).load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("case", ["VMamba", "ViT"], indirect=True)
def test_whole_checkpoints_without_depth_load_too(case, saved):
    """By ``load_from``, which is not ``init_cfg``, and by PyTorch's own function."""
    config, first = case
    colours = built(config)
    path = saved(colours, prefix="backbone.")
    extended = dict(type="mamba_mm.ExtendedInputBackbone", backbone=config)
    whole = torch.nn.ModuleDict({"backbone": built(extended, seed=3)})
    load_checkpoint(whole, str(path), map_location="cpu")
    alone = built(extended, seed=3)
    state = colours.state_dict()
    alone.load_state_dict(state, strict=True)
    assert state[f"{first}.weight"].shape[1] == 3
    for model in (whole["backbone"], alone):
        assert torch.equal(model(rgbd())[0], colours(rgbd()[:, :3].contiguous())[0])


def test_the_mean_of_the_colours_may_stand_for_depth(saved):
    config, first = BACKBONES["VMamba"]
    colours = built(config)
    model = MODELS.build(
        dict(type="mamba_mm.ExtendedInputBackbone", backbone=config, new_weights="mean")
    )
    model.load_state_dict(colours.state_dict())
    weight = model.get_submodule(first).weight
    torch.testing.assert_close(weight[:, 3], weight[:, :3].mean(dim=1))


def test_without_weights_all_channels_start_at_random():
    config, first = BACKBONES["VMamba"]
    model = from_scratch = MODELS.build(
        dict(type="mamba_mm.ExtendedInputBackbone", backbone={**config, "frozen_stages": 0})
    )
    layer = from_scratch.get_submodule(first)
    assert isinstance(layer, ExtendedInputConv2d)
    assert layer.weight[:, 3].std() > 0.5 * layer.weight[:, 0].std()
    # What the backbone froze stays frozen.
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert "pretrained_channels=3, new_weights='zero'" in repr(model)


def test_the_report_says_what_was_extended(saved):
    from mamba_mm.models.utils import load_pretrained_vim, load_pretrained_vmamba

    for name, load in (("VMamba", load_pretrained_vmamba), ("Vim", load_pretrained_vim)):
        config, first = BACKBONES[name]
        colours, extended = built(config), dict(type="mamba_mm.ExtendedInputBackbone")
        report = load(MODELS.build({**extended, "backbone": config}), saved(colours))
        note = f"{first}.weight extended from 3 to 4 channels, weights: zero"
        assert note in report.notes
        assert load(colours, saved(colours)).notes == ()


@pytest.mark.parametrize("name", ["VMamba", "Vim"])
def test_any_other_difference_is_refused_and_changes_nothing(name, saved):
    config, first = BACKBONES[name]
    wider = {"VMamba": dict(base="nano", dims=48), "Vim": dict(base="nano", embed_dims=96, depth=2)}
    path = saved(built({**config, "arch": wider[name]}))
    with pytest.raises(CheckpointError, match="nothing was loaded"):
        from_file(config, path)
    state = built(config).state_dict()
    state[f"{first}.weight"] = state[f"{first}.weight"][:, :2]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"the first layer has the shape \(\d+, 2, ") as error:
        from_file(config, path)
    assert f"{first}.weight" in str(error.value)
    # Without the extension a file without depth is refused, as before.
    saved(built(config))
    plain = {**config, "in_channels": 4, "init_cfg": dict(type="Pretrained", checkpoint=str(path))}
    with pytest.raises(CheckpointError, match="of another shape"):
        built(plain)


def test_toolboxes_do_not_pass_over_another_first_layer(saved):
    pytest.importorskip("mmpretrain.models")
    config, _ = BACKBONES["ViT"]
    path = saved(built({**config, "patch_size": 8, "patch_cfg": {}, "img_size": 64}))
    with pytest.raises(ValueError, match=r"shape \(32, 3, 8, 8\); expected \(32, 3, 16, 16\)"):
        from_file(config, path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (dict(new_weights="noise"), "unknown new_weights 'noise'; known: zero, mean"),
        (dict(in_channels=3), "cannot extend weights for 3 channels to those of"),
        (dict(pretrained_channels=0), "cannot extend weights for 0 channels"),
        (dict(backbone=dict(type="mamba_mm.VMamba", in_channels=4)), "is its own argument"),
    ],
)
def test_wrong_arguments_are_refused(options, complaint):
    config = dict(type="mamba_mm.ExtendedInputBackbone", backbone=BACKBONES["VMamba"][0])
    with pytest.raises(ValueError, match=complaint):
        MODELS.build({**config, **options})


@MODELS.register_module()
class _NoBackbone(torch.nn.Module):
    def __init__(self, in_channels, first):
        super().__init__()
        self.first = first(in_channels)


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        (lambda channels: torch.nn.Linear(channels, 2), "_NoBackbone has no convolution"),
        (lambda channels: torch.nn.Conv2d(9, 2, 1), "reads 9 channels, not the 4 of the image"),
    ],
)
def test_networks_whose_first_convolution_does_not_read_the_image(first, complaint):
    config = dict(type="_NoBackbone", first=first)
    with pytest.raises(ValueError, match=complaint):
        MODELS.build(dict(type="mamba_mm.ExtendedInputBackbone", backbone=config))
