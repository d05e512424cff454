"""A lit, matt surface, and the pinhole camera that looks at it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .rasterizer import rasterize

# A length below which a vector has no direction to speak of.
_TINY = 1e-12


class Shaded(NamedTuple):
    """A picture of a mesh."""

    image: np.ndarray
    """``(H, W, 3)``, uint8; 0 where the mesh is not."""
    mask: np.ndarray
    """``(H, W)``, bool: where the mesh is."""
    depth: np.ndarray
    """``(H, W)``, float32: as ``Raster.depth``."""


def project_to_pixels(
    vertices: np.ndarray,
    focal_length: float | np.ndarray,
    principal_point: np.ndarray,
) -> np.ndarray:
    """Look at points through a pinhole.

    Args:
        vertices: ``(V, 3)`` in the frame of the camera: x right, y down, z forward.
        focal_length: In pixels; one number, or ``(2,)`` for x and y.
        principal_point: ``(2,)``, in pixels.

    Returns:
        ``(V, 3)``, float64: x and y in pixels, and z as it was. Points that are not in front
        of the camera get NaN for x and y, which ``rasterize`` accepts.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    depth = vertices[:, 2:]
    in_front = np.where(depth > 0, depth, np.nan)
    pixels = vertices[:, :2] / in_front * focal_length + np.asarray(principal_point)
    return np.concatenate([pixels, depth], axis=1)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return unit normals ``(V, 3)``, float64: means of the faces' around, weighted by area.

    They point to the side from which the corners of a face go round counter-clockwise. A
    vertex that no face with an area uses has a normal of zero.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    return _unit(normals)


def shade(
    vertices: np.ndarray,
    faces: np.ndarray,
    vertices_px: np.ndarray,
    height: int,
    width: int,
    *,
    colour: np.ndarray | tuple[float, float, float] = (200.0, 200.0, 200.0),
    towards_light: np.ndarray | tuple[float, float, float] = (0.0, 0.0, -1.0),
    ambient: float = 0.35,
) -> Shaded:
    """Draw a matt mesh under one far light, with normals interpolated over the faces.

    A face seen from its back is lit as its front would be if it were turned over.

    Args:
        vertices: ``(V, 3)``, in the frame in which ``towards_light`` is given.
        faces: ``(F, 3)``, integers.
        vertices_px: ``(V, 3)``, where the vertices are in the picture; see ``rasterize``.
        height: Rows of the picture.
        width: Columns of the picture.
        colour: ``(3,)`` for the whole mesh or ``(V, 3)`` interpolated; 0..255, channels in the
            order in which they shall be in the picture.
        towards_light: ``(3,)``, of any length but zero. The default lights from the camera.
        ambient: Share of the light that comes from everywhere, 0..1.

    Raises:
        ValueError: An argument is not as said, or ``rasterize`` refuses.
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    colour = np.asarray(colour, dtype=np.float64)
    if colour.shape not in ((3,), vertices.shape):
        raise ValueError(
            f"colour must be (3,) or that of every vertex {vertices.shape}, got {colour.shape}"
        )
    if not 0 <= ambient <= 1:
        raise ValueError(f"ambient is a share of the light, 0..1, got {ambient}")
    towards_light = np.asarray(towards_light, dtype=np.float64)
    if towards_light.shape != (3,) or not np.linalg.norm(towards_light) > _TINY:
        raise ValueError(f"towards_light must be a direction (3,), got {towards_light.tolist()}")
    raster = rasterize(vertices_px, faces, height, width)
    mask = raster.face_index >= 0
    face, weights = raster.face_index[mask], raster.barycentric[mask].astype(np.float64)
    corners = faces[face]

    normals = _unit(_blend(vertex_normals(vertices, faces)[corners], weights))
    normals *= _facing(vertices_px, faces)[face][:, None]
    lambert = np.maximum(normals @ _unit(towards_light), 0.0)
    light = ambient + (1.0 - ambient) * lambert
    surface = _blend(colour[corners], weights) if colour.ndim == 2 else colour

    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[mask] = np.clip(np.rint(surface * light[:, None]), 0, 255)
    return Shaded(image, mask, raster.depth)


def _blend(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mix ``(P, 3, C)`` of the corners by ``(P, 3)``."""
    return np.einsum("pkc,pk->pc", values, weights)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY)


def _facing(vertices_px: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return 1 for faces whose normal points to the camera, and -1 for the others, ``(F,)``."""
    first, second, third = np.moveaxis(np.asarray(vertices_px)[faces][..., :2], 1, 0)
    one, other = second - first, third - first
    turn = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    # The y axis points down, so counter-clockwise is negative.
    return np.where(turn <= 0, 1.0, -1.0)
