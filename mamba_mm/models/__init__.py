"""What a config can name. Importing it needs MMEngine and no toolbox."""

from .backbones import VMAMBA_ARCHS, VMamba, VMambaArch

__all__ = ["VMAMBA_ARCHS", "VMamba", "VMambaArch"]
