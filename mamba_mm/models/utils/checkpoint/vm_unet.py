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
from .assignment import assign, plan_assignment, require_overlap
from .containers import Container, open_container, select_backbone
from .errors import ArchMismatchError
from .reading import read_checkpoint
from .report import LoadReport
from .vm_unet_arch import VMUNET_PRESETS, as_inferred_vm_unet, infer_vm_unet
from .vm_unet_keys import is_vm_unet, split_vm_unet
from .vmamba import canonical_vmamba
from .vmamba_arch import VMAMBA_PRESETS, InferredArch, as_inferred, infer_arch

_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class _Source:
    """What a file has for one half.

    Attributes:
        tensors (dict[str, torch.Tensor]): Entries under the keys of that half.
        may_stay_initial (tuple[str, ...]): Keys of the half that such a file does not hold.
        dropped (tuple[str, ...]): What the half has no use for; whole blocks as one entry.
        ignored (tuple[tuple[str, int], ...]): Other modules, with their numbers of tensors.
        family (str): Name of the family.
        arch (str): Preset of the file.
        spelling (str): Spelling of its keys.
    """

    tensors: dict[str, torch.Tensor]
    may_stay_initial: tuple[str, ...]
    dropped: tuple[str, ...]
    ignored: tuple[tuple[str, int], ...]
    family: str
    arch: str
    spelling: str


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
    file = read_checkpoint(checkpoint)
    where = str(file.path)
    container = open_container(file.content, key, where)
    if is_vm_unet(container.tensors):
        inside = select_backbone(container.tensors, prefix or "", where).tensors
        source = from_vm_unet(half, inside, where)
    else:
        source = from_vmamba(half, container.tensors, prefix, where)
    return _assign(half, source, container, file.sha256, where, allow)


def _assign(
    half: nn.Module,
    source: _Source,
    container: Container,
    sha256: str,
    where: str,
    allow: Iterable[str],
) -> LoadReport:
    target = half.state_dict()
    require_overlap(source.tensors, target, where)
    assignment = plan_assignment(
        source.tensors,
        target,
        where=where,
        may_stay_initial=source.may_stay_initial,
        allow=allow,
    )
    assign(assignment, target)
    report = LoadReport(
        checkpoint=where,
        sha256=sha256,
        container=container.key,
        spelling=source.spelling,
        arch=source.arch,
        copied=tuple(assignment.copied),
        dropped=source.dropped,
        left_initial=assignment.left_initial,
        skipped=assignment.skipped,
        ignored_modules=source.ignored,
        family=source.family,
    )
    report.log()
    return report


# --- from a VM-UNet ---------------------------------------------------------------------


def _encoder_of_vm_unet(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], where: str
) -> _Source:
    state = split_vm_unet(tensors, where)
    found, wanted = infer_vm_unet(state), as_inferred_vm_unet(model.arch_settings)
    # The decoder is another half's; an encoder fits whatever stands behind it.
    _require_same(replace(found, decoder_depths=wanted.decoder_depths), wanted, where)
    return _Source(
        tensors=state.encoder,
        may_stay_initial=(),
        dropped=state.dropped,
        ignored=(("decoder", len(state.head)),),
        family="VM-UNet",
        arch=VMUNET_PRESETS.find(found) or "custom",
        spelling=state.spelling,
    )


def _head_of_vm_unet(head: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> _Source:
    state = split_vm_unet(tensors, where)
    found, wanted = infer_vm_unet(state), as_inferred_vm_unet(head.decoder.arch_settings)
    _require_same(replace(found, depths=wanted.depths), wanted, where)
    return _Source(
        tensors=state.head,
        may_stay_initial=(),
        dropped=state.dropped,
        ignored=(("encoder", len(state.encoder)),),
        family="VM-UNet",
        arch=VMUNET_PRESETS.find(found) or "custom",
        spelling=state.spelling,
    )


def _require_same(found: InferredArch, wanted: InferredArch, where: str) -> None:
    VMUNET_PRESETS.require_same(found, wanted, where, "the model")


# --- from a VMamba ----------------------------------------------------------------------


def _encoder_of_vmamba(
    model: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str | None, where: str
) -> _Source:
    wanted = as_inferred(model.arch_settings)
    vmamba = _open_vmamba(tensors, prefix, wanted, where)
    placed, dropped = {}, []
    for key, tensor in vmamba.tensors.items():
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
    return replace(vmamba, tensors=placed, dropped=_by_block(dropped))


def _head_of_vmamba(
    head: nn.Module, tensors: Mapping[str, torch.Tensor], prefix: str | None, where: str
) -> _Source:
    arch = head.decoder.arch_settings
    depths = tuple(reversed(arch.decoder_depths))
    vmamba = _open_vmamba(tensors, prefix, replace(as_inferred(arch), depths=depths), where)
    last = len(depths) - 1
    placed, dropped = {}, []
    for key, tensor in vmamba.tensors.items():
        stage, block = _stage_and_block(key)
        if stage is not None and block < depths[stage]:
            rest = key.removeprefix(f"layers.{stage}.")
            placed[f"decoder.layers_up.{last - stage}.{rest}"] = tensor
        else:
            dropped.append(key)
    stays = tuple(key for key in head.state_dict() if ".blocks." not in key)
    return replace(vmamba, tensors=placed, may_stay_initial=stays, dropped=_by_block(dropped))


def _open_vmamba(
    tensors: Mapping[str, torch.Tensor], prefix: str | None, wanted: InferredArch, where: str
) -> _Source:
    """Bring a VMamba into spelling A, if it is one whose blocks can be used.

    Raises:
        ArchMismatchError: It has other blocks than wanted, or fewer.
    """
    selection = select_backbone(tensors, prefix, where)
    state = canonical_vmamba(selection.tensors, where)
    found = infer_arch(state.tensors)
    name = VMAMBA_PRESETS.find(found) or "custom"
    _require_enough(found, wanted, name, where)
    return _Source(
        tensors=state.tensors,
        may_stay_initial=(),
        dropped=(),
        ignored=selection.ignored,
        family="VMamba",
        arch=name,
        spelling=f"D/{state.spelling}" if selection.prefix else state.spelling,
    )


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
