"""Checkpoints: read safely, recognise, load strictly, convert.

A file passes these steps, one module each:

- ``reading``: bytes to plain content, without running the file's code;
- ``containers``: content to state dict, state dict to the backbone's share;
- ``vmamba_keys``: any spelling to the one that the model uses;
- ``vmamba_arch``: shapes to architecture, compared before anything is copied;
- ``assignment``: which tensor goes where, checked first, copied last;
- ``loading``: the first and the last of these steps, for all families;
- ``vmamba``: these steps in order, for a backbone;
- ``vmamba_conversion``, ``conversion``: the same towards a new file.

Vim's steps are ``vim_keys``, ``vim_arch``, ``vim_grid`` (whose patches the position embedding is
for), ``vim`` and ``vim_conversion``. VM-UNet's are ``vm_unet_keys``, ``vm_unet_arch``, ``vm_unet``
(each half, from a VM-UNet or a VMamba) and ``vm_unet_conversion``. ``arch_comparison``,
``linear_head`` and ``extended_input`` serve all families. ``hamer_vit`` converts the transformer
of HaMeR, which MMPretrain has.
"""

from .conversion import FAMILIES, ConversionReport, convert_official
from .errors import (
    ArchMismatchError,
    CheckpointError,
    CheckpointFormatError,
    CheckpointReadError,
    CheckpointWriteError,
    NonFiniteWeightsError,
    StateMismatchError,
    UnsafeCheckpointError,
)
from .family import Converted, Family
from .reading import read_checkpoint
from .report import LoadReport
from .vim import load_pretrained_vim
from .vim_arch import infer_vim
from .vim_conversion import VIM_CONFIGS
from .vim_grid import fit_pos_embed
from .vm_unet import load_pretrained_vm_unet_encoder, load_pretrained_vm_unet_head
from .vm_unet_conversion import VMUNET_CONFIGS
from .vmamba import load_pretrained_vmamba
from .vmamba_arch import find_preset, infer_arch
from .vmamba_conversion import VMAMBA_CONFIGS
from .vmamba_keys import to_spelling_a

__all__ = [
    "FAMILIES",
    "VIM_CONFIGS",
    "VMAMBA_CONFIGS",
    "VMUNET_CONFIGS",
    "ArchMismatchError",
    "CheckpointError",
    "CheckpointFormatError",
    "CheckpointReadError",
    "CheckpointWriteError",
    "ConversionReport",
    "Converted",
    "Family",
    "LoadReport",
    "NonFiniteWeightsError",
    "StateMismatchError",
    "UnsafeCheckpointError",
    "convert_official",
    "find_preset",
    "fit_pos_embed",
    "infer_arch",
    "infer_vim",
    "load_pretrained_vim",
    "load_pretrained_vm_unet_encoder",
    "load_pretrained_vm_unet_head",
    "load_pretrained_vmamba",
    "read_checkpoint",
    "to_spelling_a",
]
