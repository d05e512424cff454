"""A depth buffer for triangle meshes, without a loop over faces or pixels.

Vertices are snapped to 1/256 of a pixel and everything that decides which pixel a face covers
is integer arithmetic, as graphics hardware does it. So faces that share an edge neither leave
a gap between them nor both claim a pixel on it, and every machine draws the same picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SUBPIXELS = 256
"""Steps that a pixel is divided into, along each axis."""

FARTHEST = 2.0**20
"""Pixels from the origin beyond which integers could overflow; such faces are left out."""

# Bounds the memory: about 100 bytes a fragment.
_FRAGMENTS_AT_ONCE = 1 << 20


class Raster(NamedTuple):
    """What every pixel of a picture shows."""

    face_index: np.ndarray
    """``(H, W)``, int32: row of ``faces``, -1 where there is none."""
    barycentric: np.ndarray
    """``(H, W, 3)``, float32: weights of the face's corners on the surface itself; 0 without."""
    depth: np.ndarray
    """``(H, W)``, float32, in the unit of the given depths; infinite where there is no face."""


class _Edges(NamedTuple):
    """Three half-planes a face, ``a x + b y + c >= least``; x and y whole pixels.

    The values are twice the areas of the triangles between an edge and (x, y), in subpixels
    squared, and edge i lies opposite corner i. Arrays are ``(F, 3)``, int64.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    least: np.ndarray


class _Spans(NamedTuple):
    """Runs of covered pixels, one a face and row that has any; all ``(S,)``, int64."""

    face: np.ndarray
    row: np.ndarray
    first: np.ndarray
    count: np.ndarray


def rasterize(vertices_px: np.ndarray, faces: np.ndarray, height: int, width: int) -> Raster:
    """Find the nearest face at the centre of every pixel.

    Both sides of a face are drawn. A pixel whose centre lies exactly on an edge goes to the
    face to the right of it, or below it if it is level. Of faces at the same depth the first
    is shown.

    A face is drawn only if all its corners are in front of the camera (``z > 0``); there is
    no clipping at a near plane. Nor are faces drawn that reach farther than ``FARTHEST``
    pixels, or whose area vanishes.

    Args:
        vertices_px: ``(V, 3)``: x and y in pixels, integers at the centres of pixels, and the
            depth z along the optical axis, which perspective has not changed. x and y of a
            vertex with ``z <= 0`` may be anything.
        faces: ``(F, 3)``, integers in ``[0, V)``.
        height: Rows of the picture.
        width: Columns of the picture.

    Raises:
        ValueError: A shape is wrong, a face names a vertex that does not exist, the picture
            has no pixel, or a vertex in front of the camera is not finite.
    """
    vertices_px, faces = _checked(vertices_px, faces, height, width)
    drawable = _drawable(vertices_px)[faces].all(axis=1)
    # Others get harmless corners, so that nothing below meets infinities.
    corners = np.where(drawable[:, None, None], vertices_px[faces], 1.0)
    inverse_depth = 1.0 / corners[..., 2]
    grid = np.rint(corners[..., :2] * SUBPIXELS).astype(np.int64)
    edges, double_area = _edges(grid)
    # A face without an area needs no exception: no pixel is inside all three of its edges.
    spans = _spans(edges, grid, np.flatnonzero(drawable), height, width)
    # Affine over the picture, which the depth itself is not.
    nearness = inverse_depth / np.maximum(double_area, 1)[:, None]
    nearest = _nearest_faces(spans, edges, nearness, height, width)
    return _interpolated(nearest, edges, nearness)


def _checked(
    vertices_px: np.ndarray, faces: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    vertices_px, faces = np.asarray(vertices_px, dtype=np.float64), np.asarray(faces)
    for name, array in (("vertices_px", vertices_px), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"{name} must be (N, 3), got {array.shape}")
    if not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"faces must be integers, got {faces.dtype}")
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs at least one pixel, got {height}x{width}")
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices_px)):
        raise ValueError(
            f"faces name vertices {faces.min()}..{faces.max()}, but there are {len(vertices_px)}"
        )
    # Not "z > 0": that would let NaN pass as a vertex behind the camera.
    in_front = ~(vertices_px[:, 2] <= 0)
    unusable = in_front & ~np.isfinite(vertices_px).all(axis=1)
    if unusable.any():
        index = int(np.flatnonzero(unusable)[0])
        raise ValueError(
            f"{unusable.sum()} vertices in front of the camera are not finite, "
            f"the first is {index}: {vertices_px[index].tolist()}"
        )
    return vertices_px, faces.astype(np.int64)


def _drawable(vertices_px: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        near_enough = (np.abs(vertices_px[:, :2]) <= FARTHEST).all(axis=1)
    return near_enough & (vertices_px[:, 2] > 0)


def _edges(grid: np.ndarray) -> tuple[_Edges, np.ndarray]:
    """Turn corners ``(F, 3, 2)`` in subpixels into half-planes, and twice the areas ``(F,)``."""
    start, end = np.roll(grid, -1, axis=1), np.roll(grid, -2, axis=1)
    a = start[..., 1] - end[..., 1]
    b = end[..., 0] - start[..., 0]
    c = -(a * start[..., 0] + b * start[..., 1])
    double_area = a[:, 0] * grid[:, 0, 0] + b[:, 0] * grid[:, 0, 1] + c[:, 0]
    # The inside is positive for either orientation.
    side = np.where(double_area < 0, -1, 1)[:, None]
    a, b, c = side * a, side * b, side * c
    owns_its_pixels = (a > 0) | ((a == 0) & (b > 0))
    edges = _Edges(SUBPIXELS * a, SUBPIXELS * b, c, np.where(owns_its_pixels, 0, 1))
    return edges, np.abs(double_area)


def _spans(edges: _Edges, grid: np.ndarray, kept: np.ndarray, height: int, width: int) -> _Spans:
    rows = grid[kept, :, 1]
    top = np.maximum(-(-rows.min(axis=1) // SUBPIXELS), 0)
    bottom = np.minimum(rows.max(axis=1) // SUBPIXELS, height - 1)
    face, offset = _expand(np.maximum(bottom - top + 1, 0))
    row = top[face] + offset
    face = kept[face]

    a = edges.a[face]
    surplus = edges.b[face] * row[:, None] + edges.c[face] - edges.least[face]
    slope = np.where(a == 0, 1, np.abs(a))
    bound = np.where(a > 0, -(surplus // slope), surplus // slope)
    first = np.where(a > 0, bound, 0).max(axis=1)
    last = np.where(a < 0, bound, width - 1).min(axis=1)
    level_and_outside = ((a == 0) & (surplus < 0)).any(axis=1)
    last = np.minimum(last, width - 1)
    covered = (last >= first) & ~level_and_outside
    first, last = first[covered], last[covered]
    return _Spans(face[covered], row[covered], first, last - first + 1)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for ``counts[i]`` things of each i, which i they are of and their number in it."""
    owner = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - starts[owner]


def _nearest_faces(
    spans: _Spans, edges: _Edges, nearness: np.ndarray, height: int, width: int
) -> np.ndarray:
    """Return the visible face of each pixel, ``(H, W)``, int64, -1 for none."""
    face_of = np.full(height * width, -1, dtype=np.int64)
    largest = np.zeros(height * width)  # of 1/z
    along_x, along_y, at_origin = (
        (coefficient * nearness).sum(axis=1) for coefficient in (edges.a, edges.b, edges.c)
    )
    batches = np.cumsum(spans.count) // _FRAGMENTS_AT_ONCE
    for batch in np.unique(batches):
        chosen = _Spans(*(values[batches == batch] for values in spans))
        span, offset = _expand(chosen.count)
        column = chosen.first[span] + offset
        pixel = (chosen.row * width)[span] + column
        at_left = along_y[chosen.face] * chosen.row + at_origin[chosen.face]
        value = along_x[chosen.face][span] * column + at_left[span]
        face = chosen.face[span]
        nearer = value > largest[pixel]
        face, pixel, value = face[nearer], pixel[nearer], value[nearer]
        np.maximum.at(largest, pixel, value)
        shown = value == largest[pixel]
        # The last assignment stays, and the fragments are in the order of the faces.
        face_of[pixel[shown][::-1]] = face[shown][::-1]
    return face_of.reshape(height, width)


def _areas(edges: _Edges, face: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    return edges.a[face] * column[:, None] + edges.b[face] * row[:, None] + edges.c[face]


def _interpolated(nearest: np.ndarray, edges: _Edges, nearness: np.ndarray) -> Raster:
    barycentric = np.zeros((*nearest.shape, 3), dtype=np.float32)
    depth = np.full(nearest.shape, np.inf, dtype=np.float32)
    row, column = np.nonzero(nearest >= 0)
    face = nearest[row, column]
    # The share of a corner in 1/z is its weight on the surface, times 1/z.
    shares = _areas(edges, face, row, column) * nearness[face]
    total = shares.sum(axis=1)
    barycentric[row, column] = shares / total[:, None]
    depth[row, column] = 1.0 / total
    return Raster(nearest.astype(np.int32), barycentric, depth)
