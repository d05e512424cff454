"""The 6-D pose of a rigid object from its keypoints: in space, or in the picture.

A pose takes the object's frame to the camera's, ``x_camera = rotation @ x_object + translation``,
in metres; x right, y down, z forward.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation

# Fewer pixels than that between keypoints say nothing about a pose.
_LEAST_SPREAD = 1e-3


class RigidPose(NamedTuple):
    """A pose.

    Attributes:
        rotation: ``(3, 3)``.
        translation: ``(3,)``, metres.
    """

    rotation: np.ndarray
    translation: np.ndarray


def pose_from_points(model: np.ndarray, points: np.ndarray) -> RigidPose:
    """Find the pose that brings keypoints of the model closest to keypoints in space.

    Least squares without scale and without reflection (Kabsch, 1976), as the size of a known
    object is known.

    Args:
        model: ``(K, 3)``, metres, in the object's frame; not all in one line.
        points: ``(K, 3)``, metres, in the camera's frame.

    Raises:
        ValueError: The shapes differ, or the points are not finite.
    """
    _check(model, points, 3)
    model, points = np.float64(model), np.float64(points)
    if not np.isfinite(points).all():
        raise ValueError("keypoints in space are not finite: has the training diverged?")
    center, center_of_points = model.mean(axis=0), points.mean(axis=0)
    rotation = nearest_rotation((points - center_of_points).T @ (model - center))
    return RigidPose(rotation, center_of_points - rotation @ center)


def pose_from_pixels(model: np.ndarray, pixels: np.ndarray, cam_K: np.ndarray) -> RigidPose | None:
    """Find the pose in which keypoints of the model are seen at these pixels (PnP).

    EPnP (Lepetit et al., IJCV 2009), then Levenberg-Marquardt on the distances in the picture. It
    takes all keypoints to be right; nothing is thrown out.

    Args:
        model: ``(K, 3)``, metres, in the object's frame; 4 points or more.
        pixels: ``(K, 2)``.
        cam_K: Intrinsics, ``(3, 3)``.

    Returns:
        The pose, or ``None`` if there is none in front of the camera, as for keypoints that
        coincide or are not finite.

    Raises:
        ValueError: The shapes do not agree, or there are fewer than 4 points.
    """
    _check(model, pixels, 2)
    if len(model) < 4:
        raise ValueError(f"a pose from pixels needs 4 points or more, got {len(model)}")
    model, pixels, cam_K = np.float64(model), np.float64(pixels), np.float64(cam_K)
    if not np.isfinite(pixels).all() or np.ptp(pixels, axis=0).max() < _LEAST_SPREAD:
        return None
    found, turn, shift = cv2.solvePnP(model, pixels, cam_K, None, flags=cv2.SOLVEPNP_EPNP)
    if not found or not np.isfinite([turn, shift]).all():
        return None
    turn, shift = cv2.solvePnPRefineLM(model, pixels, cam_K, None, turn, shift)
    pose = RigidPose(cv2.Rodrigues(turn)[0], shift.ravel())
    in_front = (model @ pose.rotation.T + pose.translation)[:, 2] > 0
    return pose if np.isfinite(pose.translation).all() and in_front.all() else None


def _check(model: np.ndarray, found: np.ndarray, dimensions: int) -> None:
    if model.ndim != 2 or model.shape[1] != 3 or found.shape != (len(model), dimensions):
        raise ValueError(
            f"a pose needs keypoints (K, 3) of the model and as many (K, {dimensions}) of the "
            f"object, got {model.shape} and {found.shape}"
        )
