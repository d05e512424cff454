"""The rotation nearest to a matrix: means of rotations, and rigid fits of points."""

from __future__ import annotations

import numpy as np


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """Return the rotations with the least sum of squared differences to matrices.

    Of the mean of some rotations it is their chordal mean. Of ``target.T @ source``, centred
    points ``(N, 3)``, it is the rotation that brings the source closest to the target (Kabsch,
    1976). It never mirrors.

    Args:
        matrices: ``(..., 3, 3)``.
    """
    left, _, right = np.linalg.svd(matrices)
    left[..., -1] *= np.sign(np.linalg.det(left @ right))[..., None]
    return left @ right
