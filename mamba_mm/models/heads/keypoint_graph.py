"""Graphs over keypoints that have no skeleton."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np


def all_pairs(count: int) -> tuple[tuple[int, int], ...]:
    """Return the edges of the graph in which every two of ``count`` keypoints are neighbours."""
    return tuple(combinations(range(count), 2))


def nearest_neighbours(
    points: np.ndarray | Sequence, neighbours: int = 3
) -> tuple[tuple[int, int], ...]:
    """Join each keypoint with those that are nearest to it on the object.

    Args:
        points: ``(K, 3)``, or ``(classes, K, 3)`` for one graph that has the edges of all classes.
        neighbours: With how many each is joined at least.

    Returns:
        Edges (i, j) with i < j, sorted.

    Raises:
        ValueError: The shape is wrong, or there are not so many neighbours.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim == 2:
        points = points[None]
    if points.ndim != 3 or points.shape[2] != 3:
        raise ValueError(f"points must be (K, 3) or (classes, K, 3), got {points.shape}")
    if not 1 <= neighbours < points.shape[1]:
        raise ValueError(
            f"each of {points.shape[1]} points can have 1 to {points.shape[1] - 1} neighbours, "
            f"not {neighbours}"
        )
    edges = set()
    for of_class in points:
        distances = np.linalg.norm(of_class[:, None] - of_class[None], axis=-1)
        # The nearest of all is the point itself.
        nearest = np.argsort(distances, axis=1, kind="stable")[:, 1 : neighbours + 1]
        edges |= {(min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row}
    return tuple(sorted(edges))
