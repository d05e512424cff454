"""The architecture of VM-UNet weights, read from the shapes of their tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from mamba_mm.models.backbones.vm_unet import VMUNET_ARCHS, VMUNetArch

from .arch_comparison import Presets
from .vm_unet_keys import VMUNetState
from .vmamba_arch import InferredArch, as_inferred, infer_arch

_DECODER_BLOCK = re.compile(r"decoder\.layers_up\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class InferredVMUNet(InferredArch):
    """What the shapes of VM-UNet weights tell: the encoder, and the depths of the decoder.

    The decoder's widths follow from the encoder's.
    """

    decoder_depths: tuple[int, ...]


def _with_decoder(encoder: InferredArch, decoder_depths: tuple[int, ...]) -> InferredVMUNet:
    known = {field.name: getattr(encoder, field.name) for field in fields(InferredArch)}
    return InferredVMUNet(**known, decoder_depths=decoder_depths)


def infer_vm_unet(state: VMUNetState) -> InferredVMUNet:
    """Read the architecture from weights under the keys of our modules."""
    return _with_decoder(infer_arch(state.encoder), _decoder_depths(state.head))


def as_inferred_vm_unet(arch: VMUNetArch) -> InferredVMUNet:
    """Give an architecture in the form that files are compared in."""
    return _with_decoder(as_inferred(arch), arch.decoder_depths)


VMUNET_PRESETS = Presets(
    "VM-UNet", {name: as_inferred_vm_unet(arch) for name, arch in VMUNET_ARCHS.items()}
)
"""The presets of ``VMUNET_ARCHS``, as files are compared with them."""


def _decoder_depths(head: Mapping[str, torch.Tensor]) -> tuple[int, ...]:
    depths: dict[int, int] = {}
    for match in map(_DECODER_BLOCK.match, head):
        if match:
            layer, block = int(match.group(1)), int(match.group(2))
            depths[layer] = max(depths.get(layer, 0), block + 1)
    return tuple(depths[layer] for layer in sorted(depths))
