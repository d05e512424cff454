"""Errors of 6-D poses of rigid objects, as functions of NumPy arrays.

A pose is a rotation ``(3, 3)`` and a translation ``(3,)``; points and translations have one unit.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def transformed(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return points ``(N, 3)`` of an object in the frame of the camera."""
    return points @ rotation.T + translation


def add_error(found: np.ndarray, true: np.ndarray) -> float:
    """Average distance of the model's points (ADD).

    ``mean over x of |(R x + t) - (R' x + t')|`` over the vertices x of the model (Hinterstoisser et
    al., ACCV 2012, equation of the matching score m for objects without symmetry).

    Args:
        found: The model in the estimated pose, ``(N, 3)``.
        true: In the true one, with points in the same order.
    """
    return float(np.linalg.norm(found - true, axis=1).mean())


def adds_error(found: np.ndarray, true: np.ndarray) -> float:
    """Average distance to the nearest point (ADD-S, also called ADI).

    ``mean over x1 of min over x2 of |(R x1 + t) - (R' x2 + t')|``: for each vertex x1 of the model
    in the true pose the nearest one of the model in the estimated pose (Hinterstoisser et al.,
    ACCV 2012, for symmetric objects). As in BOP's toolkit, the true pose's points look for the
    estimated pose's.

    Args:
        found: The model in the estimated pose, ``(N, 3)``.
        true: In the true one, ``(M, 3)``.
    """
    distances, _ = cKDTree(found).query(true)
    return float(distances.mean())


def projection_error(found: np.ndarray, true: np.ndarray, cam_K: np.ndarray) -> float:
    """Average distance of the model's points in the picture (Brachmann et al., CVPR 2016).

    Args:
        found: The model in the estimated pose, ``(N, 3)``.
        true: In the true one, ``(N, 3)``, all in front of the camera.
        cam_K: Intrinsics, ``(3, 3)``.

    Returns:
        Pixels; infinite if a point of the estimated pose is not in front of the camera.
    """
    if (found[:, 2] <= 0).any():
        return float("inf")
    pixels = [(points @ cam_K.T)[:, :2] / points[:, 2:] for points in (found, true)]
    return float(np.linalg.norm(pixels[0] - pixels[1], axis=1).mean())


def rotation_error(
    found: np.ndarray, true: np.ndarray, symmetries: np.ndarray | None = None
) -> float:
    """Angle between two rotations; of a symmetric object the least over its symmetries.

    Args:
        found: ``(3, 3)``.
        true: ``(3, 3)``.
        symmetries: ``(S, 4, 4)``: motions that leave the object as it is; ``None`` for none.

    Returns:
        Degrees, 0..180.
    """
    turns = np.eye(3)[None] if symmetries is None else symmetries[:, :3, :3]
    traces = np.einsum("ij,sij->s", found, true @ turns)
    cosine = np.clip((traces - 1) / 2, -1, 1)
    return float(np.degrees(np.arccos(cosine)).min())


def translation_error(
    found: tuple[np.ndarray, np.ndarray],
    true: tuple[np.ndarray, np.ndarray],
    symmetries: np.ndarray | None = None,
) -> float:
    """Distance of the object's origins; of a symmetric object the least over its symmetries.

    Args:
        found: Rotation and translation.
        true: Rotation and translation.
        symmetries: As in :func:`rotation_error`. Those whose axis misses the origin move it.
    """
    (_, shift), (true_rotation, true_shift) = found, true
    moves = np.zeros((1, 3)) if symmetries is None else symmetries[:, :3, 3]
    places = moves @ true_rotation.T + true_shift
    return float(np.linalg.norm(shift - places, axis=1).min())
