"""How far a body can move in a direction until it touches another one."""

from __future__ import annotations

import numpy as np

from mamba_mm.rendering import rasterize

# Width of a cell of the two height maps, in metres.
_CELL = 0.003
# Depths are shifted by this, in metres, where the rasterizer's perspective is too weak to matter.
_FAR = 1e3


def distance_to_contact(
    moving: tuple[np.ndarray, np.ndarray],
    standing: tuple[np.ndarray, np.ndarray],
    direction: np.ndarray,
) -> float:
    """Say how far a body moves until it touches another one.

    Both are drawn from far behind the moving one, without perspective: at each cell of a grid of 3
    mm its front and the near side of the other are so far apart. Parts thinner than a cell can be
    missed.

    Args:
        moving: Vertices ``(V, 3)`` and faces ``(F, 3)``.
        standing: The other body's.
        direction: ``(3,)``, of any length but zero.

    Returns:
        Metres; less than zero if it is beyond already, and infinite if it passes by.
    """
    turn = _looking_along(direction)
    front = _heights(moving, turn, towards=1)
    back = _heights(standing, turn, towards=-1)
    low = np.maximum(front.origin, back.origin)
    high = np.minimum(
        front.origin + front.heights.shape[::-1], back.origin + back.heights.shape[::-1]
    )
    if (high <= low).any():
        return np.inf
    gap = back.window(low, high) - front.window(low, high)
    return float(np.min(gap, initial=np.inf, where=np.isfinite(gap)))


class _Heights:
    """Heights of a body over a grid, infinite (or minus infinite) where there is none."""

    def __init__(self, origin: np.ndarray, heights: np.ndarray) -> None:
        self.origin = origin
        self.heights = heights

    def window(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        first, last = low - self.origin, high - self.origin
        return self.heights[first[1] : last[1], first[0] : last[0]]


def _heights(body: tuple[np.ndarray, np.ndarray], turn: np.ndarray, towards: int) -> _Heights:
    """Largest (``towards`` 1) or least (-1) coordinate along the direction in every cell."""
    vertices = body[0] @ turn.T
    cells = vertices[:, :2] / _CELL
    origin = np.floor(cells.min(axis=0)).astype(int)
    width, height = np.ceil(cells.max(axis=0)).astype(int) - origin + 1
    # The rasterizer keeps the nearest; the far side is that of the body turned inside out.
    depth = _FAR - towards * vertices[:, 2]
    raster = rasterize(np.column_stack([cells - origin, depth]), body[1], height, width)
    # float32 depths of a kilometre are too coarse, hence the mean of the corners' own.
    corners = vertices[:, 2][body[1][raster.face_index]]
    heights = np.einsum("hwk,hwk->hw", corners, raster.barycentric.astype(np.float64))
    return _Heights(origin, np.where(raster.face_index >= 0, heights, -towards * np.inf))


def _looking_along(direction: np.ndarray) -> np.ndarray:
    """Return a rotation ``(3, 3)`` that takes the direction to z."""
    z = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])
