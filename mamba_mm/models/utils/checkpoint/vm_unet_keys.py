"""The spellings in which VM-UNet weights exist, and the way from each to that of our modules.

=======  ===================================================================================
id       where it occurs
=======  ===================================================================================
A, B     official files, all keys perhaps under ``vmunet.``. The blocks of both halves are
         spelt as those of VMamba's spellings of that name (:mod:`.vmamba_keys`); all released
         code writes B
D/A      MMEngine checkpoints: ``backbone.`` and ``decode_head.``
=======  ===================================================================================
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from .errors import CheckpointFormatError, bullets
from .vmamba_keys import CanonicalState, to_spelling_a

_DECODER_BLOCK = re.compile(r"(^|\.)layers_up\.\d+\.blocks\.\d+\.(op|self_attention)\.")
_DECODER_KEY = re.compile(r"(layers_up|final_up)\.")
_CLASSIFIER = "final_conv."
_SAMPLE = 12

# Where the halves lie in an MMEngine checkpoint, and what official files call that.
_MMENGINE = {"backbone.": "", "decode_head.decoder.": "", "decode_head.conv_seg.": _CLASSIFIER}

# What a profiler of operations leaves in every module that it has counted.
_PROFILER = ("total_ops", "total_params")


@dataclass(frozen=True)
class VMUNetState:
    """VM-UNet weights under the keys of our modules.

    Attributes:
        encoder (dict[str, torch.Tensor]): For :class:`mamba_mm.VMUNetEncoder`; keys that no rule
            knows are here, too.
        head (dict[str, torch.Tensor]): For :class:`mamba_mm.VMUNetHead`.
        dropped (tuple[str, ...]): Keys that are no weights: counts that a profiler left.
        spelling (str): The spelling met.
    """

    encoder: dict[str, torch.Tensor]
    head: dict[str, torch.Tensor]
    dropped: tuple[str, ...]
    spelling: str


def is_vm_unet(keys: Iterable[str]) -> bool:
    """Tell whether the keys of a state dict, of any spelling, are a VM-UNet's."""
    return any(_DECODER_BLOCK.search(key) for key in keys)


def split_vm_unet(tensors: Mapping[str, torch.Tensor], where: str) -> VMUNetState:
    """Bring VM-UNet weights of any spelling under the keys of our modules.

    Args:
        tensors (Mapping[str, torch.Tensor]): A whole state dict.
        where (str): What to call the checkpoint in messages, such as its path.

    Raises:
        CheckpointFormatError: One of the halves is missing, or two keys name one tensor.
    """
    weights = {k: v for k, v in tensors.items() if k.split(".")[-1] not in _PROFILER}
    dropped = tuple(key for key in tensors if key not in weights)
    from_mmengine = any(key.startswith("decode_head.decoder.") for key in weights)
    prefixes = _MMENGINE if from_mmengine else {"vmunet.": ""}
    weights = {_replace_prefix(key, prefixes): value for key, value in weights.items()}

    decoder = {key: value for key, value in weights.items() if _DECODER_KEY.match(key)}
    classifier = {k: v for k, v in weights.items() if k.startswith(_CLASSIFIER)}
    encoder = {k: v for k, v in weights.items() if k not in decoder and k not in classifier}
    if not any(key.startswith("layers.") for key in encoder):
        raise CheckpointFormatError(
            f"{where} has a VM-UNet decoder, but no encoder in any known place"
            + bullets("its other keys", encoder, _SAMPLE)
        )
    first, second = to_spelling_a(encoder, where), _decoder_to_spelling_a(decoder, where)
    head = {f"decoder.{key}": value for key, value in second.tensors.items()}
    head |= {key.replace(_CLASSIFIER, "conv_seg."): value for key, value in classifier.items()}
    spelling = "+".join(sorted({*first.spelling.split("+"), *second.spelling.split("+")}))
    return VMUNetState(
        encoder=first.tensors,
        head=head,
        dropped=dropped,
        spelling=f"D/{spelling}" if from_mmengine else spelling,
    )


def _replace_prefix(key: str, prefixes: Mapping[str, str]) -> str:
    for prefix, replacement in prefixes.items():
        if key.startswith(prefix):
            return replacement + key.removeprefix(prefix)
    return key


def _decoder_to_spelling_a(tensors: Mapping[str, torch.Tensor], where: str) -> CanonicalState:
    """The blocks of the decoder are VMamba's, in layers of another name."""
    as_encoder = {key.replace("layers_up.", "layers.", 1): value for key, value in tensors.items()}
    state = to_spelling_a(as_encoder, where)
    renamed = {
        re.sub(r"^layers\.", "layers_up.", key): value for key, value in state.tensors.items()
    }
    return CanonicalState(renamed, state.spelling)
