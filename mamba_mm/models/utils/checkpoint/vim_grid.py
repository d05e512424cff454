"""Which grid of patches the rows of a saved Vim position embedding form, and the way to another.

The rows alone tell their number, not the shape of their grid, nor the stride of the patches: a
kernel of 16 x 16 pixels looks the same at stride 8. Rows in a wrong order are the worst of
errors, since every shape fits; so nothing is guessed here.
"""

from dataclasses import dataclass
from math import prod

import torch

from mamba_mm.layers import patch_grid, resize_pos_embed

from .errors import ArchMismatchError, CheckpointFormatError, StateMismatchError

PRETRAIN_SIZE = (224, 224)
"""Image size of all released weights."""

Size = tuple[int, int]


@dataclass(frozen=True)
class FittedPosEmbed:
    """A position embedding on the grid of a model.

    Attributes:
        tensor (torch.Tensor): Of the shape of the model's.
        change (str | None): What was done to it, in words; ``None`` if nothing was.
    """

    tensor: torch.Tensor
    change: str | None


def fit_pos_embed(
    saved: torch.Tensor,
    model: torch.nn.Module,
    *,
    where: str,
    has_class: bool,
    img_size: Size | None = None,
    across_strides: bool = False,
) -> FittedPosEmbed:
    """Bring a saved position embedding to the grid of a model, as the model says how.

    Args:
        saved (torch.Tensor): Of shape (1, rows, D).
        model (torch.nn.Module): A :class:`mamba_mm.VisionMamba`.
        where (str): What to call the checkpoint in messages, such as its path.
        has_class (bool): Whether one of the rows is the class token's.
        img_size (tuple[int, int], optional): Image size whose grid the rows form.
        across_strides (bool): Whether the grid may be of the other stride. Defaults to False.

    Raises:
        StateMismatchError: It is no position embedding.
        ArchMismatchError: It belongs to the variant with the other stride.
        CheckpointFormatError: The grid cannot be told, or is not that of ``img_size``.
    """
    if saved.ndim != 3 or saved.shape[1] <= has_class:
        raise StateMismatchError(
            f"{where} has no position embedding (1, rows, D) but a tensor of another shape",
            mismatched=[f"pos_embed: {tuple(saved.shape)}, {tuple(model.pos_embed.shape)}"],
        )
    grid = source_grid(saved.shape[1] - has_class, model, where, img_size, across_strides)
    keep_class = has_class and model.with_cls_token
    changes = []
    if grid != model.grid:
        changes.append(f"interpolated from {_show(grid)} to {_show(model.grid)} patches")
    if keep_class != has_class:
        changes.append("freed of its class row")
    if changes and model.pos_embed_resize != "middle":
        changes.append(f"in the {model.pos_embed_resize} way")
    tensor = resize_pos_embed(
        saved,
        grid,
        model.grid,
        has_class=has_class,
        keep_class=keep_class,
        mode=model.pos_embed_resize,
    )
    return FittedPosEmbed(tensor, ", ".join(changes) or None)


def source_grid(
    patches: int,
    model: torch.nn.Module,
    where: str,
    img_size: Size | None = None,
    across_strides: bool = False,
) -> Size:
    """Tell the grid that so many rows form, as far as there is evidence.

    Evidence is, in this order: the image size, where it is given; the number of patches of the
    released models, at either stride; the model's own number.

    Args:
        patches (int): Rows without that of the class token.
        model (torch.nn.Module): A :class:`mamba_mm.VisionMamba` to fill.
        where (str): What to call the checkpoint in messages, such as its path.
        img_size (tuple[int, int], optional): Image size whose grid the rows form.
        across_strides (bool): Whether the grid may be of the other stride. Defaults to False.

    Returns:
        tuple[int, int]: Rows and columns of patches.

    Raises:
        ArchMismatchError: The rows belong to the variant with the other stride.
        CheckpointFormatError: There is no evidence, it is ambiguous, or it is contradicted.
    """
    arch = model.arch_settings
    size = img_size or PRETRAIN_SIZE
    own = patch_grid(size, arch.patch_size, arch.stride)
    if patches == prod(own):
        if img_size is None and own != model.grid and prod(model.grid) == patches:
            raise CheckpointFormatError(
                f"{where} has {patches} position rows, which may form a grid of {_show(own)} or, "
                f"as in the model, {_show(model.grid)}; {_ASK}"
            )
        return own
    for stride in variant_strides(arch.patch_size):
        grid = patch_grid(size, arch.patch_size, stride)
        if stride != arch.stride and patches == prod(grid):
            if across_strides:
                return grid
            raise ArchMismatchError(
                f"{where} has a position embedding of {_show(grid)} patches, that of stride "
                f"{stride} ({_variant(stride, arch.patch_size)}) at {_show(size)} pixels, but the "
                f"model has stride {arch.stride} ({_variant(arch.stride, arch.patch_size)}); "
                "nothing was loaded. To start one variant from the other on purpose, give "
                "init_cfg of type Pretrained across_strides=True; if the file was trained at "
                "another image size, give it img_size=(height, width)"
            )
    if img_size is not None:
        raise CheckpointFormatError(
            f"{where} has {patches} position rows, but images of {_show(img_size)} pixels have "
            f"{_show(own)} = {prod(own)} patches; give the image size that it was trained with"
        )
    if patches == prod(model.grid):
        return model.grid
    raise CheckpointFormatError(
        f"{where} has {patches} position rows, which do not tell their grid; {_ASK}"
    )


def variant_strides(patch_size: int) -> tuple[int, ...]:
    """Strides that released models have: patches side by side, or overlapping by half."""
    return (patch_size, patch_size // 2) if patch_size % 2 == 0 else (patch_size,)


_ASK = (
    "give init_cfg of type Pretrained img_size=(height, width), that of the images that it was "
    "trained with, or give the model that img_size: images of other sizes can be fed all the same"
)


def _variant(stride: int, patch_size: int) -> str:
    return 'a "plus" variant' if stride < patch_size else "a plain variant"


def _show(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
