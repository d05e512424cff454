"""Backbones: from an image to a tuple of maps."""

from .vmamba import VMAMBA_ARCHS, VMamba, VMambaArch

__all__ = ["VMAMBA_ARCHS", "VMamba", "VMambaArch"]
