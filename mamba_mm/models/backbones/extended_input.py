"""Backbones for images with more channels than those that their weights are from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from mamba_mm.layers.extended_input import ExtendedInputConv2d
from mamba_mm.registry import MODELS


@MODELS.register_module(name="ExtendedInputBackbone")
def extended_input_backbone(
    backbone: Mapping,
    in_channels: int = 4,
    pretrained_channels: int = 3,
    new_weights: str = "zero",
) -> nn.Module:
    """Build a backbone that reads further channels and starts from weights for fewer.

    It is the backbone itself, of any toolbox, with ``in_channels``; names and shapes of its
    parameters are those that it has without this function. Only its first convolution loads
    differently: a weight for ``pretrained_channels`` is extended, so that every checkpoint for
    photos will do, be it named in ``init_cfg`` of the backbone, in ``load_from``, or the official
    one of a VMamba or Vim. Zeros leave the function as it was, whatever the new channels hold,
    and learn from the first step.

    Args:
        backbone: Config of the backbone, without ``in_channels``.
        in_channels: Channels of the images, the pretrained ones first.
        pretrained_channels: Channels that weights are for.
        new_weights: ``"zero"``, or ``"mean"`` for the mean of the others.

    Returns:
        The backbone.

    Raises:
        ValueError: The config has ``in_channels``, an argument is out of its range, or the first
            convolution does not read the image.

    Example:
        >>> from mmengine.registry import MODELS
        >>> model = MODELS.build(dict(type="mamba_mm.ExtendedInputBackbone",
        ...     backbone=dict(type="mamba_mm.VMamba", arch="nano")))
        >>> model.patch_embed[0].weight.shape
        torch.Size([16, 4, 3, 3])
    """
    if "in_channels" in backbone:
        raise ValueError(
            "ExtendedInputBackbone: in_channels is its own argument, leave it out of backbone="
        )
    model = MODELS.build({**backbone, "in_channels": in_channels})
    name, conv = _first_convolution(model)
    if conv.in_channels != in_channels:
        raise ValueError(
            f"ExtendedInputBackbone: {name}, the first convolution of {type(model).__name__}, "
            f"reads {conv.in_channels} channels, not the {in_channels} of the image"
        )
    parent, _, child = name.rpartition(".")
    layer = ExtendedInputConv2d(conv, pretrained_channels, new_weights)
    setattr(model.get_submodule(parent), child, layer)
    return model


def _first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    raise ValueError(f"ExtendedInputBackbone: {type(model).__name__} has no convolution")
