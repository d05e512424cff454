"""Cameras of pictures that the caller knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .inputs import Frame


class GivenCameras:
    """Intrinsics by picture.

    Args:
        cam_K: ``(3, 3)``, which holds for every picture, or one for each, ``(N, 3, 3)``.
        focal_length: Pixels; instead of ``cam_K``, for a camera that looks at the middle of the
            picture.

    Raises:
        ValueError: Both are given, or one is no camera.
    """

    def __init__(
        self, cam_K: np.ndarray | Sequence | None = None, focal_length: float | None = None
    ) -> None:
        if cam_K is not None and focal_length is not None:
            raise ValueError("give cam_K or focal_length, not both")
        if focal_length is not None and not 0 < focal_length < np.inf:
            raise ValueError(f"focal_length is a positive number of pixels, got {focal_length}")
        self._matrices = None if cam_K is None else _checked(np.asarray(cam_K, np.float32))
        self._focal_length = focal_length

    def __call__(self, frame: Frame) -> np.ndarray | None:
        """Return the intrinsics ``(3, 3)`` of a picture; ``None`` if the caller said nothing.

        Raises:
            ValueError: There are intrinsics for fewer pictures.
        """
        if self._focal_length is not None:
            height, width = frame.image.shape[:2]
            return np.array(
                [
                    [self._focal_length, 0, width / 2],
                    [0, self._focal_length, height / 2],
                    [0, 0, 1],
                ],
                np.float32,
            )
        if self._matrices is None or self._matrices.ndim == 2:
            return self._matrices
        if frame.position >= len(self._matrices):
            raise ValueError(
                f"{frame.source.name} is picture {frame.position}, counted from 0, but cam_K has "
                f"{len(self._matrices)} matrices; give one (3, 3) if it holds for all"
            )
        return self._matrices[frame.position]


def _checked(matrices: np.ndarray) -> np.ndarray:
    if matrices.shape[-2:] != (3, 3) or matrices.ndim not in (2, 3):
        raise ValueError(f"cam_K is (3, 3) or (N, 3, 3), got {matrices.shape}")
    focal_lengths = matrices[..., [0, 1], [0, 1]]
    if not np.isfinite(matrices).all() or not (focal_lengths > 0).all():
        raise ValueError(
            "cam_K is [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels with positive focal lengths, "
            f"got {matrices.tolist()}"
        )
    return matrices
