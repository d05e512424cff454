"""Closing the hole that a hand mesh has at the wrist."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np


def boundary_loop(faces: np.ndarray) -> list[int]:
    """Follow the edge of the only hole of a mesh.

    Args:
        faces: Triangles of consistent orientation, (F, 3).

    Returns:
        Vertices in the direction in which the triangles run along the hole, from the lowest one.

    Raises:
        ValueError: The mesh has no hole or not exactly one.
    """
    edges = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]])).tolist()
    sides = Counter(frozenset(edge) for edge in edges)
    following = {a: b for a, b in edges if sides[frozenset((a, b))] == 1}
    if not following:
        raise ValueError("boundary_loop: the mesh is closed")
    loop = [min(following)]
    while (vertex := following.get(loop[-1])) not in loop:
        loop.append(vertex)
    if vertex != loop[0] or len(loop) != len(following):
        raise ValueError(
            f"boundary_loop: expected one hole, found a loop of {len(loop)} vertices among "
            f"{len(following)} boundary edges"
        )
    return loop


def close_wrist(faces: np.ndarray) -> np.ndarray:
    """Close the hole of a hand mesh by a fan of triangles.

    Args:
        faces: Triangles of consistent orientation, (F, 3).

    Returns:
        The triangles and those of the fan, of the same orientation, (F + boundary - 2, 3).

    Raises:
        ValueError: The mesh has no hole or not exactly one.
    """
    hub, *rim = boundary_loop(faces)
    fan = [(hub, after, before) for before, after in itertools.pairwise(rim)]
    return np.concatenate((faces, np.array(fan, dtype=faces.dtype)))
