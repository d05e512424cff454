"""Modules that models share. Maps are NCHW, in any memory format."""

from .downsample import DOWNSAMPLES, ConvDownsample, PatchMerging2d
from .drop_path import DropPath
from .linear import Linear2d
from .mlp import Mlp2d
from .norm import NORMS, LayerNorm2d
from .patch_embed import PATCH_EMBEDS, PatchEmbedV1, PatchEmbedV2
from .ss_mixer import ACTIVATIONS, SSMixer2D
from .vss_block import VSSBlock

__all__ = [
    "ACTIVATIONS",
    "DOWNSAMPLES",
    "NORMS",
    "PATCH_EMBEDS",
    "ConvDownsample",
    "DropPath",
    "LayerNorm2d",
    "Linear2d",
    "Mlp2d",
    "PatchEmbedV1",
    "PatchEmbedV2",
    "PatchMerging2d",
    "SSMixer2D",
    "VSSBlock",
]
