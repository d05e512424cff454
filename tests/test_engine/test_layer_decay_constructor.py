"""Rate and decay of every parameter, of every preset, in every toolbox.

What is expected is written down here by the parameters' names and does not ask the code.
"""

from __future__ import annotations

import copy
import logging
import re

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    PolyLR,
    build_optim_wrapper,
)
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mamba_mm.engine import LayerDecayOptimWrapperConstructor
from mamba_mm.engine.weight_decay_rules import WEIGHT_DECAY_RULES
from mamba_mm.layers import LayerNorm2d, RMSNorm
from mamba_mm.models import (
    VIM_ARCHS,
    VMAMBA_ARCHS,
    VMUNET_ARCHS,
    VisionMamba,
    VMamba,
    VMUNetEncoder,
)
from mamba_mm.models.decode_heads import VMUNetDecoder

LR, DECAY, RATE = 1e-3, 0.05, 0.9


class Model(nn.Module):
    """A backbone with something behind it, as every toolbox builds them."""

    def __init__(self, backbone: nn.Module, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2) if head is None else head


class Plain(nn.Module):
    """A backbone that does not know how deep its parameters lie."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self.fc = nn.Linear(2, 2)


class Deep(Plain):
    """One that does: ``fc`` is the first of three layers."""

    def get_layer_depth(self, param_name, prefix=""):
        return (0 if param_name.startswith(f"{prefix}fc") else 2), 3


def optim_wrapper_config(optimizer=None, **paramwise):
    return ConfigDict(
        type="OptimWrapper",
        optimizer=optimizer or dict(type="AdamW", lr=LR, weight_decay=DECAY),
        constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
        paramwise_cfg=paramwise,
    )


def optimizer_of(model, **paramwise):
    return build_optim_wrapper(model, optim_wrapper_config(**paramwise)).optimizer


def settings_by_name(model, optimizer):
    """Learning rate and decay by name; no parameter may be there twice."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def settings(model, **paramwise):
    return settings_by_name(model, optimizer_of(model, **paramwise))


def check(model, expected, **paramwise):
    """Compare with what ``expected`` says of every name: depths from the end, and decay or not."""
    found = settings(model, **paramwise)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, (lr, decay) in found.items():
        steps, decays = expected(name)
        assert lr == pytest.approx(LR * RATE**steps, rel=1e-9), name
        assert decay == (DECAY if decays else 0.0), name


def log_of(model, **paramwise):
    """What is logged while the optimizer is built."""
    records = []
    handler = logging.Handler(logging.INFO)
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    try:
        optimizer_of(model, **paramwise)
    finally:
        logger.removeHandler(handler)
    return [(record.levelname, record.getMessage()) for record in records]


@pytest.fixture(autouse=True)
def mmengine_scope():
    with DefaultScope.overwrite_default_scope("mmengine"):
        yield


# --- every preset -----------------------------------------------------------------------

DEPTHS = {
    "v0_tiny": (2, 2, 9, 2),
    "v0_small": (2, 2, 27, 2),
    "v0_base": (2, 2, 27, 2),
    "tiny_s2l5": (2, 2, 5, 2),
    "small_s2l15": (2, 2, 15, 2),
    "base_s2l15": (2, 2, 15, 2),
    "tiny_s1l8": (2, 2, 8, 2),
    "small_s1l20": (2, 2, 20, 2),
    "base_s1l20": (2, 2, 20, 2),
    "vmunet_encoder": (2, 2, 2, 2),
    "nano": (1, 1, 2, 1),
}
VMUNET_DEPTHS = {"vm_unet": (2, 2, 2, 2), "vm_unet_deep": (2, 2, 9, 2), "nano": (1, 1, 1, 1)}
VIM_DEPTHS = dict.fromkeys(("tiny", "tiny_plus", "small", "small_plus", "base"), 24) | {"nano": 4}

VMAMBA_KINDS = {
    "weight": r"(in_proj|conv2d|out_proj|fc1|fc2|reduction|expand|downsample\.1|patch_embed\.[05]"
    r"|head)\.weight|(x_proj|dt_projs)_weight",
    "norm": r"(norm|norm2|out_norm|outnorm\d)\.(weight|bias)",
    "unnamed norm": r"(patch_embed\.[27]|downsample\.3)\.(weight|bias)",
    "bias": r"(conv2d|fc1|fc2|downsample\.1|patch_embed\.[05]|head)\.bias",
    "step": r"dt_projs_bias",
    "A": r"A_logs",
    "D": r"Ds",
}
# vmamba.md 6.2: who decays.
VMAMBA_DECAYED = {
    "principled": {"weight"},
    "vmamba_classification": {"weight", "step", "A"},
    "vmamba_dense": {"weight", "unnamed norm", "bias", "step", "A", "D"},
}
VIM_KINDS = {
    "weight": r"(proj|in_proj|out_proj|(x_proj|dt_proj|conv1d)(_b)?|head)\.weight",
    "norm": r"(norm|norm_f|outnorm\d+)\.weight",
    "bias": r"(proj|(dt_proj|conv1d)(_b)?|head)\.bias",
    "A": r"A_log|A_b_log",
    "D": r"D|D_b",
    "position": r"pos_embed|cls_token",
}
# vim.md 6.3 and 6.4
VIM_DECAYED = {
    "principled": {"weight"},
    "vim_classification": {"weight", "A"},
    "vim_dense": {"weight", "A", "position"},
}


def kind_of(name, kinds):
    """The one kind that a name is of: the end of the name must match."""
    (kind,) = [kind for kind, ends in kinds.items() if re.search(rf"(^|\.)({ends})$", name)]
    return kind


def vmamba_steps(depths):
    """How far from the end a VMamba's parameters lie, by their names."""
    blocks = [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]

    def steps(name):
        if name.startswith("backbone.patch_embed."):
            return len(blocks) + 1
        if found := re.match(r"backbone\.layers\.(\d)\.blocks\.(\d+)\.", name):
            return len(blocks) - blocks.index(tuple(map(int, found.groups())))
        if found := re.match(r"backbone\.layers\.(\d)\.downsample\.", name):
            stage = int(found[1])
            return len(blocks) - blocks.index((stage, depths[stage] - 1))
        assert re.match(r"backbone\.outnorm\d\.|head\.", name), name
        return 0

    return steps


def vim_steps(depth):
    def steps(name):
        if re.match(r"backbone\.(patch_embed\.|pos_embed$|cls_token$)", name):
            return depth + 1
        if found := re.match(r"backbone\.layers\.(\d+)\.", name):
            return depth - int(found[1])
        assert re.match(r"backbone\.(norm_f|outnorm\d+)\.|head\.", name), name
        return 0

    return steps


def check_every_rule(model, steps, kinds, decayed):
    for rule, decaying in decayed.items():
        check(
            model,
            lambda name, decaying=decaying: (steps(name), kind_of(name, kinds) in decaying),
            layer_decay_rate=RATE,
            weight_decay_rule=rule,
        )


def test_the_presets_below_are_all():
    assert DEPTHS.keys() == VMAMBA_ARCHS.keys()
    assert VMUNET_DEPTHS.keys() == VMUNET_ARCHS.keys()
    assert VIM_DEPTHS.keys() == VIM_ARCHS.keys()
    assert VMAMBA_DECAYED.keys() | VIM_DECAYED.keys() == WEIGHT_DECAY_RULES.keys()


@pytest.mark.parametrize("arch", DEPTHS)
def test_every_parameter_of_vmamba(arch):
    with torch.device("meta"):
        model = Model(VMamba(arch))
    check_every_rule(model, vmamba_steps(DEPTHS[arch]), VMAMBA_KINDS, VMAMBA_DECAYED)


@pytest.mark.parametrize("arch", VMUNET_DEPTHS)
def test_every_parameter_of_vm_unet(arch):
    """Encoder by depth, decoder at the full rate."""
    with torch.device("meta"):
        model = Model(VMUNetEncoder(arch), VMUNetDecoder(VMUNET_ARCHS[arch]))
    check_every_rule(model, vmamba_steps(VMUNET_DEPTHS[arch]), VMAMBA_KINDS, VMAMBA_DECAYED)


@pytest.mark.parametrize("arch", VIM_DEPTHS)
def test_every_parameter_of_vim(arch):
    depth = VIM_DEPTHS[arch]
    with torch.device("meta"):
        model = Model(VisionMamba(arch, out_indices=(depth // 2, depth - 1)))
    check_every_rule(model, vim_steps(depth), VIM_KINDS, VIM_DECAYED)


def test_taps_at_the_inputs_of_the_stages():
    with torch.device("meta"):
        backbone = VMamba("nano", taps="stage_input", output_norms=False, out_indices=range(5))
    steps = vmamba_steps(DEPTHS["nano"])
    check_every_rule(Model(backbone), steps, VMAMBA_KINDS, VMAMBA_DECAYED)


def test_the_last_block_trains_a_step_below_the_head():
    model = Model(VMamba("nano"))
    found = settings(model, layer_decay_rate=0.5)
    assert found["backbone.patch_embed.0.weight"][0] == LR / 64
    assert found["backbone.layers.0.blocks.0.op.in_proj.weight"][0] == LR / 32
    assert found["backbone.layers.0.downsample.1.weight"][0] == LR / 32
    assert found["backbone.layers.3.blocks.0.op.in_proj.weight"][0] == LR / 2
    assert found["backbone.outnorm3.weight"][0] == found["head.weight"][0] == LR


# --- the toolboxes ----------------------------------------------------------------------


def classifier():
    return dict(
        type="ImageClassifier",
        backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(3,)),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=2, in_channels=256),
    )


def detector():
    """The levels of its head share their convolutions."""
    return dict(
        type="RTMDet",
        backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(1, 2, 3)),
        neck=dict(type="FPN", in_channels=[64, 128, 256], out_channels=16, num_outs=3),
        bbox_head=dict(
            type="RTMDetSepBNHead",
            num_classes=2,
            in_channels=16,
            feat_channels=16,
            stacked_convs=1,
            share_conv=True,
            norm_cfg=dict(type="BN"),
            anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
            bbox_coder=dict(type="DistancePointBBoxCoder"),
            loss_cls=dict(type="QualityFocalLoss"),
            loss_bbox=dict(type="GIoULoss"),
        ),
        train_cfg=dict(assigner=dict(type="DynamicSoftLabelAssigner", topk=13)),
        test_cfg=dict(),
    )


def segmentor():
    return dict(
        type="EncoderDecoder",
        backbone=dict(type="mamba_mm.VMamba", arch="nano"),
        decode_head=dict(
            type="UPerHead",
            in_channels=[32, 64, 128, 256],
            in_index=[0, 1, 2, 3],
            channels=16,
            num_classes=3,
            norm_cfg=dict(type="SyncBN"),
        ),
    )


def pose_estimator():
    codec = dict(type="MSRAHeatmap", input_size=(64, 64), heatmap_size=(16, 16), sigma=1)
    return dict(
        type="TopdownPoseEstimator",
        backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(3,)),
        head=dict(
            type="HeatmapHead",
            in_channels=256,
            out_channels=3,
            deconv_out_channels=(16,),
            deconv_kernel_sizes=(4,),
            loss=dict(type="KeypointMSELoss"),
            decoder=codec,
        ),
    )


TOOLBOX_MODELS = {
    "mmpretrain": classifier,
    "mmdet": detector,
    "mmseg": segmentor,
    "mmpose": pose_estimator,
}


def build_in(toolbox, config=None):
    """Build a model of a toolbox, in whose scope the caller is."""
    pytest.importorskip(f"{toolbox}.models", reason=f"a model of {toolbox}")
    with torch.device("meta"):
        return MODELS.build(config or TOOLBOX_MODELS[toolbox]())


@pytest.mark.parametrize("toolbox", TOOLBOX_MODELS)
def test_models_of_every_toolbox(toolbox):
    """In each one's scope: the backbone by depth, neck and head at the full rate."""
    with DefaultScope.overwrite_default_scope(toolbox):
        model = build_in(toolbox)
        steps = vmamba_steps(DEPTHS["nano"])
        norms = {
            id(parameter)
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for parameter in module.parameters()
        }
        parameters = dict(model.named_parameters())

        def expected(name):
            if name.startswith("backbone."):
                return steps(name), kind_of(name, VMAMBA_KINDS) == "weight"
            return 0, name.endswith(".weight") and id(parameters[name]) not in norms

        check(model, expected, layer_decay_rate=RATE)
    assert sum(not name.startswith("backbone.") for name in parameters) > 1


# --- what the toolboxes' own constructors do ----------------------------------------------


def stock(constructor, model, **paramwise):
    config = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY))
    return constructor(config, paramwise)(model).optimizer


# The toolboxes' own constructors, which raise this themselves: why there is one of ours.
@pytest.mark.parametrize("toolbox", ["mmdet", "mmseg"])
def test_mmdet_and_mmseg_refuse_our_backbones(toolbox):
    optimizers = pytest.importorskip(f"{toolbox}.engine.optimizers", reason="its constructor")
    with pytest.raises(NotImplementedError):
        stock(
            optimizers.LearningRateDecayOptimizerConstructor,
            Model(VMamba("nano")),
            num_layers=5,
            decay_rate=RATE,
            decay_type="layer_wise",
        )


def test_mmpretrain_refuses_models_that_are_no_classifiers():
    optimizers = pytest.importorskip("mmpretrain.engine.optimizers", reason="its constructor")
    with pytest.raises(NotImplementedError, match="get_layer_depth"):
        stock(
            optimizers.LearningRateDecayOptimWrapperConstructor,
            Model(VMamba("nano")),
            layer_decay_rate=RATE,
        )


def test_mmpose_mistakes_stages_for_blocks_and_lets_the_recurrence_decay():
    optim_wrappers = pytest.importorskip("mmpose.engine.optim_wrappers", reason="its constructor")
    model = Model(VMamba("nano"))
    optimizer = stock(
        optim_wrappers.LayerDecayOptimWrapperConstructor,
        model,
        num_layers=5,
        layer_decay_rate=0.5,
    )
    found = settings_by_name(model, optimizer)
    first, second = (f"backbone.layers.2.blocks.{i}.op.in_proj.weight" for i in range(2))
    assert found[first] == found[second]  # two blocks, one depth
    last = "backbone.layers.3.blocks.0.op.in_proj.weight"
    assert found[last][0] == LR / 4  # as if another block lay behind the last one
    assert found["backbone.layers.0.blocks.0.op.A_logs"][1] == DECAY
    assert found["backbone.layers.0.blocks.0.op.dt_projs_bias"][1] == DECAY
    ours = settings(model, layer_decay_rate=0.5)
    assert ours[first][0] != ours[second][0]
    assert ours[last][0] == LR / 2


# --- groups -----------------------------------------------------------------------------


def test_one_group_for_each_rate_and_decay():
    model = Model(VMamba("nano"))
    groups = optimizer_of(model, layer_decay_rate=RATE).param_groups
    pairs = [(group["lr_scale"], group["weight_decay"]) for group in groups]
    assert len(set(pairs)) == len(pairs) == 2 * 7
    assert len({group["group_name"] for group in groups}) == len(groups)
    parameters = dict(model.named_parameters())
    for group in groups:
        assert group["lr"] == pytest.approx(LR * group["lr_scale"])
        assert len(group["param_names"]) == len(group["params"])
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            assert parameters[name] is parameter


def test_without_layer_decay_there_are_two_groups():
    for model in (Model(VMamba("nano")), nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))):
        groups = optimizer_of(model).param_groups
        assert [(g["lr"], g["weight_decay"]) for g in groups] in (
            [(LR, 0.0), (LR, DECAY)],
            [(LR, DECAY), (LR, 0.0)],
        )


def test_the_groups_are_logged_once():
    model = Model(Deep())
    (entry,) = log_of(model, layer_decay_rate=0.5)
    level, message = entry
    rows = [line.split() for line in message.splitlines()[2:]]
    assert level == "INFO"
    assert rows == [
        ["0.25", "0.00025", "0", "1", "backbone.fc.bias"],
        ["0.25", "0.00025", "0.05", "1", "backbone.fc.weight"],
        ["1", "0.001", "0", "3", "backbone.norm.weight"],
        ["1", "0.001", "0.05", "1", "head.weight"],
    ]


def test_frozen_parameters_are_left_out():
    model = Model(VMamba("nano", frozen_stages=1, out_indices=(0, 1)))
    found = settings(model, layer_decay_rate=RATE)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == trained
    assert "backbone.layers.1.blocks.0.op.Ds" in trained
    for gone in ("patch_embed.0.weight", "layers.0.blocks.0.op.Ds", "layers.3.blocks.0.op.Ds"):
        assert f"backbone.{gone}" not in trained


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="no parameter of Linear requires a gradient"):
        optimizer_of(nn.Linear(2, 2).requires_grad_(False))


def test_shared_parameters_are_there_once():
    model = Model(Deep(), nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]))
    model.head[1].weight = model.head[0].weight
    model.again = model.head[0]
    found = settings(model, layer_decay_rate=RATE)
    assert "head.0.weight" in found
    assert "head.1.bias" in found
    assert not {"head.1.weight", "again.weight", "again.bias"} & found.keys()


def test_any_optimizer_will_do():
    optimizer = dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=1e-4)
    wrapper = build_optim_wrapper(
        Model(Deep()), optim_wrapper_config(optimizer, layer_decay_rate=0.5)
    )
    assert isinstance(wrapper.optimizer, torch.optim.SGD)
    assert {
        (g["lr"], g["weight_decay"], g["momentum"]) for g in wrapper.optimizer.param_groups
    } == {
        (0.1, 1e-4, 0.9),
        (0.1, 0.0, 0.9),
        (0.025, 1e-4, 0.9),
        (0.025, 0.0, 0.9),
    }


# --- decay ------------------------------------------------------------------------------


def test_norms_of_all_sorts_do_not_decay():
    """Also where their weights are shaped as the maps are: (C, 1, 1)."""
    norms = [
        nn.BatchNorm2d(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.LayerNorm(4),
        nn.RMSNorm(4),
        LayerNorm2d(4),
        RMSNorm(4),
    ]
    for norm in norms:
        norm.weight = nn.Parameter(norm.weight.reshape(-1, 1, 1))
    found = settings(nn.ModuleList([*norms, nn.Conv2d(4, 4, 1)]))
    decaying = [name for name, (_, decay) in found.items() if decay]
    assert decaying == ["8.weight"]


@pytest.mark.parametrize("rule", ["principled", "vmamba_classification", "vim_classification"])
def test_biases_of_any_shape_do_not_decay(rule):
    model = nn.Linear(2, 2)
    model.bias = nn.Parameter(torch.zeros(1, 2))
    found = settings(model, weight_decay_rule=rule)
    assert found == {"weight": (LR, DECAY), "bias": (LR, 0.0)}


@pytest.mark.parametrize("name", ["A_log", "A_logs", "A_b_log", "D", "Ds", "D_b", "dt_projs_bias"])
def test_the_recurrence_does_not_decay_whatever_its_shape(name):
    model = Model(Plain())
    model.backbone.register_parameter(name, nn.Parameter(torch.zeros(4, 3, 2)))
    assert settings(model)[f"backbone.{name}"] == (LR, 0.0)


@pytest.mark.parametrize("scalar", ["temperature", "scale"])
def test_scalars_do_not_decay(scalar):
    model = nn.Linear(2, 2)
    model.register_parameter(scalar, nn.Parameter(torch.ones(())))
    assert settings(model)[scalar] == (LR, 0.0)


@pytest.mark.parametrize(
    "name", ["absolute_pos_embed", "relative_position_bias_table", "rel_pos_h", "cls_token"]
)
def test_positions_of_other_backbones_do_not_decay(name):
    model = Model(Plain())
    model.backbone.register_parameter(name, nn.Parameter(torch.zeros(3, 2)))
    assert settings(model)[f"backbone.{name}"] == (LR, 0.0)


def test_a_name_is_compared_as_a_whole():
    """``D`` is spared, what merely contains a D is not."""
    model = Plain()
    for name in ("D", "Dense", "A_logs_of_something"):
        model.register_parameter(name, nn.Parameter(torch.zeros(3, 2)))
    found = settings(model)
    assert found["D"] == (LR, 0.0)
    assert found["Dense"] == found["A_logs_of_something"] == (LR, DECAY)


def test_swins_keys_spare_what_they_spare_in_swin():
    model = Model(Plain())
    for name in ("absolute_pos_embed", "relative_position_bias_table", "pos_embed"):
        model.backbone.register_parameter(name, nn.Parameter(torch.zeros(3, 2)))
    found = settings(model, weight_decay_rule="vmamba_dense")
    decays = {name.removeprefix("backbone.") for name, (_, decay) in found.items() if decay}
    assert decays == {"pos_embed", "fc.weight", "fc.bias", "head.weight", "head.bias"}


# --- custom keys ------------------------------------------------------------------------


def test_the_longest_key_holds_and_ties_go_by_the_alphabet():
    keys = {
        "fc": dict(lr_mult=2),
        "backbone.fc": dict(lr_mult=3),
        "head.b": dict(lr_mult=5),
        "ad.bia": dict(lr_mult=7),
    }
    found = settings(Model(Plain()), custom_keys=keys)
    assert found["backbone.fc.weight"][0] == pytest.approx(3 * LR)
    assert found["head.bias"][0] == pytest.approx(7 * LR)
    assert found["head.weight"][0] == LR


def test_lr_mult_comes_on_top_of_layer_decay_and_leaves_the_rule():
    keys = {"backbone": dict(lr_mult=0.1)}
    found = settings(Model(Deep()), layer_decay_rate=0.5, custom_keys=keys)
    assert found["backbone.fc.weight"] == (pytest.approx(LR * 0.025), DECAY)
    assert found["backbone.fc.bias"] == (pytest.approx(LR * 0.025), 0.0)
    assert found["backbone.norm.weight"] == (pytest.approx(LR * 0.1), 0.0)
    assert found["head.weight"] == (LR, DECAY)


def test_decay_mult_overrules_the_rule():
    keys = {"head": dict(decay_mult=0.5), "backbone.fc": dict(decay_mult=0)}
    found = settings(Model(Plain()), custom_keys=keys)
    assert found["head.weight"] == found["head.bias"] == (LR, pytest.approx(DECAY / 2))
    assert found["backbone.fc.weight"] == (LR, 0.0)
    assert found["backbone.norm.weight"] == (LR, 0.0)


def test_a_leading_dot_matches_at_the_top_too():
    model = Plain()
    model.register_parameter("code", nn.Parameter(torch.zeros(3, 2)))
    assert settings(model, custom_keys={".code": dict(lr_mult=0)})["code"] == (0.0, DECAY)


def test_keys_that_nothing_has_are_warned_of():
    keys = {"backbone.fc": dict(lr_mult=2), "bakcbone": dict(lr_mult=2)}
    warnings = [text for level, text in log_of(Model(Plain()), custom_keys=keys) if level != "INFO"]
    assert len(warnings) == 1
    assert warnings[0].endswith("these custom_keys: 'bakcbone'")


# --- wrappers ---------------------------------------------------------------------------


def test_a_wrapped_model():
    model = Model(Deep())
    wrapper = nn.Module()
    wrapper.module = model
    optimizer = optimizer_of(wrapper, layer_decay_rate=0.5)
    assert settings_by_name(model, optimizer)["backbone.fc.weight"] == (LR / 4, DECAY)


def test_wrapped_backbones():
    """As MMEngine's separate distribution of the parts and torch.compile wrap them."""
    compiled = nn.Module()
    compiled._orig_mod = Deep()
    for wrapper, prefix in ((nn.DataParallel(Deep()), "module"), (compiled, "_orig_mod")):
        found = settings(Model(wrapper), layer_decay_rate=0.5)
        assert found[f"backbone.{prefix}.fc.weight"] == (LR / 4, DECAY)
        assert found[f"backbone.{prefix}.norm.weight"] == (LR, 0.0)


def test_backbones_further_inside():
    """A model with teacher and student has two; the backbone of a backbone is a part of it."""
    model = nn.ModuleDict(dict(student=Model(Deep()), teacher=Model(Deep())))
    model["student"].backbone.fc.backbone = Plain()
    found = settings(model, layer_decay_rate=0.5)
    for name in ("student.backbone.fc", "teacher.backbone.fc", "student.backbone.fc.backbone.fc"):
        assert found[f"{name}.weight"] == (LR / 4, DECAY)


# --- training ---------------------------------------------------------------------------


def run_scheduler(scheduler, steps=20, rate=0.5, **settings):
    """Ratio of the first layer's rate to the head's, after every step of a scheduler."""
    optimizer = optimizer_of(Model(Deep()), layer_decay_rate=rate)
    schedule = scheduler(optimizer, by_epoch=False, **settings)
    by_scale = {group["lr_scale"]: group for group in optimizer.param_groups}
    ratios = []
    for _ in range(steps):
        optimizer.step()
        schedule.step()
        ratios.append(by_scale[rate**2]["lr"] / by_scale[1.0]["lr"])
    return ratios


@pytest.mark.parametrize(
    ("scheduler", "arguments"),
    [
        (LinearLR, dict(start_factor=0.001, end=10)),
        (MultiStepLR, dict(milestones=[5, 15], gamma=0.1)),
        (CosineAnnealingLR, dict(T_max=20, eta_min_ratio=0.01)),
        (CosineAnnealingLR, dict(T_max=21, eta_min=0)),
        (PolyLR, dict(power=1.0, end=30)),
    ],
)
def test_schedulers_keep_the_ratios(scheduler, arguments):
    assert run_scheduler(scheduler, **arguments) == pytest.approx([0.25] * 20)


def test_a_fixed_minimum_does_not_keep_the_ratios():
    """What the documentation warns of."""
    assert run_scheduler(CosineAnnealingLR, T_max=20, eta_min=1e-5)[-1] == pytest.approx(1)


def test_training_resumes():
    torch.manual_seed(0)
    model = Model(Deep())
    optimizer = optimizer_of(model, layer_decay_rate=0.5)
    schedule = LinearLR(optimizer, start_factor=0.1, end=10, by_epoch=False)

    def train(model, optimizer, schedule):
        loss = model.head.weight.sum() * model.backbone.fc.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    train(model, optimizer, schedule)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict(), schedule.state_dict()])
    resumed = Model(Deep())
    resumed_optimizer = optimizer_of(resumed, layer_decay_rate=0.5)
    resumed_schedule = LinearLR(resumed_optimizer, start_factor=0.1, end=10, by_epoch=False)
    for part, state in zip((resumed, resumed_optimizer, resumed_schedule), saved, strict=True):
        part.load_state_dict(state)
    train(model, optimizer, schedule)
    train(resumed, resumed_optimizer, resumed_schedule)
    assert torch.equal(model.backbone.fc.weight, resumed.backbone.fc.weight)
    before, after = optimizer.param_groups, resumed_optimizer.param_groups
    for key in ("lr", "weight_decay", "lr_scale", "group_name", "param_names"):
        assert [group[key] for group in before] == [group[key] for group in after]


# --- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paramwise", "message"),
    [
        (
            dict(decay_rate=0.9),
            r"does not know 'decay_rate'; it knows layer_decay_rate, ",
        ),
        (dict(norm_decay_mult=0.0), r"norm_decay_mult.*_delete_=True"),
        (dict(dcn_offset_lr_mult=0.1), r"dcn_offset_lr_mult.*deformable.*custom_keys"),
        (dict(layer_decay_rate=0), r"layer_decay_rate must lie in \(0, 1\], got 0"),
        (dict(layer_decay_rate=1.1), r"layer_decay_rate must lie in \(0, 1\], got 1.1"),
        (dict(layer_decay_rate="0.9"), r"layer_decay_rate must lie in \(0, 1\], got '0.9'"),
        (dict(layer_decay_rate=True), r"layer_decay_rate must lie in \(0, 1\], got True"),
        (dict(weight_decay_rule="swin"), r"unknown weight_decay_rule 'swin'; known: principled, "),
        (dict(weight_decay_rule=["swin"]), r"unknown weight_decay_rule \['swin'\]; known: princip"),
        (dict(custom_keys={"fc": 0.1}), r"custom_keys\['fc'\] must be a dict of lr_mult and decay"),
        (dict(custom_keys={"fc": dict(lr_mul=1)}), r"custom_keys\['fc'\].*got {'lr_mul': 1}"),
        (dict(custom_keys={"fc": dict(lr_mult=-1)}), r"custom_keys\['fc'\].*not negative"),
        (dict(custom_keys={"fc": dict(decay_mult="0")}), r"custom_keys\['fc'\].*'0'"),
    ],
)
def test_wrong_settings(paramwise, message):
    with pytest.raises(ValueError, match=message):
        optimizer_of(Model(Plain()), **paramwise)


@pytest.mark.parametrize("paramwise", [["fc"], "principled"])
def test_settings_are_a_dict(paramwise):
    config = optim_wrapper_config()
    config.pop("constructor")
    config.pop("paramwise_cfg")
    with pytest.raises(TypeError, match="paramwise_cfg must be a dict or None"):
        LayerDecayOptimWrapperConstructor(config, paramwise)
    with pytest.raises(TypeError, match="custom_keys must be a dict"):
        LayerDecayOptimWrapperConstructor(config, dict(custom_keys=paramwise))


def test_no_settings_at_all_mean_the_defaults():
    config = optim_wrapper_config()
    config.pop("paramwise_cfg")
    model = Model(Plain())
    found = settings_by_name(model, build_optim_wrapper(model, config).optimizer)
    assert found["backbone.norm.weight"] == (LR, 0.0)
    assert found["backbone.fc.weight"] == (LR, DECAY)


@pytest.mark.parametrize("missing", ["lr", "weight_decay"])
def test_rate_and_decay_must_be_given(missing):
    optimizer = dict(type="AdamW", lr=LR, weight_decay=DECAY)
    optimizer.pop(missing)
    with pytest.raises(ValueError, match=f"optimizer's {missing} must be given.*AdamW"):
        build_optim_wrapper(Model(Plain()), optim_wrapper_config(optimizer))


def test_no_decay_is_a_decay_of_zero():
    optimizer = dict(type="AdamW", lr=LR, weight_decay=0)
    wrapper = build_optim_wrapper(Model(Plain()), optim_wrapper_config(optimizer))
    assert [group["weight_decay"] for group in wrapper.optimizer.param_groups] == [0]


def test_layer_decay_needs_a_backbone_that_knows_its_depths():
    with pytest.raises(AttributeError, match=r"Plain, the model's `backbone`, has no `get_layer_"):
        optimizer_of(Model(Plain()), layer_decay_rate=0.9)
    with pytest.raises(AttributeError, match=r"0.9: Sequential has no `backbone`"):
        optimizer_of(nn.Sequential(nn.Linear(2, 2)), layer_decay_rate=0.9)
