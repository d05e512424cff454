"""Decode heads of MMSegmentation. Their classes need it, their names in the registry do not."""

from mamba_mm.registry import MODELS, register_on_demand

from .vm_unet_decoder import VMUNetDecoder

register_on_demand(MODELS, "VMUNetHead", "mamba_mm.models.decode_heads.vm_unet_head", "mmseg")

__all__ = ["VMUNetDecoder"]
