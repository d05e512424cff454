"""Forms of a hand pose and its mirror image.

MANO's pose of 45 numbers, three a joint, comes in three forms: *absolute* axis-angle, which
becomes the rotation matrices that :class:`~mamba_mm.models.body_models.MANOLayer` takes, *offsets*
from the mean pose (FreiHAND), and PCA *coefficients* (DexYCB). Offsets are added as axis-angle
vectors; rotations are not composed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def absolute_pose(pose: Tensor, hands_mean: Tensor, flat_hand_mean: bool = False) -> Tensor:
    """Turn a pose, as a data set or a tool of smplx' vocabulary gives it, into an absolute one.

    Args:
        pose: Axis-angle of joints 1 to 15, (..., 45).
        hands_mean: Mean pose of the model, (45,).
        flat_hand_mean: What smplx calls so: ``False`` means that ``pose`` is an offset from the
            mean, which is added; ``True`` that zeros are a flat hand: the pose is absolute.

    Returns:
        Absolute axis-angle, (..., 45).

    Raises:
        ValueError: When a shape is not the above.
    """
    _check_pose(pose, "absolute_pose")
    return pose if flat_hand_mean else pose + hands_mean


def pca_to_axis_angle(coefficients: Tensor, components: Tensor) -> Tensor:
    """Turn PCA coefficients into an offset from the mean pose.

    Args:
        coefficients: The first n <= 45 coefficients, (..., n).
        components: ``hands_components`` of the model, rows are components, (45, 45).

    Returns:
        Axis-angle, relative to the mean (see :func:`absolute_pose`), (..., 45).

    Raises:
        ValueError: There are more coefficients than components.
    """
    count = coefficients.shape[-1]
    if count > len(components):
        raise ValueError(
            f"pca_to_axis_angle: got {count} coefficients for {len(components)} components"
        )
    return coefficients @ components[:count]


def axis_angle_to_pca(offset: Tensor, components: Tensor) -> Tensor:
    """Turn an offset from the mean pose into all 45 PCA coefficients.

    The basis of MANO is not exactly orthonormal, so this solves a linear system.

    Args:
        offset: Axis-angle relative to the mean, (..., 45).
        components: As in :func:`pca_to_axis_angle`.

    Returns:
        Coefficients, (..., 45).

    Raises:
        ValueError: When the pose does not have 45 numbers.
    """
    _check_pose(offset, "axis_angle_to_pca")
    return torch.linalg.solve(components.T, offset[..., None])[..., 0]


def mirror_axis_angle(pose: Tensor) -> Tensor:
    """Mirror rotations at the plane x = 0: y and z of every axis-angle are negated.

    Args:
        pose: Axis-angle of any number of joints, (..., 3 k).

    Returns:
        The same shape.

    Raises:
        ValueError: The last dimension is not a multiple of 3.
    """
    if pose.shape[-1] % 3:
        raise ValueError(
            f"mirror_axis_angle: expected three numbers a joint, got the shape {tuple(pose.shape)}"
        )
    signs = pose.new_tensor((1, -1, -1)).repeat(pose.shape[-1] // 3)
    return pose * signs


def mirror_rotations(rotations: Tensor) -> Tensor:
    """Mirror rotations at the plane x = 0: M R M with M = diag(-1, 1, 1).

    Args:
        rotations: Matrices, (..., 3, 3).

    Returns:
        The same shape.

    Raises:
        ValueError: The last dimensions are not (3, 3).
    """
    if rotations.shape[-2:] != (3, 3):
        raise ValueError(
            f"mirror_rotations: expected (..., 3, 3), got the shape {tuple(rotations.shape)}"
        )
    return rotations * rotations.new_tensor(((1, -1, -1), (-1, 1, 1), (-1, 1, 1)))


def _check_pose(pose: Tensor, function: str) -> None:
    if pose.shape[-1] != 45:
        raise ValueError(
            f"{function}: expected 45 numbers, those of joints 1 to 15 without the global "
            f"orientation, got the shape {tuple(pose.shape)}"
        )
