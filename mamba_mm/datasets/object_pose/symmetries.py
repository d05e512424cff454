"""The rigid motions that leave an object as it is, as BOP's ``models_info.json`` has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

# Entries of matrices in files are rounded, most often to six digits.
_TOLERANCE = 1e-2


def symmetry_transforms(info: Mapping, steps: int = 24, scale: float = 0.001) -> np.ndarray:
    """List the symmetries of an object, those about an axis in steps.

    An object has the discrete symmetries of the file, no motion at all, and each of them after a
    turn about each axis of continuous symmetry (BOP, Hodan et al., ECCV 2018).

    Args:
        info: Of the object. ``symmetries_discrete``, if any, is a list of 4 x 4 matrices, row by
            row; ``symmetries_continuous`` a list of dicts of ``axis`` and ``offset``, a point on
            the axis.
        steps: Into how many turns an axis is divided.
        scale: From the file's unit to metres.

    Returns:
        ``(S, 4, 4)``, float64, metres; the identity comes first.

    Raises:
        ValueError: A symmetry is no rigid motion, an axis has no direction, or ``steps`` is less
            than 2.
    """
    if steps < 2:
        raise ValueError(f"an axis of symmetry needs at least 2 steps, got {steps}")
    discrete = [np.eye(4)]
    discrete += [_motion(entry, scale) for entry in info.get("symmetries_discrete", ())]
    turns = [np.eye(4)]
    for entry in info.get("symmetries_continuous", ()):
        about = _turns(entry, steps, scale)
        turns = [turn @ other for turn in turns for other in about]
    return np.stack([turn @ motion for motion in discrete for turn in turns])


def _motion(entry: Sequence[float], scale: float) -> np.ndarray:
    matrix = np.array(entry, dtype=np.float64)
    if matrix.size != 16 or not np.isfinite(matrix).all():
        raise ValueError(f"symmetries_discrete has an entry of {matrix.size} numbers, expected 16")
    matrix = matrix.reshape(4, 4)
    check_rotation(matrix[:3, :3], "symmetries_discrete")
    matrix[:3, 3] *= scale
    return matrix


def _turns(entry: Mapping, steps: int, scale: float) -> list[np.ndarray]:
    """Rotations about an axis through a point."""
    axis = np.array(entry["axis"], dtype=np.float64)
    offset = np.array(entry.get("offset", (0, 0, 0)), dtype=np.float64) * scale
    length = np.linalg.norm(axis) if axis.shape == (3,) else 0.0
    if not length > 0 or offset.shape != (3,):
        raise ValueError(
            f"symmetries_continuous has the axis {entry['axis']} and the offset "
            f"{entry.get('offset')}; expected three numbers each, and an axis with a direction"
        )
    turns = []
    for angle in np.arange(steps) * (2 * np.pi / steps):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_rotvec(axis / length * angle).as_matrix()
        turn[:3, 3] = offset - turn[:3, :3] @ offset
        turns.append(turn)
    return turns


def check_rotation(matrix: np.ndarray, name: str) -> None:
    """Refuse what is not a rotation matrix.

    Args:
        matrix: ``(3, 3)``.
        name: What it is, for the message.

    Raises:
        ValueError: Its columns are not orthogonal unit vectors, or it mirrors.
    """
    if not np.allclose(matrix.T @ matrix, np.eye(3), atol=_TOLERANCE):
        raise ValueError(f"{name}: not a rotation matrix, its columns are not orthonormal")
    if np.linalg.det(matrix) < 0:
        raise ValueError(
            f"{name}: the matrix mirrors (its determinant is -1); a rigid object cannot. Are two "
            "axes swapped?"
        )
