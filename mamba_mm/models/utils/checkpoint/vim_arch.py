"""The architecture of Vim weights, read from the shapes of their tensors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import torch

from mamba_mm.layers import patch_grid
from mamba_mm.models.backbones.vim import VIM_ARCHS, VimArch

from .arch_comparison import InferredFields, Presets
from .errors import CheckpointFormatError
from .vim_grid import PRETRAIN_SIZE, Size, variant_strides

_BLOCK_KEY = re.compile(r"layers\.(\d+)\.(.+)")


@dataclass(frozen=True)
class InferredVim(InferredFields):
    """What the shapes of Vim weights tell; ``None`` where a file is too incomplete.

    The field names are those of :class:`VimArch`. The stride leaves no trace in the weights but
    in the number of position rows, and there only together with the image size:
    :func:`with_stride` adds it.
    """

    embed_dims: int | None
    depth: int
    patch_size: int | None
    stride: int | None
    d_state: int | None
    ssm_ratio: float | None
    dt_rank: int | None
    conv_size: int | None


def infer_vim(tensors: Mapping[str, torch.Tensor]) -> InferredVim:
    """Read the architecture from weights, all but the stride.

    Args:
        tensors (Mapping[str, torch.Tensor]): Weights; only their shapes are looked at.

    Returns:
        InferredVim: The fields that could be determined.
    """
    block: dict[str, torch.Tensor] = {}
    depth = 0
    for key, tensor in tensors.items():
        match = _BLOCK_KEY.fullmatch(key)
        if match:
            depth = max(depth, int(match.group(1)) + 1)
            # One block stands for all; an odd one out is found by the shape check.
            block.setdefault(match.group(2), tensor)
    dims = _size(tensors, "norm_f.weight", 0)
    inner = _size(block, "mixer.A_log", 0)
    return InferredVim(
        embed_dims=dims,
        depth=depth,
        patch_size=_size(tensors, "patch_embed.proj.weight", 2),
        stride=None,
        d_state=_size(block, "mixer.A_log", 1),
        ssm_ratio=inner / dims if inner and dims else None,
        dt_rank=_size(block, "mixer.dt_proj.weight", 1),
        conv_size=_size(block, "mixer.conv1d.weight", 2),
    )


def with_stride(
    inferred: InferredVim, patches: int, img_size: Size | None, where: str
) -> InferredVim:
    """Add the stride at which an image has so many patches.

    Args:
        inferred (InferredVim): Architecture without the stride.
        patches (int): Position rows of the file, without the class token's.
        img_size (tuple[int, int] | None): Size of the images it was trained with; ``None`` for
            the 224 x 224 of the released weights.
        where (str): What to call the checkpoint in messages, such as its path.

    Raises:
        CheckpointFormatError: There is no such stride, or more than one.
    """
    if inferred.patch_size is None:
        return inferred
    size = img_size or PRETRAIN_SIZE
    grids = {
        s: patch_grid(size, inferred.patch_size, s) for s in variant_strides(inferred.patch_size)
    }
    fitting = [stride for stride, grid in grids.items() if prod(grid) == patches]
    if len(fitting) != 1:
        known = ", ".join(f"{r} x {c} at stride {s}" for s, (r, c) in grids.items())
        given = "--img-size" if img_size else "the released"
        raise CheckpointFormatError(
            f"{where} has {patches} position rows beside the class token's, which do not tell "
            f"grid and stride: {given} {size[0]} x {size[1]} pixels have {known}; give the image "
            "size that it was trained with, --img-size H W"
        )
    return replace(inferred, stride=fitting[0])


def as_inferred(arch: VimArch) -> InferredVim:
    """Give an architecture in the form that files are compared in.

    Args:
        arch (VimArch): Of a preset or of a model.
    """
    return InferredVim(
        embed_dims=arch.embed_dims,
        depth=arch.depth,
        patch_size=arch.patch_size,
        stride=arch.stride,
        d_state=arch.d_state,
        ssm_ratio=arch.ssm_ratio,
        dt_rank=arch.rank,
        conv_size=arch.conv_size,
    )


VIM_PRESETS = Presets("Vim", {name: as_inferred(arch) for name, arch in VIM_ARCHS.items()})
"""The presets of ``VIM_ARCHS``, as files are compared with them."""


def _size(tensors: Mapping[str, torch.Tensor], name: str, dim: int) -> int | None:
    tensor = tensors.get(name)
    return tensor.shape[dim] if tensor is not None and tensor.ndim > dim else None
