"""Conversions of rotations: known values, round trips, gradients where formulas divide by zero."""

import math

import pytest
import torch

from mamba_mm.models.body_models import (
    axis_angle_to_matrix,
    interleaved_to_columns,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
    rotation_about_z,
)

HALF_PI = math.pi / 2
QUARTER_TURN_Z = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def random_axes(count, seed=0):
    axes = torch.randn(count, 3, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    return axes / axes.norm(dim=-1, keepdim=True)


def random_rotations(*shape, seed=0):
    numbers = torch.randn(
        *shape, 6, dtype=torch.double, generator=torch.Generator().manual_seed(seed)
    )
    return rotation_6d_to_matrix(numbers)


def exponential(axis_angle):
    """The rotation by its definition, the matrix exponential."""
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(cross)


def test_identity_in_six_numbers():
    eye = torch.eye(3)
    assert torch.equal(rotation_6d_to_matrix(torch.tensor([1.0, 0, 0, 0, 1, 0])), eye)
    assert matrix_to_rotation_6d(eye).tolist() == [1, 0, 0, 0, 1, 0]


def test_six_numbers_are_the_first_two_columns():
    # Read row by row, or interleaved, these would be another rotation.
    numbers = torch.tensor([0.0, 1, 0, -1, 0, 0])
    assert torch.allclose(rotation_6d_to_matrix(numbers), QUARTER_TURN_Z)
    assert matrix_to_rotation_6d(QUARTER_TURN_Z).tolist() == numbers.tolist()


def test_interleaved_layout_is_converted():
    # The first two columns, row by row.
    numbers = QUARTER_TURN_Z[:, :2].flatten()
    assert torch.allclose(rotation_6d_to_matrix(interleaved_to_columns(numbers)), QUARTER_TURN_Z)
    assert interleaved_to_columns(torch.tensor([1.0, 0, 0, 1, 0, 0])).tolist() == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("shape", [(), (3,), (3, 3), (2, 16), (0, 16)])
def test_six_numbers_make_rotations_of_any_batch(shape):
    # A batch of 3 is where a cross product without a dimension takes the wrong one.
    matrices = random_rotations(*shape)
    assert matrices.shape == (*shape, 3, 3)
    unit = (matrices.mT @ matrices - torch.eye(3)).abs()
    assert unit.numel() == 0 or unit.max() < 1e-12
    assert (torch.linalg.det(matrices) > 0).all()
    assert torch.allclose(rotation_6d_to_matrix(matrix_to_rotation_6d(matrices)), matrices)


def test_six_numbers_need_not_be_orthonormal():
    matrix = rotation_6d_to_matrix(torch.tensor([0.0, 3, 0, -2, 5, 0]))
    assert torch.allclose(matrix, QUARTER_TURN_Z)


@pytest.mark.parametrize(
    "numbers",
    [
        [0.0] * 6,
        [1.0, 0, 0, 1, 0, 0],
        [1e-20, 0, 0, 0, 1e-20, 0],
        [1.0, 2, 3, 1, 2, 3.0000002],
    ],
)
def test_near_degenerate_six_numbers_stay_finite(numbers):
    x = torch.tensor(numbers, requires_grad=True)
    matrix = rotation_6d_to_matrix(x)
    matrix.sum().backward()
    assert matrix.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0099, 0.0101, 1.0, 3.0, 3.5, 7.0])
def test_axis_angle_is_the_exponential(angle):
    vectors = angle * random_axes(8)
    assert (axis_angle_to_matrix(vectors) - exponential(vectors)).abs().max() < 1e-13


def test_axis_angle_turns_right_handed():
    assert torch.allclose(
        axis_angle_to_matrix(torch.tensor([0, 0, HALF_PI])), QUARTER_TURN_Z, atol=1e-6
    )


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 1.0, 2.0, math.pi - 1e-3, math.pi - 1e-7])
def test_axis_angle_round_trip(angle):
    vectors = angle * random_axes(64)
    back = matrix_to_axis_angle(axis_angle_to_matrix(vectors))
    assert (back - vectors).abs().max() < 1e-8 * max(angle, 1e-6)


def test_half_turns_are_found_up_to_their_sign():
    axes = torch.cat((random_axes(64), torch.eye(3, dtype=torch.double)))
    matrices = axis_angle_to_matrix(math.pi * axes)
    back = matrix_to_axis_angle(matrices)
    assert torch.allclose(back.norm(dim=-1), torch.full((67,), math.pi, dtype=torch.double))
    assert torch.allclose(axis_angle_to_matrix(back), matrices, atol=1e-12)


def test_angles_are_at_most_pi():
    vectors = 4.0 * random_axes(16)
    back = matrix_to_axis_angle(axis_angle_to_matrix(vectors))
    assert (back.norm(dim=-1) < math.pi).all()
    assert torch.allclose(axis_angle_to_matrix(back), axis_angle_to_matrix(vectors))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 0.5, 3.0])
def test_gradients_of_axis_angle(angle):
    vectors = (angle * random_axes(2)).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, vectors)
    # Through the matrix and back the gradient is that of the identity.
    matrix_to_axis_angle(axis_angle_to_matrix(vectors)).sum().backward()
    assert torch.allclose(vectors.grad, torch.ones_like(vectors), atol=1e-6)


def test_gradient_at_zero_in_float32():
    vector = torch.zeros(1, 3, requires_grad=True)
    matrix_to_axis_angle(axis_angle_to_matrix(vector)).sum().backward()
    assert torch.allclose(vector.grad, torch.ones(1, 3))


def test_gradient_of_a_half_turn_is_finite():
    matrix = torch.diag(torch.tensor([-1.0, -1, 1])).requires_grad_()
    matrix_to_axis_angle(matrix).sum().backward()
    assert matrix.grad.isfinite().all()


def test_gradients_of_six_numbers():
    x = matrix_to_rotation_6d(random_rotations(3)) * 1.7
    assert torch.autograd.gradcheck(rotation_6d_to_matrix, x.requires_grad_())


def test_rotation_about_z():
    angles = torch.tensor([[0.0, HALF_PI, -0.3]])
    vectors = torch.stack((0 * angles, 0 * angles, angles), -1)
    assert rotation_about_z(angles).shape == (1, 3, 3, 3)
    assert torch.allclose(rotation_about_z(angles), axis_angle_to_matrix(vectors), atol=1e-6)
    assert torch.allclose(rotation_about_z(angles[0, 1]), QUARTER_TURN_Z, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (rotation_6d_to_matrix, (5, 6)),
        (axis_angle_to_matrix, (5, 3)),
        (matrix_to_axis_angle, (5, 3, 3)),
        (rotation_about_z, (5,)),
    ],
)
def test_half_precision_is_computed_in_float32(function, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(x), function(x.clone()))
        inside = function(x)
    assert torch.equal(inside, function(x))
    assert function(x.half()).dtype == torch.float32
    assert torch.equal(function(x.half()), function(x.half().float()))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (rotation_6d_to_matrix, (2, 9)),
        (interleaved_to_columns, (2, 3)),
        (axis_angle_to_matrix, (2, 4)),
        (matrix_to_axis_angle, (2, 9)),
        (matrix_to_rotation_6d, (2, 9)),
    ],
)
def test_wrong_shapes_are_named(function, shape):
    with pytest.raises(
        ValueError, match=rf"{function.__name__}: expected.*\({shape[0]}, {shape[1]}\)"
    ):
        function(torch.zeros(shape))
