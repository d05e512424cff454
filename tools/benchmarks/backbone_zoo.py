"""The backbones that are compared, by class, and how each is built.

All are dense backbones with random weights and without stochastic depth, so that all do
their whole work in a training step too. VMamba, Swin, ConvNeXt and ResNet return normed
(ResNet: activated) maps at strides 4, 8, 16 and 32. DeiT has no pyramid: it returns the
maps of four evenly spaced layers, all at stride 16, of which the last is normed; and Vim too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

PYRAMID = (0, 1, 2, 3)


def _vmamba(arch: str) -> dict:
    return dict(type="mamba_mm.VMamba", arch=arch, out_indices=PYRAMID, drop_path_rate=0.0)


def _swin(arch: str) -> dict:
    # Padding is what lets windows of 7 run at any size; MMDetection's Swin pads too.
    return dict(
        type="mmpretrain.SwinTransformer",
        arch=arch,
        out_indices=PYRAMID,
        drop_path_rate=0.0,
        pad_small_map=True,
    )


def _convnext(arch: str) -> dict:
    return dict(
        type="mmpretrain.ConvNeXt",
        arch=arch,
        out_indices=PYRAMID,
        drop_path_rate=0.0,
        gap_before_final_norm=False,
    )


def _deit(arch: str) -> dict:
    return dict(
        type="mmpretrain.VisionTransformer",
        arch=arch,
        out_indices=(2, 5, 8, 11),
        out_type="featmap",
        drop_path_rate=0.0,
    )


def _vim(arch: str) -> dict:
    return dict(
        type="mamba_mm.VisionMamba", arch=arch, out_indices=(5, 11, 17, 23), drop_path_rate=0.0
    )


def _resnet(depth: int) -> dict:
    return dict(type="mmpretrain.ResNet", depth=depth, out_indices=PYRAMID)


BACKBONES: dict[str, dict] = {
    "vmamba_nano": _vmamba("nano"),
    "vmamba_tiny_s1l8": _vmamba("tiny_s1l8"),
    "vmamba_tiny_s2l5": _vmamba("tiny_s2l5"),
    "vmamba_small_s1l20": _vmamba("small_s1l20"),
    "vmamba_small_s2l15": _vmamba("small_s2l15"),
    "vmamba_base_s1l20": _vmamba("base_s1l20"),
    "vmamba_base_s2l15": _vmamba("base_s2l15"),
    "vmamba_v0_tiny": _vmamba("v0_tiny"),
    "vmamba_v0_small": _vmamba("v0_small"),
    "vmamba_v0_base": _vmamba("v0_base"),
    "swin_tiny": _swin("tiny"),
    "swin_small": _swin("small"),
    "swin_base": _swin("base"),
    "convnext_tiny": _convnext("tiny"),
    "convnext_small": _convnext("small"),
    "convnext_base": _convnext("base"),
    "vim_tiny": _vim("tiny"),
    "vim_small": _vim("small"),
    "deit_tiny_plain": _deit("deit-tiny"),
    "deit_tiny": _deit("deit-tiny"),
    "deit_small": _deit("deit-small"),
    "deit_base": _deit("deit-base"),
    "resnet18": _resnet(18),
    "resnet50": _resnet(50),
    "resnet101": _resnet(101),
    "resnet152": _resnet(152),
}
"""Configs by name; each is built at the size of its images."""

POSITION_EMBEDDED = ("mmpretrain.VisionTransformer", "mamba_mm.VisionMamba")
PLAIN_ATTENTION = ("deit_tiny_plain",)
"""Those whose attention is not PyTorch's fused one: Vim was published against such a DeiT."""


@dataclass(frozen=True)
class ModelClass:
    """Backbones of about the same cost.

    Attributes:
        baseline: The one that ratios are taken against.
        others: The rest, ours first.
    """

    baseline: str
    others: tuple[str, ...]


CLASSES = {
    "tiny": ModelClass(
        "swin_tiny",
        ("vmamba_tiny_s1l8", "vmamba_tiny_s2l5", "convnext_tiny", "deit_small", "resnet50"),
    ),
    "small": ModelClass(
        "swin_small",
        ("vmamba_small_s1l20", "vmamba_small_s2l15", "convnext_small", "resnet101"),
    ),
    "base": ModelClass(
        "swin_base",
        ("vmamba_base_s1l20", "vmamba_base_s2l15", "convnext_base", "deit_base", "resnet152"),
    ),
    "headline": ModelClass("deit_tiny_plain", ("vim_tiny", "deit_tiny")),
    "quick": ModelClass("resnet18", ("vmamba_nano",)),
}
"""The classes of the papers; ``headline``, which Vim was published with, at 1248x1248 (arXiv
2401.09417, figure 1); and ``quick``, which only tries the tool."""


def build_backbone(name: str, height: int, width: int) -> BaseModule:
    """Build a backbone of :data:`BACKBONES` for images of one size.

    DeiT and Vim learn one position embedding a patch, so they are built for the size, as after
    the resizing of a checkpoint. The others do not depend on it.
    """
    torch.manual_seed(0)
    config = BACKBONES[name]
    if config["type"] in POSITION_EMBEDDED:
        config = config | {"img_size": (height, width)}
    model = MODELS.build(config)
    if name in PLAIN_ATTENTION:
        for layer in model.layers:
            layer.attn.scaled_dot_product_attention = plain_attention
    return model


def plain_attention(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attend as the formula says, with all weights in memory; without dropout, as DeiT."""
    scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return torch.softmax(scores, dim=-1) @ value
