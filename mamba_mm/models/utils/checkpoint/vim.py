"""Strict loading of Vim weights, official or our own, into a :class:`mamba_mm.VisionMamba`."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from mmengine.logging import print_log
from torch import nn

from .assignment import require_overlap
from .containers import select_backbone
from .extended_input import extend_inputs
from .loading import Origin, Placed, fill, open_checkpoint
from .report import LoadReport
from .vim_arch import VIM_PRESETS, as_inferred, infer_vim
from .vim_grid import Size, fit_pos_embed
from .vim_keys import HEAD, is_rotary, output_norms, require_vim


def load_pretrained_vim(
    model: nn.Module,
    checkpoint: str | os.PathLike,
    prefix: str | None = None,
    *,
    img_size: Size | None = None,
    across_strides: bool = False,
    key: str | None = None,
    allow: Iterable[str] = (),
) -> LoadReport:
    """Fill a Vim backbone from a checkpoint, completely or not at all.

    Official files, MMEngine files written by ``tools/model_converters/convert_official.py`` and
    those of ordinary training are accepted. Only this may differ between file and model, and the
    report lists it: a classifier and output norms that the model does not have are dropped; the
    output norms of a model that starts from a file without any keep their initial value; a model
    without class token drops the file's, and its row of the position embedding; the position
    embedding is interpolated to the model's grid; the buffers of a rotary embedding are dropped,
    with a warning. Beyond that, a backbone built by ``mamba_mm.ExtendedInputBackbone`` extends the
    weights of its first layer.

    Args:
        model (nn.Module): A Vim backbone, modified in place.
        checkpoint (str | os.PathLike): Path or ``http(s)`` URL.
        prefix (str, optional): Where in the file the backbone lies. By default
            ``backbone.`` if any key begins so, else the file is the backbone's own.
        img_size (tuple[int, int], optional): Image size, (height, width), whose grid the file's
            position embedding has. By default what a converted file says about itself, or what
            the number of rows tells.
        across_strides (bool): Whether the position embedding may be of the other stride, as when
            a "plus" model is fine-tuned from a plain one. Defaults to False.
        key (str, optional): Top-level key of the state dict, such as ``model_ema``. By
            default ``model`` or ``state_dict``.
        allow (Iterable[str]): Shell-style patterns of keys that need not fit. Each one
            skipped is logged as a warning.

    Returns:
        LoadReport: What was copied, dropped and left; also logged at INFO.

    Raises:
        CheckpointReadError: The file is missing or cannot be read safely.
        CheckpointFormatError: Its container is not known, it is no Vim, or its position rows do
            not tell their grid.
        ArchMismatchError: It holds another architecture than the model's, or the other stride.
        StateMismatchError: Keys are missing or unexpected, or shapes differ.
        NonFiniteWeightsError: Weights are NaN or infinite.

        Whatever is raised, the model is as it was before.
    """
    opened = open_checkpoint(checkpoint, key)
    where = opened.where
    selection = select_backbone(opened.container.tensors, prefix, where)
    require_vim(selection.tensors, where)

    target = model.state_dict()
    require_overlap(selection.tensors, target, where)
    inferred = infer_vim(selection.tensors)
    VIM_PRESETS.require_same(inferred, as_inferred(model.arch_settings), where, "the model")
    placed = place_tensors(selection.tensors, target)
    fitted = fit_pos_embed(
        selection.tensors["pos_embed"],
        model,
        where=where,
        has_class="cls_token" in selection.tensors,
        img_size=img_size or recorded_img_size(opened.content),
        across_strides=across_strides,
    )
    placed.tensors["pos_embed"] = fitted.tensor
    tensors, notes = extend_inputs(placed.tensors, model, where)
    placed = replace(placed, tensors=tensors)

    # The weights of a preset fit both strides; only the model knows its own.
    found = replace(inferred, stride=model.arch_settings.stride)
    origin = Origin(
        family="Vim",
        arch=VIM_PRESETS.find(found) or "custom",
        spelling=selection.spelling("official"),
        ignored=selection.ignored,
        notes=(*([f"pos_embed {fitted.change}"] if fitted.change else []), *notes),
    )
    report = fill(target, placed, origin, opened, allow)
    _warn_of_rotary(placed.dropped, where)
    return report


def place_tensors(
    tensors: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]
) -> Placed:
    """Sort out what a model has no use for.

    Args:
        tensors (Mapping[str, torch.Tensor]): A file's weights, unprefixed.
        target (Mapping[str, torch.Tensor]): State dict of the model to fill.

    Returns:
        Placed: The weights under the model's keys, and what is dropped or may stay.
    """
    unused = {f"outnorm{i}.weight" for i in output_norms(tensors) - output_norms(target)}
    if "cls_token" not in target:
        unused.add("cls_token")
    dropped = [key for key in tensors if key in unused or key.startswith(HEAD) or is_rotary(key)]
    may_stay = () if output_norms(tensors) else (k for k in target if k.startswith("outnorm"))
    return Placed(
        tensors={key: tensor for key, tensor in tensors.items() if key not in dropped},
        dropped=tuple(dropped),
        may_stay_initial=tuple(may_stay),
    )


def recorded_img_size(content: object) -> Size | None:
    """Image size that the converter wrote to the ``meta`` of a Vim file, if it wrote this one.

    Args:
        content (object): What ``torch.load`` returned.
    """
    meta = content.get("meta") if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or meta.get("family") != "vim":
        return None
    height, width = meta["img_size"]
    return height, width


def _warn_of_rotary(dropped: Iterable[str], where: str) -> None:
    rotary = [key for key in dropped if is_rotary(key)]
    if rotary:
        print_log(
            f"{where} has buffers of a rotary embedding ({', '.join(rotary)}), which were dropped: "
            "no released Vim uses one, and this model has none. If the file was trained with it, "
            "its outputs will differ",
            logger="current",
            level=logging.WARNING,
        )
