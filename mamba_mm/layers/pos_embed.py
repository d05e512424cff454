"""Position embeddings of a grid of patches with a class token in the middle of the sequence."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

POS_EMBED_RESIZES = ("middle", "official")


def patch_grid(img_size: tuple[int, int], patch_size: int, stride: int) -> tuple[int, int]:
    """Tell how many patches cover an image, padded at its end where they do not fit.

    Args:
        img_size: Height and width of the image in pixels.
        patch_size: Side of a patch in pixels.
        stride: Distance between patches in pixels.

    Returns:
        Rows and columns of patches.
    """
    rows, columns = (max(math.ceil((n - patch_size) / stride), 0) + 1 for n in img_size)
    return rows, columns


def class_token_index(grid: tuple[int, int]) -> int:
    """Tell where in the sequence of a grid the class token stands: before patch M // 2 of M."""
    return grid[0] * grid[1] // 2


def insert_class_token(patches: Tensor, token: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put the class token into the middle of a sequence of patches.

    Args:
        patches: Of shape (B, M, D), row by row.
        token: Of shape (1 or B, 1, D).
        grid: Rows and columns of patches; their product is M.

    Returns:
        Tokens of shape (B, M + 1, D).
    """
    middle = class_token_index(grid)
    token = token.expand(len(patches), -1, -1).to(patches.dtype)
    return torch.cat((patches[:, :middle], token, patches[:, middle:]), dim=1)


def remove_class_token(tokens: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Undo :func:`insert_class_token`.

    Args:
        tokens: Of shape (B, M + 1, D).
        grid: Rows and columns of patches; their product is M.

    Returns:
        The patches (B, M, D) and the class token (B, D).
    """
    middle = class_token_index(grid)
    return torch.cat((tokens[:, :middle], tokens[:, middle + 1 :]), dim=1), tokens[:, middle]


def resize_pos_embed(
    pos_embed: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    has_class: bool = True,
    keep_class: bool = True,
    mode: str = "middle",
) -> Tensor:
    """Bring a position embedding to another grid, with or without its class token.

    The row of the class token is M // 2 of M + 1. ``"middle"`` takes it out, interpolates the
    other rows as a map (bicubic, corners not aligned) and puts it back at M' // 2.
    ``"official"`` does what the official Vim code does: it takes row 0 for that of the class
    token, so the class row is interpolated among the patches, and, without a class token,
    patches before the middle get the embedding of their right neighbour. It is there to
    reproduce results that were published with it.

    Args:
        pos_embed: Of shape (1, M, D) or, with ``has_class``, (1, M + 1, D).
        old: Rows and columns of its grid, M patches.
        new: Rows and columns of the wanted grid, M' patches.
        has_class: Whether there is a row for a class token.
        keep_class: Whether the result has such a row; it needs ``has_class``.
        mode: ``"middle"`` or ``"official"``.

    Returns:
        Of shape (1, M' + keep_class, D); the input itself where nothing has to change.

    Raises:
        ValueError: When the mode is unknown, the rows do not form the old grid, or a class row
            is to be kept that is not there.
    """
    if mode not in POS_EMBED_RESIZES:
        raise ValueError(
            f"resize_pos_embed: unknown mode {mode!r}; known: {', '.join(POS_EMBED_RESIZES)}"
        )
    rows = old[0] * old[1] + has_class
    if pos_embed.dim() != 3 or pos_embed.shape[1] != rows:
        raise ValueError(
            f"resize_pos_embed: a grid of {old[0]} x {old[1]} patches {_with_class(has_class)} "
            f"takes (1, {rows}, D), got {tuple(pos_embed.shape)}"
        )
    if keep_class and not has_class:
        raise ValueError("resize_pos_embed: keep_class=True, but there is no class row to keep")
    if old == new and keep_class == has_class:
        return pos_embed
    if not has_class:
        return _interpolate(pos_embed, old, new)

    row = class_token_index(old) if mode == "middle" else 0
    patches = torch.cat((pos_embed[:, :row], pos_embed[:, row + 1 :]), dim=1)
    patches = _interpolate(patches, old, new)
    if not keep_class:
        return patches
    row_in_new = class_token_index(new) if mode == "middle" else 0
    return torch.cat(
        (patches[:, :row_in_new], pos_embed[:, row : row + 1], patches[:, row_in_new:]), dim=1
    )


def _interpolate(patches: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    if old == new:
        return patches
    grid = patches.transpose(1, 2).unflatten(2, old)
    state = torch.promote_types(grid.dtype, torch.float32)
    grid = F.interpolate(grid.to(state), size=new, mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(patches.dtype)


def _with_class(has_class: bool) -> str:
    return "with a class token" if has_class else "without a class token"
