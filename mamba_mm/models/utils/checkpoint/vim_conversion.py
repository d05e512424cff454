"""Official Vim checkpoints as MMEngine checkpoints of this package's configs."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from mamba_mm.models.backbones.vim import VIM_ARCHS, VisionMamba

from .assignment import plan_assignment, refuse_non_finite
from .containers import select_backbone
from .errors import StateMismatchError
from .family import Converted, Family
from .linear_head import fit_linear_head
from .loading import Placed
from .vim import place_tensors
from .vim_arch import VIM_PRESETS, infer_vim, with_stride
from .vim_grid import PRETRAIN_SIZE, Size
from .vim_keys import HEAD, is_vim, output_norms, require_vim

VIM_CONFIGS: dict[str, str] = {
    "tiny": "configs/mmpretrain/vim/vim-tiny_8xb128_in1k.py",
    "tiny_plus": "configs/mmpretrain/vim/vim-tiny-plus_8xb128-30e_in1k.py",
    "small": "configs/mmpretrain/vim/vim-small_8xb64_in1k.py",
    "small_plus": "configs/mmpretrain/vim/vim-small-plus_8xb128-30e_in1k.py",
    "base": "configs/mmpretrain/vim/vim-base_8xb128_in1k.py",
}
"""The classifier config of each released preset."""


def convert_vim(
    tensors: Mapping[str, torch.Tensor],
    where: str,
    arch: str | None = None,
    drop_head: bool = False,
    img_size: Size | None = None,
) -> Converted:
    """Rename Vim weights to those of an MMEngine model.

    A classification file becomes a classifier of MMPretrain, whose ``head.fc`` is the official
    ``head``; the backbone keeps its keys under ``backbone.``. Modules beside a backbone that is
    prefixed already keep their keys. The position embedding stays as it is: the image size it
    belongs to goes into ``meta`` and, where it is not the configs' 224, into the options of the
    config.

    Args:
        tensors (Mapping[str, torch.Tensor]): The whole state dict.
        where (str): What to call the file in messages, such as its path.
        arch (str, optional): The preset that the file must hold.
        drop_head (bool): Leave out everything but the backbone. Defaults to False.
        img_size (tuple[int, int], optional): (height, width) of the images that the file was
            trained with. By default 224 x 224, as all releases.

    Returns:
        Converted: The weights, and the config if they fill a classifier, head included.

    Raises:
        ArchMismatchError: The file holds no released preset, or another than ``arch``.
        StateMismatchError: Keys or shapes do not fit, or the head has other classes.
        NonFiniteWeightsError: Weights are NaN or infinite.
        CheckpointFormatError: It is no Vim, or its position rows are not those of the image size.
    """
    selection = select_backbone(tensors, where=where)
    source = selection.tensors
    require_vim(source, where)
    has_class = "cls_token" in source
    patches = _position_rows(source, where) - has_class
    inferred = with_stride(infer_vim(source), patches, img_size, where)
    preset = VIM_PRESETS.require(inferred, arch, where)
    size = img_size or PRETRAIN_SIZE
    placed = _fit_backbone(source, preset, size, where)

    # Without a class token it is the backbone of a dense model, even if a head was left in it.
    writes_classifier = has_class and not drop_head and any(k.startswith(HEAD) for k in source)
    others = {} if drop_head else selection.others
    refuse_non_finite(where, others, others)
    dropped = {*placed.dropped, *selection.others} if drop_head else set(placed.dropped)
    if writes_classifier:
        head = {key: source[key] for key in placed.dropped if key.startswith(HEAD)}
        others = others | fit_linear_head(head, HEAD, VIM_ARCHS[preset].embed_dims, where)
        dropped -= head.keys()
    return Converted(
        preset=preset,
        config=VIM_CONFIGS.get(preset) if writes_classifier else None,
        spelling=selection.spelling("official"),
        state_dict={f"backbone.{key}": value for key, value in placed.tensors.items()} | others,
        dropped=tuple(sorted(dropped)),
        config_options={} if size == PRETRAIN_SIZE else {"model.backbone.img_size": list(size)},
        meta={"img_size": list(size)},
    )


VIM = Family("vim", is_vim, convert_vim, takes_img_size=True)


def _position_rows(tensors: Mapping[str, torch.Tensor], where: str) -> int:
    rows = tensors["pos_embed"]
    if rows.ndim != 3:
        raise StateMismatchError(
            f"{where} has no position embedding (1, rows, D) but a tensor of another shape",
            mismatched=[f"pos_embed: {tuple(rows.shape)}, (1, rows, D)"],
        )
    return rows.shape[1]


def _fit_backbone(
    tensors: Mapping[str, torch.Tensor], preset: str, img_size: Size, where: str
) -> Placed:
    """Check the weights against a model of the preset, and put them in that model's order."""
    last = VIM_ARCHS[preset].depth - 1
    taps = sorted({i for i in output_norms(tensors) if i < last} | {last})
    with torch.device("meta"):
        model = VisionMamba(
            preset, img_size=img_size, out_indices=taps, with_cls_token="cls_token" in tensors
        )
    target = model.state_dict()
    placed = place_tensors(tensors, target)
    plan_assignment(placed.tensors, target, where=where)
    return replace(placed, tensors={key: placed.tensors[key] for key in target})
