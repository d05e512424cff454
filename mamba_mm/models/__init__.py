"""What a config can name. Importing it needs MMEngine and no toolbox."""

from . import losses
from .backbones import (
    VIM_ARCHS,
    VMAMBA_ARCHS,
    VMUNET_ARCHS,
    VimArch,
    VisionMamba,
    VMamba,
    VMambaArch,
    VMUNetArch,
    VMUNetEncoder,
)
from .decode_heads import VMUNetDecoder
from .necks import SimpleFeaturePyramid

__all__ = [
    "VIM_ARCHS",
    "VMAMBA_ARCHS",
    "VMUNET_ARCHS",
    "SimpleFeaturePyramid",
    "VMUNetArch",
    "VMUNetDecoder",
    "VMUNetEncoder",
    "VMamba",
    "VMambaArch",
    "VimArch",
    "VisionMamba",
    "losses",
]
