"""The four walks of VMamba's cross-scan, in plain PyTorch.

The routes are, in the order in which every per-route parameter is stored: row by row,
column by column, and the reverse of each (VMamba, arXiv 2401.10166, section 4.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_ROUTES = 4


def cross_scan(maps: Tensor) -> Tensor:
    """Read four maps, each along its own route.

    Args:
        maps: Shape (B, 4, C, H, W), one map a route. Pass an expanded view to walk one map
            along all four routes.

    Returns:
        Sequences of shape (B, 4, C, H * W).
    """
    rows, columns, rows_back, columns_back = maps.unbind(1)
    return torch.stack(
        (
            rows.flatten(-2),
            columns.transpose(-2, -1).flatten(-2),
            rows_back.flatten(-2).flip(-1),
            columns_back.transpose(-2, -1).flatten(-2).flip(-1),
        ),
        dim=1,
    )


def cross_merge(sequences: Tensor, height: int, width: int) -> Tensor:
    """Put four sequences back on the map and add them: the adjoint of the walk.

    ``cross_merge(cross_scan(x.expand(...)))`` is ``4 * x``.

    Args:
        sequences: Shape (B, 4, C, H * W), in route order.
        height: Rows H of the map.
        width: Columns W of the map.

    Returns:
        The sum of the four maps, shape (B, C, H, W).
    """
    both_ways = sequences[:, :2] + sequences[:, 2:].flip(-1)
    rows, columns = both_ways.unbind(1)
    rows = rows.unflatten(-1, (height, width))
    columns = columns.unflatten(-1, (width, height)).transpose(-2, -1)
    return rows + columns
