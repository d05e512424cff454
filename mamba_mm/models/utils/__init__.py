"""What models share and no config names."""

from .checkpoint import (
    CheckpointError,
    LoadReport,
    convert_official,
    load_pretrained_vim,
    load_pretrained_vm_unet_encoder,
    load_pretrained_vm_unet_head,
    load_pretrained_vmamba,
)

__all__ = [
    "CheckpointError",
    "LoadReport",
    "convert_official",
    "load_pretrained_vim",
    "load_pretrained_vm_unet_encoder",
    "load_pretrained_vm_unet_head",
    "load_pretrained_vmamba",
]
