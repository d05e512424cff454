"""The pinhole camera in NumPy."""

from __future__ import annotations

import numpy as np


def project(points: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """Project points of the camera frame into the image.

    Args:
        points: Shape (..., N, 3), depth not zero.
        cam_K: Intrinsics, or any 3 x 3 matrix that maps rays to homogeneous pixels, (..., 3, 3).

    Returns:
        Pixels, (..., N, 2), float64: in float32 a hundredth of a pixel would be lost.
    """
    rays = np.asarray(points, np.float64) @ np.asarray(cam_K, np.float64).swapaxes(-1, -2)
    return rays[..., :2] / rays[..., 2:]
