"""The walks that published models use, as index tables.

Every function returns raster indices ``row * width + column`` in the order of the walk,
-1 for a padded step; :func:`~mamba_mm.ops.routes.registry.register_route` says more.
"""

from __future__ import annotations

import numpy as np

from .registry import register_route


@register_route("row", permutation=True)
def row(height: int, width: int) -> np.ndarray:
    """Row by row, each from left to right."""
    return np.arange(height * width)


@register_route("col", permutation=True)
def col(height: int, width: int) -> np.ndarray:
    """Column by column, each from top to bottom."""
    return _raster(height, width).T.ravel()


@register_route("snake_row", permutation=True, continuous=True)
def snake_row(height: int, width: int) -> np.ndarray:
    """Row by row, odd rows from right to left (PlainMamba, arXiv 2403.17695, section 3.2)."""
    raster = _raster(height, width)
    raster[1::2] = raster[1::2, ::-1].copy()
    return raster.ravel()


@register_route("snake_col", permutation=True, continuous=True)
def snake_col(height: int, width: int) -> np.ndarray:
    """Column by column, odd columns from bottom to top."""
    raster = _raster(height, width)
    raster[:, 1::2] = raster[::-1, 1::2].copy()
    return raster.T.ravel()


@register_route("phase")
def phase(height: int, width: int, *, s: int, r0: int, c0: int, major: str) -> np.ndarray:
    """Every s-th token in both directions (EfficientVMamba, arXiv 2403.09977, section 3.2).

    The grid has ceil(H/s) x ceil(W/s) cells for every phase, so that all have one length;
    cells outside the map are padded steps.

    Args:
        height: Rows H of the map.
        width: Columns W of the map.
        s: Distance between tokens.
        r0: First row, below ``s``.
        c0: First column, below ``s``.
        major: ``"row"`` to walk the grid row by row, ``"col"`` column by column.
    """
    if s < 1 or not (0 <= r0 < s and 0 <= c0 < s):
        raise ValueError(
            f"phase: expected s >= 1 and r0, c0 in 0..s-1, got s={s}, r0={r0}, c0={c0}"
        )
    if major not in ("row", "col"):
        raise ValueError(f"phase: major is {major!r}, expected 'row' or 'col'")
    cells = _padded_raster(height, width, s)[r0::s, c0::s]
    return (cells if major == "row" else cells.T).ravel()


@register_route("wrap_diag", permutation=True)
def wrap_diag(height: int, width: int) -> np.ndarray:
    """Diagonals to the lower right that wrap round (FER-YOLO-Mamba, arXiv 2405.01828)."""
    start, step = np.mgrid[:width, :height]
    return (step * width + (step + start) % width).ravel()


@register_route("wrap_anti", permutation=True)
def wrap_anti(height: int, width: int) -> np.ndarray:
    """Diagonals to the lower left that wrap round (FER-YOLO-Mamba, arXiv 2405.01828)."""
    start, step = np.mgrid[:width, :height]
    return (step * width + (start - step) % width).ravel()


@register_route("zigzag", permutation=True)
def zigzag(height: int, width: int) -> np.ndarray:
    """Anti-diagonals from the top left, up and down in turn (MHS-VM, arXiv 2406.05992)."""
    rows, columns = np.divmod(row(height, width), width)
    diagonal = rows + columns
    downwards = diagonal % 2 == 1
    return np.lexsort((np.where(downwards, rows, -rows), diagonal))


@register_route("spiral", permutation=True, continuous=True)
def spiral(height: int, width: int) -> np.ndarray:
    """Clockwise from the top left inwards (MHS-VM, arXiv 2406.05992)."""
    rows, columns = np.divmod(row(height, width), width)
    below, right = height - 1 - rows, width - 1 - columns
    ring = np.minimum(np.minimum(rows, below), np.minimum(columns, right))
    # Size of the rectangle that the ring encloses with itself, and places in it.
    inner_height, inner_width = height - 2 * ring, width - 2 * ring
    y, x = rows - ring, columns - ring
    top, last_column, bottom = y == 0, x == inner_width - 1, y == inner_height - 1
    along_ring = np.select(
        [top, last_column, bottom],
        [x, inner_width - 1 + y, 2 * inner_width + inner_height - 3 - x],
        2 * inner_width + 2 * inner_height - 4 - y,
    )
    return np.argsort(height * width - inner_height * inner_width + along_ring)


@register_route("window")
def window(height: int, width: int, *, w: int) -> np.ndarray:
    """Windows in raster order, raster inside (LocalMamba, arXiv 2403.09338, section 3.2).

    Args:
        height: Rows H of the map.
        width: Columns W of the map.
        w: Side of a window. The map is padded at the bottom and right to multiples of it.
    """
    if w < 1:
        raise ValueError(f"window: expected a side of at least 1, got w={w}")
    padded = _padded_raster(height, width, w)
    rows, columns = padded.shape
    windows = padded.reshape(rows // w, w, columns // w, w).swapaxes(1, 2)
    return windows.ravel()


@register_route("hilbert", permutation=True)
def hilbert(height: int, width: int) -> np.ndarray:
    """Hilbert's curve through the enclosing square, cells outside the map left out.

    It jumps where it leaves the map; on a square whose side is a power of two it does not.
    """
    rows, columns = np.divmod(row(height, width), width)
    place = np.zeros(height * width, dtype=np.int64)
    side = _enclosing_power_of_two(height, width)
    while side > 1:
        side //= 2
        lower, right = rows >= side, columns >= side
        place += side * side * ((3 * lower) ^ right)
        rows, columns = rows % side, columns % side
        # The first quarter is transposed, the last one transposed about the other diagonal.
        mirrored = lower & ~right
        turned = ~right
        rows, columns = (
            np.where(turned, np.where(mirrored, side - 1 - columns, columns), rows),
            np.where(turned, np.where(mirrored, side - 1 - rows, rows), columns),
        )
    return np.argsort(place)


@register_route("morton", permutation=True)
def morton(height: int, width: int) -> np.ndarray:
    """Z-order: quarters in raster order, and so inside each; cells outside left out."""
    rows, columns = np.divmod(row(height, width), width)
    place = np.zeros(height * width, dtype=np.int64)
    for bit in range(_enclosing_power_of_two(height, width).bit_length()):
        place |= ((columns >> bit) & 1) << (2 * bit) | ((rows >> bit) & 1) << (2 * bit + 1)
    return np.argsort(place)


def _raster(height: int, width: int) -> np.ndarray:
    return np.arange(height * width).reshape(height, width)


def _padded_raster(height: int, width: int, multiple: int) -> np.ndarray:
    """The raster indices, with -1 at the bottom and right up to multiples of ``multiple``."""
    padding = ((0, -height % multiple), (0, -width % multiple))
    return np.pad(_raster(height, width), padding, constant_values=-1)


def _enclosing_power_of_two(height: int, width: int) -> int:
    return 1 << (max(height, width) - 1).bit_length()
