"""Cameras of the crop and of the full image agree with each other to a thousandth of a pixel."""

import pytest
import torch

from mamba_mm.models.body_models import (
    crop_camera,
    crop_translation,
    default_focal_length,
    full_image_translation,
    project_crop,
    project_pinhole,
)

PIXEL_TOLERANCE = 1e-3
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def numbers(dtype, *rows):
    return torch.tensor(rows, dtype=dtype)


def hands(dtype, depth=0.05):
    """Points of two hands, around 0.1 m wide."""
    points = torch.rand(2, 40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    return ((points - 0.5) * torch.tensor((0.18, 0.18, 2 * depth))).to(dtype)


def predicted(dtype):
    return numbers(dtype, (8.3, 0.02, -0.03), (6.1, -0.04, 0.01))


def boxes(dtype):
    return numbers(dtype, (420.3, 130.7), (77.0, 301.2)), numbers(dtype, 310.4, 97.3)


def crop_pixels(points, cam, box_center, box_side):
    """Where the crop's projection puts points in the full image."""
    return project_crop(points, cam) * box_side[:, None, None] + box_center[:, None]


def distance(first, second):
    return (first.double() - second.double()).abs().max().item()


def test_depth_of_a_crop():
    translation = crop_translation(torch.tensor([[8.0, 0.1, -0.2]]))
    assert torch.allclose(translation, torch.tensor([[0.1, -0.2, 10000 / (256 * 8)]]))


def test_crop_projection_by_hand():
    # At the depth 5000 / 1024 m one metre is 1024 pixels of 256.
    u = project_crop(torch.tensor([[[0.1, -0.05, 0.0]]]), torch.tensor([[8.0, 0.02, 0.01]]))
    assert torch.allclose(u, torch.tensor([[[0.12 * 4, -0.04 * 4]]]))
    # Farther points come closer to the centre, by the ratio of the depths.
    far = project_crop(
        torch.tensor([[[0.1, -0.05, 5000 / 1024]]]), torch.tensor([[8.0, 0.02, 0.01]])
    )
    assert torch.allclose(far, u / 2)


def test_scale_is_floored():
    cam = torch.tensor([[-3.0, 0.1, 0.2], [0.0, 0.1, 0.2], [0.05, 0.1, 0.2]], requires_grad=True)
    floored = torch.tensor([[0.1, 0.1, 0.2]]).expand(3, -1)
    assert torch.allclose(crop_translation(cam), crop_translation(floored))
    projected = project_crop(torch.zeros(3, 1, 3), cam)
    assert projected.isfinite().all()
    assert torch.allclose(crop_translation(cam, scale_min=2.0)[:, 2], torch.tensor(10000 / 512))
    box = torch.full((3, 2), 50.0), torch.full((3,), 20.0)
    camera = torch.full((3,), 500.0), torch.full((3, 2), 10.0)
    moved = full_image_translation(cam, *box, *camera)
    assert torch.allclose(moved, full_image_translation(floored, *box, *camera))
    projected.sum().backward()
    assert cam.grad.isfinite().all()


@PRECISIONS
def test_points_in_the_plane_of_the_hand_land_where_the_crop_has_them(dtype):
    points, cam = hands(dtype) * torch.tensor((1, 1, 0)), predicted(dtype)
    box_center, box_side = boxes(dtype)
    focal, principal = numbers(dtype, 611.0, 5021.0), numbers(dtype, (317.5, 241.0), (50, 9))
    translation = full_image_translation(cam, box_center, box_side, focal, principal)
    full = project_pinhole(points, translation, focal, principal)
    assert distance(full, crop_pixels(points, cam, box_center, box_side)) < PIXEL_TOLERANCE


@PRECISIONS
def test_all_points_do_with_the_focal_length_of_a_centred_box(dtype):
    points, cam = hands(dtype), predicted(dtype)
    box_center, box_side = boxes(dtype)
    focal = 5000 / 256 * box_side
    translation = full_image_translation(cam, box_center, box_side, focal, box_center)
    full = project_pinhole(points, translation, focal, box_center)
    assert distance(full, crop_pixels(points, cam, box_center, box_side)) < PIXEL_TOLERANCE


@PRECISIONS
def test_the_crop_camera_is_exact_for_all_points(dtype):
    points, cam = hands(dtype), predicted(dtype)
    box_center, box_side = boxes(dtype)
    full = project_pinhole(points, crop_translation(cam), *crop_camera(box_center, box_side))
    assert distance(full, crop_pixels(points, cam, box_center, box_side)) < PIXEL_TOLERANCE


def test_otherwise_the_full_image_is_an_approximation():
    points, cam = hands(torch.double), predicted(torch.double)
    box_center, box_side = boxes(torch.double)
    focal, principal = torch.full((2,), 600.0), torch.full((2, 2), 240.0)
    translation = full_image_translation(cam, box_center, box_side, focal, principal)
    full = project_pinhole(points, translation, focal, principal)
    error = distance(full, crop_pixels(points, cam, box_center, box_side))
    assert 1 < error < 0.5 * box_side.max()


@PRECISIONS
def test_left_hands_are_mirrored_back(dtype):
    """The network saw the image mirrored; the box is given as it is in the real one."""
    seen, cam = hands(dtype), predicted(dtype)
    box_center, box_side = boxes(dtype)
    width = 640
    mirrored_center = torch.stack((width - 1 - box_center[:, 0], box_center[:, 1]), -1)
    expected = crop_pixels(seen, cam, mirrored_center, box_side)
    expected = torch.stack((width - 1 - expected[..., 0], expected[..., 1]), -1)
    real, real_cam = seen * torch.tensor((-1, 1, 1)), cam * torch.tensor((1, -1, 1))
    exact = project_pinhole(real, crop_translation(real_cam), *crop_camera(box_center, box_side))
    assert distance(exact, expected) < PIXEL_TOLERANCE

    camera = numbers(dtype, 700.0, 640.0), numbers(dtype, (320.0, 240.0), (300, 200))
    translation = full_image_translation(real_cam, box_center, box_side, *camera)
    flat = torch.tensor((1, 1, 0))
    expected = crop_pixels(seen * flat, cam, mirrored_center, box_side)
    expected = torch.stack((width - 1 - expected[..., 0], expected[..., 1]), -1)
    assert distance(project_pinhole(real * flat, translation, *camera), expected) < PIXEL_TOLERANCE


def test_pinhole_by_hand():
    points = torch.tensor([[[0.1, -0.2, 0.5]]])
    principal = torch.tensor([[320.0, 240.0]])
    both = project_pinhole(points, None, torch.tensor([[500.0, 600.0]]), principal)
    assert torch.allclose(both, torch.tensor([[[420.0, 0.0]]]))
    moved = torch.tensor([[0.1, 0.2, 0.5]])
    one = project_pinhole(points, moved, torch.tensor([500.0]), principal)
    assert torch.allclose(one, torch.tensor([[[420.0, 240.0]]]))


def test_focal_lengths_of_a_batch_do_not_mix():
    points = torch.ones(2, 1, 3)
    pixels = project_pinhole(points, None, torch.tensor([100.0, 300.0]), torch.zeros(2, 2))
    assert pixels.flatten(1).tolist() == [[100, 100], [300, 300]]


def test_default_focal_length():
    assert default_focal_length((640, 480)) == 12500
    assert default_focal_length((480, 640)) == 12500


def test_half_precision_is_computed_in_float32():
    points, cam = hands(torch.float16), predicted(torch.float16)
    assert project_crop(points, cam).dtype == torch.float32
    assert crop_translation(cam).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = project_crop(points.float(), cam.float())
    assert torch.equal(inside, project_crop(points, cam))


def test_no_hands():
    none = torch.zeros(0, 21, 3)
    assert project_crop(none, none[:, 0]).shape == (0, 21, 2)
    pixels = project_pinhole(none, none[:, 0], torch.zeros(0), torch.zeros(0, 2))
    assert pixels.shape == (0, 21, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: crop_translation(torch.zeros(2, 4)), r"cam must.*\(B, 3\), got \(2, 4\)"),
        (lambda: project_crop(torch.zeros(21, 3), torch.zeros(1, 3)), r"points.*\(B, N, 3\)"),
        (
            lambda: project_pinhole(torch.zeros(1, 2, 3), None, torch.zeros(1), torch.zeros(2)),
            r"principal_point.*\(B, 2\), got \(2,\)",
        ),
        (lambda: crop_camera(torch.zeros(1, 2), torch.zeros(1, 1)), r"box_side.*\(B"),
        (
            lambda: full_image_translation(
                torch.zeros(1, 3),
                torch.zeros(1, 2),
                torch.zeros(1),
                torch.zeros(1, 2),
                torch.zeros(1, 2),
            ),
            r"focal_length.*got \(1, 2\)",
        ),
    ],
)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
