"""Forms of a pose, and its mirror image."""

import pytest
import torch

from mamba_mm.models.body_models import (
    MANOLayer,
    absolute_pose,
    axis_angle_to_matrix,
    axis_angle_to_pca,
    mirror_axis_angle,
    mirror_rotations,
    pca_to_axis_angle,
)


@pytest.fixture(scope="module")
def layer():
    return MANOLayer("toy")


def poses(*shape):
    return 0.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_flat_hand_mean_false_adds_the_mean(layer):
    offset = poses(4, 45)
    absolute = absolute_pose(offset, layer.hands_mean)
    assert torch.equal(absolute, offset + layer.hands_mean)
    assert (absolute - offset).abs().max() > 0.1
    assert absolute_pose(offset, layer.hands_mean, flat_hand_mean=True) is offset


def test_matrices_ignore_the_mean(layer):
    eye = torch.eye(3).expand(1, 16, 3, 3)
    zeros, betas = torch.zeros(1, 45), torch.zeros(1, 10)
    flat = layer(eye[:, :1], eye[:, 1:], betas)
    assert (flat.vertices[0] - layer.v_template).abs().max() < 1e-6
    mean = absolute_pose(zeros, layer.hands_mean).unflatten(1, (15, 3))
    curled = layer(eye[:, :1], axis_angle_to_matrix(mean), betas)
    assert (curled.vertices - flat.vertices).norm(dim=-1).max() > 1e-2


def test_pca(layer):
    coefficients = poses(3, 45)
    full = pca_to_axis_angle(coefficients, layer.hands_components)
    for row in range(45):  # rows, not columns, are components
        unit = torch.eye(45)[row]
        assert torch.equal(
            pca_to_axis_angle(unit, layer.hands_components), layer.hands_components[row]
        )
    first = pca_to_axis_angle(coefficients[:, :6], layer.hands_components)
    cut = coefficients * (torch.arange(45) < 6)
    assert torch.allclose(first, pca_to_axis_angle(cut, layer.hands_components), atol=1e-6)
    assert torch.allclose(axis_angle_to_pca(full, layer.hands_components), coefficients, atol=1e-5)


def test_pca_of_a_skewed_basis(layer):
    """The basis of MANO is not exactly orthonormal; its transpose is not its inverse."""
    basis = layer.hands_components.double() + 0.02 * poses(45, 45).double()
    coefficients = poses(2, 45).double()
    back = axis_angle_to_pca(pca_to_axis_angle(coefficients, basis), basis)
    assert torch.allclose(back, coefficients, atol=1e-10)


def test_mirroring_matrices_is_mirroring_axes():
    pose = poses(5, 48)
    mirrored = axis_angle_to_matrix(mirror_axis_angle(pose).unflatten(1, (16, 3)))
    expected = mirror_rotations(axis_angle_to_matrix(pose.unflatten(1, (16, 3))))
    assert torch.allclose(mirrored, expected, atol=1e-6)
    reflection = torch.diag(torch.tensor([-1.0, 1, 1]))
    matrix = axis_angle_to_matrix(pose[0, :3])
    assert torch.allclose(mirror_rotations(matrix), reflection @ matrix @ reflection)
    assert mirror_axis_angle(torch.tensor([1.0, 2, 3, 4, 5, 6])).tolist() == [1, -2, -3, 4, -5, -6]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: absolute_pose(torch.zeros(2, 48), torch.zeros(45)), "45 numbers.*got.*48"),
        (lambda: axis_angle_to_pca(torch.zeros(2, 6), torch.eye(45)), "45 numbers.*got.*6"),
        (lambda: pca_to_axis_angle(torch.zeros(2, 46), torch.eye(45)), "got 46 coefficients"),
        (lambda: mirror_axis_angle(torch.zeros(2, 4)), r"three numbers a joint.*\(2, 4\)"),
        (lambda: mirror_rotations(torch.zeros(2, 3)), r"expected \(..., 3, 3\).*\(2, 3\)"),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
