"""The whole model of a config, ready to be run on images alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from mmengine.config import ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mamba_mm.comparison.configs import ModelConfig
from mamba_mm.measuring.quiet import mmengine_logs_only


class TensorForward(nn.Module):
    """A model as a function from a batch of images to plain tensors.

    Args:
        model: A model of any toolbox.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run backbone, neck and head, without pre- and post-processing.

        Args:
            images: Normalised images, shape (B, 3, H, W).

        Returns:
            All tensors of the model's ``forward(mode="tensor")``.
        """
        outputs = self.model(images, _samples(images), mode="tensor")
        return tuple(_tensors(outputs))


def build_model(config: ModelConfig) -> nn.Module:
    """Build the model of a config in eval mode, with random weights.

    The weights are those at the start of a training without pretrained weights, and the same
    in every call. Synchronised batch norms, which need a process group on the CPU, become
    plain ones; they compute the same.
    """
    torch.manual_seed(0)
    model = create_model(config)
    with mmengine_logs_only(logging.ERROR):
        model.init_weights()
        return revert_sync_batchnorm(model).eval()


def create_model(config: ModelConfig) -> nn.Module:
    """Make the model of a config as its classes make it, before any initialiser runs."""
    settings = ConfigDict(without_pretrained(config.config.model.to_dict()))
    with mmengine_logs_only(logging.ERROR), DefaultScope.overwrite_default_scope(config.toolbox):
        return MODELS.build(settings)


def without_pretrained(node: object) -> object:
    """Copy a part of a config without its references to files of weights.

    Initialisers of other kinds stay: without them some parameters would be left as memory was.
    """
    if isinstance(node, dict):
        return {
            key: without_pretrained(value)
            for key, value in node.items()
            if key != "pretrained" and not _is_pretrained(value)
        }
    if isinstance(node, list | tuple):
        return type(node)(without_pretrained(v) for v in node if not _is_pretrained(v))
    return node


def _is_pretrained(value: object) -> bool:
    return isinstance(value, dict) and str(value.get("type", "")).endswith("Pretrained")


def _samples(images: Tensor) -> list[BaseDataElement]:
    """Describe images that fill the batch, as a second stage asks for it."""
    size = tuple(images.shape[-2:])
    described = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), size)
    described["scale_factor"] = (1.0, 1.0)
    return [BaseDataElement(metainfo=described) for _ in images]


def _tensors(outputs: object) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _tensors(value)
