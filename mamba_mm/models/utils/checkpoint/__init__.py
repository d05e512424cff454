"""Checkpoints: read safely, recognise, load strictly, convert.

A file passes these steps, one module each:

- ``reading``: bytes to plain content, without running the file's code;
- ``containers``: content to state dict, state dict to the backbone's share;
- ``vmamba_keys``: any spelling to the one that the model uses;
- ``vmamba_arch``: shapes to architecture, compared before anything is copied;
- ``assignment``: which tensor goes where, checked first, copied last;
- ``vmamba``: these steps in order, for a backbone;
- ``vmamba_conversion``, ``conversion``: the same towards a new file.
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
from .vmamba import load_pretrained_vmamba
from .vmamba_arch import find_preset, infer_arch
from .vmamba_conversion import VMAMBA_CONFIGS
from .vmamba_keys import to_spelling_a

__all__ = [
    "FAMILIES",
    "VMAMBA_CONFIGS",
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
    "infer_arch",
    "load_pretrained_vmamba",
    "read_checkpoint",
    "to_spelling_a",
]
