"""Rotations as matrices, axis-angle vectors and six numbers, differentiable everywhere.

All functions compute in float32 at least, also under autocast: in 16 bits a matrix is visibly not
orthogonal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Below these squares the closed forms divide zero by zero; their series are exact to float64.
_SMALL_ANGLE_SQUARED = 1e-4
_SMALL_SINE_SQUARED = 1e-8


def rotation_6d_to_matrix(x: Tensor) -> Tensor:
    """Turn six numbers into a rotation by Gram and Schmidt (Zhou et al., CVPR 2019, section 4.2).

    The first three numbers stand for the first *column*, the next three for the second, so the
    identity is (1, 0, 0, 0, 1, 0). For the other layout in circulation, see
    :func:`interleaved_to_columns`.

    Args:
        x: Shape (..., 6).

    Returns:
        Rotation matrices, (..., 3, 3).

    Raises:
        ValueError: The last dimension is not 6.
    """
    _check_last(x, (6,), "rotation_6d_to_matrix")
    with _no_autocast(x):
        first, second = _at_least_float32(x).split(3, dim=-1)
        b1 = F.normalize(first, dim=-1, eps=1e-12)
        b2 = second - (b1 * second).sum(-1, keepdim=True) * b1
        b2 = F.normalize(b2, dim=-1, eps=1e-12)
        # Without ``dim`` the cross product would run over a batch of three.
        b3 = torch.linalg.cross(b1, b2, dim=-1)
        return torch.stack((b1, b2, b3), dim=-1)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Take the first column and the second column of a matrix; inverts the above.

    Args:
        matrix: Rotations, (..., 3, 3).

    Returns:
        Shape (..., 6).

    Raises:
        ValueError: The last dimensions are not (3, 3).
    """
    _check_last(matrix, (3, 3), "matrix_to_rotation_6d")
    return torch.cat((matrix[..., 0], matrix[..., 1]), dim=-1)


def interleaved_to_columns(x: Tensor) -> Tensor:
    """Convert six numbers in the row-wise 3 x 2 layout, where (1, 0, 0, 1, 0, 0) is the identity.

    SPIN and its descendants write their mean parameters this way. Nothing in the numbers tells
    the layouts apart: whoever reads a file must know which one it has.

    Args:
        x: Shape (..., 6), interleaved.

    Returns:
        The same rotations as :func:`rotation_6d_to_matrix` reads them, (..., 6).

    Raises:
        ValueError: The last dimension is not 6.
    """
    _check_last(x, (6,), "interleaved_to_columns")
    return torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    r"""Turn axis times angle into a matrix by Rodrigues' formula.

    :math:`R = I + a K + b K^2`, with :math:`a = \sin\theta / \theta`,
    :math:`b = (1 - \cos\theta) / \theta^2` and their series near 0, where the gradient is finite.

    Args:
        axis_angle: Radians, (..., 3).

    Returns:
        Rotation matrices, (..., 3, 3).

    Raises:
        ValueError: The last dimension is not 3.
    """
    _check_last(axis_angle, (3,), "axis_angle_to_matrix")
    with _no_autocast(axis_angle):
        v = _at_least_float32(axis_angle)
        square = (v * v).sum(-1)
        small = square < _SMALL_ANGLE_SQUARED
        # The branch that is not taken is differentiated too, so it gets a harmless angle.
        angle = torch.where(small, torch.ones_like(square), square).sqrt()
        half_sine = torch.sin(angle / 2)
        a = torch.where(small, 1 - square / 6 + square**2 / 120, torch.sin(angle) / angle)
        b = torch.where(small, 0.5 - square / 24 + square**2 / 720, 2 * half_sine**2 / angle**2)
        a, b = a[..., None, None], b[..., None, None]
        eye = torch.eye(3, dtype=v.dtype, device=v.device)
        # K^2 = v v^T - |v|^2 I
        k_squared = v[..., :, None] * v[..., None, :] - square[..., None, None] * eye
        return eye + a * _cross_matrix(v) + b * k_squared


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Turn a rotation matrix into axis times angle, the angle in [0, pi].

    The way leads over the unit quaternion q: the matrix gives all products q_i q_j without a
    root, and the largest of four rows divides well for every angle, also near pi.

    Args:
        matrix: Rotations, (..., 3, 3).

    Returns:
        Radians, (..., 3).

    Raises:
        ValueError: The last dimensions are not (3, 3).
    """
    _check_last(matrix, (3, 3), "matrix_to_axis_angle")
    with _no_autocast(matrix):
        q = _quaternion(_at_least_float32(matrix))
        real, imaginary = q[..., 0], q[..., 1:]
        square = (imaginary * imaginary).sum(-1)
        small = square < _SMALL_SINE_SQUARED
        sine = torch.where(small, torch.ones_like(square), square).sqrt()
        cosine = torch.where(small, real, torch.ones_like(real))
        factor = torch.where(
            small,
            2 / cosine * (1 - square / (3 * cosine**2)),
            2 * torch.atan2(sine, real) / sine,
        )
        return factor[..., None] * imaginary


def rotation_about_z(angle: Tensor) -> Tensor:
    """Rotate about z, that is in the image plane; positive turns x towards y.

    Args:
        angle: Radians, any shape (...).

    Returns:
        Rotation matrices, (..., 3, 3).
    """
    angle = _at_least_float32(angle)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = (cosine, -sine, zero, sine, cosine, zero, zero, zero, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _cross_matrix(v: Tensor) -> Tensor:
    """Matrices K with K w = v x w."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).unflatten(-1, (3, 3))


def _quaternion(m: Tensor) -> Tensor:
    """Unit quaternions (w, x, y, z), w >= 0."""
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = (
        m[..., 2, 1] - m[..., 1, 2],
        m[..., 0, 2] - m[..., 2, 0],
        m[..., 1, 0] - m[..., 0, 1],
    )
    xy, xz, yz = (
        m[..., 1, 0] + m[..., 0, 1],
        m[..., 0, 2] + m[..., 2, 0],
        m[..., 2, 1] + m[..., 1, 2],
    )
    # Four times the outer product of q with itself; every row is a multiple of q.
    products = torch.stack(
        (
            torch.stack((1 + xx + yy + zz, wx, wy, wz), dim=-1),
            torch.stack((wx, 1 + xx - yy - zz, xy, xz), dim=-1),
            torch.stack((wy, xy, 1 - xx + yy - zz, yz), dim=-1),
            torch.stack((wz, xz, yz, 1 - xx - yy + zz), dim=-1),
        ),
        dim=-2,
    )
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = torch.take_along_dim(products, largest[..., None, None], dim=-2).squeeze(-2)
    q = F.normalize(row, dim=-1)
    return torch.where(q[..., :1] < 0, -q, q)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _no_autocast(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, enabled=False)


def _check_last(x: Tensor, expected: tuple[int, ...], function: str) -> None:
    if tuple(x.shape[-len(expected) :]) != expected:
        sizes = ", ".join(map(str, expected))
        raise ValueError(f"{function}: expected the shape (..., {sizes}), got {tuple(x.shape)}")
