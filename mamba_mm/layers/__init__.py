"""Modules that models share. Maps are NCHW, in any memory format; tokens are (B, L, C)."""

from .conv import memory_format_of
from .conv1d import depthwise_conv1d
from .downsample import DOWNSAMPLES, ConvDownsample, PatchMerging2d
from .drop_path import DropPath
from .linear import Linear2d
from .mlp import Mlp2d
from .norm import NORMS, LayerNorm2d, RMSNorm
from .patch_embed import PATCH_EMBEDS, PatchEmbedV1, PatchEmbedV2
from .patch_expand import PatchExpand2d
from .pos_embed import (
    POS_EMBED_RESIZES,
    class_token_index,
    insert_class_token,
    patch_grid,
    remove_class_token,
    resize_pos_embed,
)
from .scan_init import init_decay_rates, init_step_size_bias, init_step_size_weight
from .ss_mixer import ACTIVATIONS, SSMixer2D
from .ss_mixer_1d import SSMixer1D
from .vim_block import VimBlock
from .vss_block import VSSBlock

__all__ = [
    "ACTIVATIONS",
    "DOWNSAMPLES",
    "NORMS",
    "PATCH_EMBEDS",
    "POS_EMBED_RESIZES",
    "ConvDownsample",
    "DropPath",
    "LayerNorm2d",
    "Linear2d",
    "Mlp2d",
    "PatchEmbedV1",
    "PatchEmbedV2",
    "PatchExpand2d",
    "PatchMerging2d",
    "RMSNorm",
    "SSMixer1D",
    "SSMixer2D",
    "VSSBlock",
    "VimBlock",
    "class_token_index",
    "depthwise_conv1d",
    "init_decay_rates",
    "init_step_size_bias",
    "init_step_size_weight",
    "insert_class_token",
    "memory_format_of",
    "patch_grid",
    "remove_class_token",
    "resize_pos_embed",
]
