"""Backbones: from an image to a tuple of maps."""

from .extended_input import extended_input_backbone
from .vim import VIM_ARCHS, VimArch, VisionMamba
from .vm_unet import VMUNET_ARCHS, VMUNetArch, VMUNetEncoder
from .vmamba import VMAMBA_ARCHS, VMamba, VMambaArch

__all__ = [
    "VIM_ARCHS",
    "VMAMBA_ARCHS",
    "VMUNET_ARCHS",
    "VMUNetArch",
    "VMUNetEncoder",
    "VMamba",
    "VMambaArch",
    "VimArch",
    "VisionMamba",
    "extended_input_backbone",
]
