"""Small synthetic VM-UNet checkpoints as the official code writes them."""

import torch
from checkpoint_samples import spelling_b
from torch import nn

from mamba_mm.models import VMUNET_ARCHS, VMUNetDecoder, VMUNetEncoder
from mamba_mm.models.backbones.vmamba import resolve_arch

# Of the official kind and depths, but narrow.
SMALL = dict(base="vm_unet", dims=16, d_state=2, drop_path_rate=0.0)


def decoder_of(arch):
    return VMUNetDecoder(resolve_arch(arch, None, VMUNET_ARCHS))


def official_vm_unet(arch, classes=1, seed=0, prefix="vmunet."):
    """A random state dict in official spelling; no two tensors are alike."""
    torch.manual_seed(seed)
    encoder, decoder = VMUNetEncoder(arch), decoder_of(arch)
    state = dict(encoder.state_dict())
    state |= decoder.state_dict()
    conv = nn.Conv2d(decoder.out_channels, classes, 1)
    state |= {f"final_conv.{key}": value for key, value in conv.state_dict().items()}
    state = {k: v + 0.05 * torch.randn_like(v) for k, v in state.items()}
    return {prefix + key: value for key, value in spelling_b(state).items()}
