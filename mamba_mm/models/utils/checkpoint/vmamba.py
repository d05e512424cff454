"""Strict loading of VMamba weights, official or our own, into a :class:`mamba_mm.VMamba`."""

import os
import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from .assignment import require_overlap
from .containers import select_backbone
from .errors import CheckpointFormatError
from .extended_input import extend_inputs
from .loading import Origin, Placed, fill, open_checkpoint
from .report import LoadReport
from .vmamba_arch import find_preset, infer_arch, require_same_arch
from .vmamba_keys import CanonicalState, is_mamba2, to_spelling_a

_OUTNORM = re.compile(r"outnorm(\d+)\.(weight|bias)")


def load_pretrained_vmamba(
    model: nn.Module,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    *,
    key: str | None = None,
    allow: Iterable[str] = (),
) -> LoadReport:
    """Fill a VMamba backbone from a checkpoint, completely or not at all.

    Official files of every spelling, MMEngine files written by
    ``tools/model_converters/convert_official.py`` and those of ordinary training are
    accepted. Only three things may differ between file and model, and the report lists
    them: a classifier in the file is dropped, output norms that the model does not use are
    dropped, and the output norms of a backbone that starts from a *classification* file
    keep their initial value, as in the official code. Beyond that, a backbone built by
    ``mamba_mm.ExtendedInputBackbone`` extends the weights of its first layer.

    A classification file has one final norm, for the last stage. It is ``classifier.norm``
    in an official file and ``outnorm3``, alone, in an MMEngine one; both are treated
    alike: a model whose only output is the last stage takes it as its ``outnorm3``, any
    other model drops it.

    Args:
        model (nn.Module): A VMamba backbone, modified in place.
        checkpoint (str | os.PathLike): Path or ``http(s)`` URL.
        prefix (str, optional): Where in the file the backbone lies. By default
            ``backbone.`` if any key begins so, else the file is the backbone's own.
        key (str, optional): Top-level key of the state dict, such as ``model_ema``. By
            default ``model`` or ``state_dict``.
        allow (Iterable[str]): Shell-style patterns of keys that need not fit. Each one
            skipped is logged as a warning.

    Returns:
        LoadReport: What was copied, dropped and left; also logged at INFO.

    Raises:
        CheckpointReadError: The file is missing or cannot be read safely.
        CheckpointFormatError: Its container or spelling is not known, or it is a Mamba-2
            variant.
        ArchMismatchError: It holds another architecture than the model's.
        StateMismatchError: Keys are missing or unexpected, or shapes differ.
        NonFiniteWeightsError: Weights are NaN or infinite.

        Whatever is raised, the model is as it was before.
    """
    opened = open_checkpoint(checkpoint, key)
    where = opened.where
    selection = select_backbone(opened.container.tensors, prefix, where)
    source = canonical_vmamba(selection.tensors, where)

    target = model.state_dict()
    require_overlap(source.tensors, target, where)
    inferred = infer_arch(source.tensors)
    require_same_arch(inferred, infer_arch(target), where, "the model")
    tensors, notes = extend_inputs(source.tensors, model, where)
    origin = Origin(
        family="VMamba",
        arch=find_preset(inferred) or "custom",
        spelling=selection.spelling(source.spelling),
        ignored=selection.ignored,
        notes=notes,
    )
    return fill(target, place_norms(tensors, target), origin, opened, allow)


def canonical_vmamba(tensors: Mapping[str, torch.Tensor], where: str) -> CanonicalState:
    """Bring weights into spelling A, and refuse those that no VMamba here can use.

    Args:
        tensors (Mapping[str, torch.Tensor]): Backbone or classifier entries, unprefixed.
        where (str): What to call the checkpoint in messages, such as its path.

    Raises:
        CheckpointFormatError: The spelling is not known, or the file is a Mamba-2 variant.
    """
    source = to_spelling_a(tensors, where)
    if is_mamba2(source.tensors):
        raise CheckpointFormatError(
            f"{where} holds a Mamba-2 variant of VMamba (m0); it needs another scan, which "
            "mamba_mm.VMamba does not have"
        )
    return source


def place_norms(tensors: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> Placed:
    """Match the norm before the classifier and the output norms with those of a model.

    Args:
        tensors (Mapping[str, torch.Tensor]): A file's weights in spelling A.
        target (Mapping[str, torch.Tensor]): State dict of the model to fill.

    Returns:
        Placed: The weights under the model's keys, and what is dropped or may stay.
    """
    last = len(infer_arch(target).depths) - 1
    wanted = output_norms(target)
    present = output_norms(tensors)
    # One norm, after the last stage, is all that a classifier has, whoever wrote the file.
    from_classification = present == (set() if has_classifier(tensors) else {last})
    only_last = wanted == {last}
    kept = set() if from_classification and not only_last else wanted

    placed, dropped = {}, []
    for key, tensor in tensors.items():
        if from_classification and only_last:
            key = key.replace("classifier.norm.", f"outnorm{last}.")
        norm = _OUTNORM.fullmatch(key)
        if key.startswith("classifier.") or (norm and int(norm.group(1)) not in kept):
            dropped.append(key)
        else:
            placed[key] = tensor
    may_stay = () if kept else tuple(filter(_OUTNORM.fullmatch, target))
    return Placed(placed, tuple(dropped), may_stay)


def output_norms(keys: Iterable[str]) -> set[int]:
    """Stages for which there is an ``outnorm``."""
    return {int(match.group(1)) for match in map(_OUTNORM.fullmatch, keys) if match}


def has_classifier(keys: Iterable[str]) -> bool:
    """Whether there are keys of the official classifier, in spelling A."""
    return any(key.startswith("classifier.") for key in keys)
