"""Wavefront .obj files, which every 3-D program opens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from .shading import vertex_normals


def write_obj(
    path: str | Path,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    flip_faces: bool = False,
    normals: bool = False,
) -> None:
    """Write a triangle mesh; the file appears whole or not at all.

    Args:
        path: The file; its folder is made.
        vertices: ``(V, 3)``, written as they are, with six digits after the point (micrometres,
            in metres).
        faces: ``(F, 3)`` integers in ``[0, V)``; the file counts from one.
        flip_faces: Turn the faces over, as a mesh needs that was mirrored, such as a left hand
            made of a right one.
        normals: Write normals of the vertices too.

    Raises:
        ValueError: A shape is wrong, a vertex is not finite, or a face names a vertex that does
            not exist.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    _check(vertices, faces)
    if flip_faces:
        faces = faces[:, [0, 2, 1]]
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices.tolist()]
    corner = "{0}"
    if normals:
        lines += [f"vn {x:.4f} {y:.4f} {z:.4f}" for x, y, z in vertex_normals(vertices, faces)]
        corner = "{0}//{0}"
    for face in (faces + 1).tolist():
        lines.append(" ".join(["f", *(corner.format(index) for index in face)]))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text("\n".join([*lines, ""]))
    os.replace(unfinished, path)


def _check(vertices: np.ndarray, faces: np.ndarray) -> None:
    for name, array in (("vertices", vertices), ("faces", faces)):
        if array.ndim != 2 or array.shape[1] != 3:
            raise ValueError(f"write_obj: {name} must be (N, 3), got {array.shape}")
    if not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"write_obj: faces must be integers, got {faces.dtype}")
    if not np.isfinite(vertices).all():
        raise ValueError("write_obj: the vertices are not finite")
    if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError(
            f"write_obj: faces name vertices {faces.min()}..{faces.max()} of {len(vertices)}"
        )
