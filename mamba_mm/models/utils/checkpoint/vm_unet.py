"""Strict loading of weights into the two halves of a VM-UNet.

Each half takes a VM-UNet, of which it copies its share, completely or not at all. And each takes
a first-generation VMamba, such as the official ImageNet weights, as the authors' code does:

- the encoder takes the patch embedding, the downsampling layers and the first blocks of each
  stage: 117 tensors for the official depths;
- the decoder takes the first blocks of each stage for the layer that mirrors it: 91 tensors.
  What leads from layer to layer, and the last convolution, keep their initial values.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from .arch_comparison import comparison_table
from .assignment import require_overlap
from .containers import select_backbone
from .errors import ArchMismatchError
from .loading import Origin, Placed, fill, open_checkpoint
from .report import LoadReport
from .vm_unet_arch import VMUNET_PRESETS, as_inferred_vm_unet, infer_vm_unet
from .vm_unet_keys import VMUNetState, is_vm_unet, split_vm_unet
from .vmamba import canonical_vmamba
from .vmamba_arch import VMAMBA_PRESETS, InferredArch, as_inferred, infer_arch

_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class _Source:
    """What a file has for one half; of its weights that are dropped, whole blocks are one entry."""

    placed: Placed
    origin: Origin


def load_pretrained_vm_unet_encoder(
    model: nn.Module,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    *,
    key: str | None = None,
    allow: Iterable[str] = (),
) -> LoadReport:
    """Fill the encoder of a VM-UNet.

    Args:
        model (nn.Module): A :class:`mamba_mm.VMUNetEncoder`, modified in place.
        checkpoint (str | os.PathLike): Path or ``http(s)`` URL of a VM-UNet or a VMamba.
        prefix (str, optional): Where in the file the model lies. By default it is found.
        key (str, optional): Top-level key of the state dict.
        allow (Iterable[str]): Shell-style patterns of keys that need not fit. Each one
            skipped is logged as a warning.

    Returns:
        LoadReport: What was copied, dropped and left; also logged at INFO.

    Raises:
        CheckpointError: One of its kinds, as :func:`load_pretrained_vmamba`; the model is then
            as it was before.
    """
    return _load(model, checkpoint, prefix, key, allow, _encoder_of_vm_unet, _encoder_of_vmamba)


def load_pretrained_vm_unet_head(
    head: nn.Module,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    *,
    key: str | None = None,
    allow: Iterable[str] = (),
) -> LoadReport:
    """Fill the decoder of a VM-UNet.

    Args:
        head (nn.Module): A :class:`mamba_mm.VMUNetHead`, modified in place.
        checkpoint (str | os.PathLike): As for the encoder.
        prefix (str, optional): As for the encoder.
        key (str, optional): As for the encoder.
        allow (Iterable[str]): As for the encoder. ``["conv_seg.*"]`` takes the decoder of a
            VM-UNet of other classes.

    Returns:
        LoadReport: What was copied, dropped and left; also logged at INFO.

    Raises:
        CheckpointError: As for the encoder.
    """
    return _load(head, checkpoint, prefix, key, allow, _head_of_vm_unet, _head_of_vmamba)


def _load(half, checkpoint, prefix, key, allow, from_vm_unet, from_vmamba) -> LoadReport:
    opened = open_checkpoint(checkpoint, key)
    tensors, where = opened.container.tensors, opened.where
    if is_vm_unet(tensors):
        source = from_vm_unet(half, select_backbone(tensors, prefix or "", where).tensors, where)
    else:
        source = from_vmamba(half, tensors, prefix, where)
    target = half.state_dict()
    require_overlap(source.placed.tensors, target, where)
    return fill(target, source.placed, source.origin, opened, allow)


# --- from a VM-UNet ---------------------------------------------------------------------


def _encoder_of_vm_unet(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], where: str
) -> _Source:
    state = split_vm_unet(tensors, where)
    found, wanted = infer_vm_unet(state), as_inferred_vm_unet(model.arch_settings)
    # The decoder is another half's; an encoder fits whatever stands behind it.
    _require_same(replace(found, decoder_depths=wanted.decoder_depths), wanted, where)
    return _Source(
        Placed(state.encoder, state.dropped), _origin(found, state, ("decoder", len(state.head)))
    )


def _head_of_vm_unet(head: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> _Source:
    state = split_vm_unet(tensors, where)
    found, wanted = infer_vm_unet(state), as_inferred_vm_unet(head.decoder.arch_settings)
    _require_same(replace(found, depths=wanted.depths), wanted, where)
    return _Source(
        Placed(state.head, state.dropped), _origin(found, state, ("encoder", len(state.encoder)))
    )


def _origin(found: InferredArch, state: VMUNetState, other_half: tuple[str, int]) -> Origin:
    return Origin(
        family="VM-UNet",
        arch=VMUNET_PRESETS.find(found) or "custom",
        spelling=state.spelling,
        ignored=(other_half,),
    )


def _require_same(found: InferredArch, wanted: InferredArch, where: str) -> None:
    VMUNET_PRESETS.require_same(found, wanted, where, "the model")


# --- from a VMamba ----------------------------------------------------------------------


def _encoder_of_vmamba(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str | None, where: str
) -> _Source:
    wanted = as_inferred(model.arch_settings)
    blocks, origin = _open_vmamba(tensors, prefix, wanted, where)
    placed, dropped = {}, []
    for key, tensor in blocks.items():
        stage, block = _stage_and_block(key)
        fits = (
            key.startswith(("patch_embed.", "layers."))
            if stage is None
            else (block < wanted.depths[stage])
        )
        if fits:
            placed[key] = tensor
        else:
            dropped.append(key)
    return _Source(Placed(placed, _by_block(dropped)), origin)


def _head_of_vmamba(
    head: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str | None, where: str
) -> _Source:
    arch = head.decoder.arch_settings
    depths = tuple(reversed(arch.decoder_depths))
    wanted = replace(as_inferred(arch), depths=depths)
    blocks, origin = _open_vmamba(tensors, prefix, wanted, where)
    last = len(depths) - 1
    placed, dropped = {}, []
    for key, tensor in blocks.items():
        stage, block = _stage_and_block(key)
        if stage is not None and block < depths[stage]:
            rest = key.removeprefix(f"layers.{stage}.")
            placed[f"decoder.layers_up.{last - stage}.{rest}"] = tensor
        else:
            dropped.append(key)
    stays = tuple(key for key in head.state_dict() if ".blocks." not in key)
    return _Source(Placed(placed, _by_block(dropped), stays), origin)


def _open_vmamba(
    tensors: Mapping[str, torch.Tensor], prefix: str | None, wanted: InferredArch, where: str
) -> tuple[dict[str, torch.Tensor], Origin]:
    """Bring a VMamba into spelling A, if it is one whose blocks can be used.

    Raises:
        ArchMismatchError: It has other blocks than wanted, or fewer.
    """
    selection = select_backbone(tensors, prefix, where)
    state = canonical_vmamba(selection.tensors, where)
    found = infer_arch(state.tensors)
    name = VMAMBA_PRESETS.find(found) or "custom"
    _require_enough(found, wanted, name, where)
    origin = Origin(
        family="VMamba",
        arch=name,
        spelling=selection.spelling(state.spelling),
        ignored=selection.ignored,
    )
    return state.tensors, origin


def _require_enough(found: InferredArch, wanted: InferredArch, name: str, where: str) -> None:
    deep_enough = len(found.depths) == len(wanted.depths) and all(
        there >= needed for there, needed in zip(found.depths, wanted.depths, strict=True)
    )
    if deep_enough and not replace(found, depths=wanted.depths).differences(wanted):
        return
    raise ArchMismatchError(
        f"{where} holds VMamba weights of {name}, whose blocks do not fit this VM-UNet; nothing "
        "was loaded. A VMamba of the first generation is needed, of the same widths and at least "
        "as many blocks in each stage: v0_tiny or v0_small for the official VM-UNet\n"
        + comparison_table(found, wanted, "needed")
    )


def _stage_and_block(key: str) -> tuple[int | None, int | None]:
    match = _BLOCK.match(key)
    return (int(match.group(1)), int(match.group(2))) if match else (None, None)


def _by_block(keys: Sequence[str]) -> tuple[str, ...]:
    """List whole blocks as one entry each: a deep model has hundreds of tensors to drop."""
    matches = ((key, _BLOCK.match(key)) for key in keys)
    return tuple(Counter(match.group() + "*" if match else key for key, match in matches))
