"""From offsets to hands and points: means, files of means, precision."""

import numpy as np
import pytest
import torch
from hand_samples import TOY

from mamba_mm.models.body_models import MANOLayer
from mamba_mm.models.body_models.camera import project_crop
from mamba_mm.models.body_models.rotations import axis_angle_to_matrix, matrix_to_rotation_6d
from mamba_mm.models.heads import (
    DirectOutputModel,
    MANOOutputModel,
    default_mean_parameters,
    load_mean_parameters,
)
from mamba_mm.models.heads.output_models import OutputModel


def zeros(model, batch=2, dtype=torch.float32):
    return {name: torch.zeros(batch, size, dtype=dtype) for name, size in model.sizes.items()}


def hands_mean_rotations():
    mean = MANOLayer("toy").hands_mean
    return axis_angle_to_matrix(torch.cat([torch.zeros(3), mean]).unflatten(0, (16, 3)))


def test_no_offset_is_the_mean_hand_in_the_middle_of_the_crop():
    model = MANOOutputModel(**TOY)
    hand = model(zeros(model))
    assert model.sizes == dict(pose=96, betas=10, cam=3)
    torch.testing.assert_close(hand.rotations, hands_mean_rotations().expand(2, 16, 3, 3))
    assert (hand.betas == 0).all()
    assert hand.cam.tolist() == [[8.0, 0.0, 0.0]] * 2
    expected = MANOLayer("toy")(hand.rotations[:, :1], hand.rotations[:, 1:], hand.betas)
    torch.testing.assert_close(hand.vertices, expected.vertices)
    torch.testing.assert_close(hand.joints_3d, expected.joints)
    torch.testing.assert_close(hand.joints_2d, project_crop(expected.joints, hand.cam))
    assert hand.joints_2d.abs().max() < 0.5


def test_offsets_are_added_to_the_means():
    torch.manual_seed(0)
    model = MANOOutputModel(**TOY, cam_init=(7.0, 0.01, -0.02))
    offsets = {name: 0.1 * torch.randn_like(zero) for name, zero in zeros(model).items()}
    hand = model(offsets)
    torch.testing.assert_close(hand.betas, offsets["betas"])
    torch.testing.assert_close(hand.cam, torch.tensor([7.0, 0.01, -0.02]) + offsets["cam"])
    six = matrix_to_rotation_6d(hands_mean_rotations()) + offsets["pose"].unflatten(1, (16, 6))
    first = torch.nn.functional.normalize(six[..., :3], dim=-1)
    torch.testing.assert_close(hand.rotations[..., 0], first)


def test_the_scale_of_the_camera_has_a_floor():
    model = MANOOutputModel(**TOY, cam_scale_min=0.5)
    offsets = zeros(model)
    offsets["cam"][0, 0], offsets["cam"][1, 0] = -7.5, -20
    first, second = model(offsets).joints_2d
    torch.testing.assert_close(first, second)


def test_autocast_and_half_offsets_change_nothing():
    model = MANOOutputModel(**TOY)
    offsets = {name: 0.25 + zero for name, zero in zeros(model).items()}
    expected = model(offsets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hand = model({name: offset.bfloat16() for name, offset in offsets.items()})
    for got, wanted in zip(hand, expected, strict=True):
        assert got.dtype == torch.float32
        assert torch.equal(got, wanted)


def test_autocast_is_off_where_an_output_model_decodes():
    class Probe(OutputModel):
        def decode(self, cam):
            return cam @ torch.eye(3)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        cam = Probe(dict(cam=torch.full((3,), 1 / 3)), 0.1)(dict(cam=torch.zeros(1, 3)))
    assert cam.dtype == torch.float32


def test_double_precision_stays():
    model = MANOOutputModel(**TOY).double()
    assert {t.dtype for t in model(zeros(model, dtype=torch.float64))} == {torch.float64}


def test_no_array_of_the_hand_model_is_saved():
    assert MANOOutputModel(**TOY).state_dict() == {}


def test_direct_points():
    torch.manual_seed(0)
    means = torch.randn(8, 3)
    model = DirectOutputModel(8, mean_points=means.tolist(), cam_init=(5, 0, 0))
    assert model.sizes == dict(points=24, cam=3)
    offsets = {name: torch.randn_like(zero) for name, zero in zeros(model).items()}
    points = model(offsets)
    torch.testing.assert_close(points.joints_3d, means + offsets["points"].reshape(2, 8, 3))
    torch.testing.assert_close(points.joints_2d, project_crop(points.joints_3d, points.cam))
    assert (DirectOutputModel(3)(zeros(DirectOutputModel(3))).joints_3d == 0).all()


# --- files of mean parameters --------------------------------------------------------------


def write_means(path, interleaved=False, **changed):
    """A file as HaMeR's, whose mean pose is turned about all axes."""
    rotations = axis_angle_to_matrix(0.7 * torch.randn(16, 3, generator=torch.manual_seed(0)))
    pose = rotations[..., :2].flatten() if interleaved else matrix_to_rotation_6d(rotations)
    arrays = dict(pose=pose.flatten().numpy(), shape=np.arange(10) / 10, cam=[0.9, 0.0, 0.1])
    np.savez(path, **{k: v for k, v in (arrays | changed).items() if v is not None})
    return rotations


@pytest.mark.parametrize("interleaved", [False, True])
def test_means_of_a_file_in_either_layout(tmp_path, interleaved):
    path = tmp_path / "means.npz"
    rotations = write_means(path, interleaved)
    layout = "interleaved" if interleaved else "columns"
    model = MANOOutputModel(**TOY, mean_params=path, layout=layout)
    hand = model(zeros(model))
    torch.testing.assert_close(hand.rotations, rotations.expand(2, 16, 3, 3))
    torch.testing.assert_close(hand.betas[0], torch.arange(10) / 10)
    torch.testing.assert_close(hand.cam[0], torch.tensor([0.9, 0.0, 0.1]))


@pytest.mark.parametrize("interleaved", [False, True])
def test_the_wrong_layout_is_noticed(tmp_path, interleaved):
    path = tmp_path / "means.npz"
    write_means(path, interleaved)
    layout, other = ("columns", "interleaved") if interleaved else ("interleaved", "columns")
    with pytest.raises(ValueError, match=f"layout '{layout}'.*they are with layout='{other}'"):
        load_mean_parameters(path, layout)


def test_no_rotations_at_all_are_noticed(tmp_path):
    write_means(tmp_path / "means.npz", pose=np.full(96, 0.3))
    with pytest.raises(ValueError, match="nor are they in the other layout"):
        load_mean_parameters(tmp_path / "means.npz")


@pytest.mark.parametrize("cam", [(0.0, 0.0, 4.0), (-1.0, 0, 0)])
def test_a_camera_that_sees_nothing_is_refused_unless_replaced(tmp_path, cam):
    path = tmp_path / "means.npz"
    write_means(path, cam=cam)
    with pytest.raises(ValueError, match=r"'cam' must be \(s, tx, ty\) with s > 0"):
        load_mean_parameters(path)
    model = MANOOutputModel(**TOY, mean_params=path, cam_init=(8, 0, 0))
    assert model.mean_cam.tolist() == [8, 0, 0]
    with pytest.raises(ValueError, match=r"cam_init must be \(s, tx, ty\) with s > 0"):
        MANOOutputModel(**TOY, cam_init=cam)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (dict(pose=None), "has no array 'pose'; it has shape, cam"),
        (dict(shape=np.zeros(11)), "'shape' must be 10 finite numbers, got 11"),
        (dict(shape=np.full(10, np.nan)), "'shape' must be 10 finite numbers"),
        (dict(cam=[8.0, np.inf, 0]), "'cam' must be 3 finite numbers"),
    ],
)
def test_bad_files_are_refused(tmp_path, changed, named):
    write_means(tmp_path / "means.npz", **changed)
    with pytest.raises(ValueError, match=named):
        load_mean_parameters(tmp_path / "means.npz")


def test_files_are_read_without_running_code_from_them(tmp_path):
    write_means(tmp_path / "means.npz", pose=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_mean_parameters(tmp_path / "means.npz")


def test_default_means_are_those_of_the_hand_model():
    mean = torch.linspace(-1, 1, 45)
    parameters = default_mean_parameters(mean)
    sixes = parameters.pose.unflatten(0, (16, 6))
    assert sixes[0].tolist() == [1, 0, 0, 0, 1, 0]
    rotations = axis_angle_to_matrix(mean.unflatten(0, (15, 3)))
    torch.testing.assert_close(sixes[1:], matrix_to_rotation_6d(rotations))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: load_mean_parameters("x.npz", "rows"), "unknown layout 'rows'; known: columns"),
        (lambda: MANOOutputModel(**TOY, cam_scale_min=0), "cam_scale_min must be positive"),
        (lambda: DirectOutputModel(2, mean_points=[(0, 0, 0)]), "2 points of three numbers"),
        (lambda: DirectOutputModel(2, cam_init=(0, 0, 0)), "s > 0"),
        (lambda: MANOOutputModel(**TOY, cam_init=(8, 0)), "s > 0"),
    ],
)
def test_bad_options_are_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()


def test_an_output_model_must_say_how_it_decodes():
    with pytest.raises(TypeError, match=r"abstract method.*decode"):
        OutputModel(dict(cam=torch.ones(3)), 0.1)
