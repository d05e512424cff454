"""From keypoints in crops to poses in the image, and two networks side by side."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from scipy.spatial.transform import Rotation
from torch import nn

pytest.importorskip("mmpose")

from mmengine.registry import DefaultScope
from mmpose.structures import PoseDataSample

from mamba_mm.models.pose_estimators.hand_object import HandObjectEstimator
from mamba_mm.models.pose_estimators.object_pose_recovery import (
    pose_from_pixels,
    pose_from_points,
)
from mamba_mm.models.pose_estimators.topdown_object_pose import TopdownObjectPoseEstimator

POINTS = np.random.default_rng(0).normal(0, 0.03, (8, 3)) + np.array([0.01, 0, 0.005])
ROTATION = Rotation.from_euler("xyz", [20, 50, -100], degrees=True).as_matrix()
TRANSLATION = np.array([0.03, -0.02, 0.6])
CAM_K = np.array([[500.0, 0, 115], [0, 500, 105], [0, 0, 1]])


def pixels_of(points, matrix=CAM_K):
    rays = points @ matrix.T
    return rays[:, :2] / rays[:, 2:]


IN_CAMERA = POINTS @ ROTATION.T + TRANSLATION


# --- Recovery --------------------------------------------------------------------------------


def test_points_in_space_give_the_pose_back():
    found = pose_from_points(POINTS, IN_CAMERA)
    np.testing.assert_allclose(found.rotation, ROTATION, atol=1e-9)
    np.testing.assert_allclose(found.translation, TRANSLATION, atol=1e-9)


def test_the_fit_is_a_rotation_at_its_least_squares():
    rng = np.random.default_rng(1)
    noisy = IN_CAMERA + rng.normal(0, 0.004, (8, 3))

    def error(rotation, translation):
        return np.square(POINTS @ rotation.T + translation - noisy).sum()

    found = pose_from_points(POINTS, noisy)
    least = error(*found)
    for _ in range(20):
        turn = Rotation.from_rotvec(rng.normal(0, 0.02, 3)).as_matrix()
        assert error(turn @ found.rotation, found.translation) > least
        assert error(found.rotation, found.translation + rng.normal(0, 0.002, 3)) > least
    mirrored = pose_from_points(POINTS, IN_CAMERA * [-1, 1, 1])
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1)


def test_pixels_give_the_pose_back():
    found = pose_from_pixels(POINTS, pixels_of(IN_CAMERA), CAM_K)
    np.testing.assert_allclose(found.rotation, ROTATION, atol=1e-5)
    np.testing.assert_allclose(found.translation, TRANSLATION, atol=1e-5)
    # Refined: of noisy pixels no pose nearby is better.
    rng = np.random.default_rng(2)
    noisy = pixels_of(IN_CAMERA) + rng.normal(0, 1, (8, 2))
    rotation, translation = pose_from_pixels(POINTS, noisy, CAM_K)

    def error(rotation, translation):
        return np.square(pixels_of(POINTS @ rotation.T + translation) - noisy).sum()

    for _ in range(20):
        turn = Rotation.from_rotvec(rng.normal(0, 0.01, 3)).as_matrix()
        shift = rng.normal(0, 0.003, 3)
        assert error(turn @ rotation, translation + shift) > error(rotation, translation)


def test_pixels_that_give_no_pose():
    assert pose_from_pixels(POINTS, np.full((8, 2), 50.0), CAM_K) is None
    assert pose_from_pixels(POINTS, np.full((8, 2), np.nan), CAM_K) is None
    with pytest.raises(ValueError, match="4 points or more, got 3"):
        pose_from_pixels(POINTS[:3], np.zeros((3, 2)), CAM_K)
    with pytest.raises(ValueError, match=r"got \(8, 3\) and \(7, 2\)"):
        pose_from_pixels(POINTS, np.zeros((7, 2)), CAM_K)
    with pytest.raises(ValueError, match=r"got \(8, 3\) and \(8, 2\)"):
        pose_from_points(POINTS, np.zeros((8, 2)))
    with pytest.raises(ValueError, match="not finite"):
        pose_from_points(POINTS, IN_CAMERA * np.nan)


# --- The estimator ---------------------------------------------------------------------------

CENTER, SCALE, INPUT = np.array([150.0, 90]), np.array([60.0, 80]), (96, 128)


class Identity(nn.Module):
    """A backbone that has nothing to learn."""

    def forward(self, inputs):
        return (inputs,)


class HeadOfOneObject(nn.Module):
    """A head that predicts given keypoints, in pixels of the crop and in space."""

    def __init__(self, pixels, points, cam):
        super().__init__()
        self.output_model = SimpleNamespace(cam_scale_min=1.0)
        self.values = dict(
            keypoints=pixels[None],
            keypoint_scores=np.ones((1, 8)),
            keypoints_3d=points[None],
            cam=np.float64([cam]),
        )

    def predict(self, feats, samples, test_cfg=None):
        return [InstanceData(**{k: v.copy() for k, v in self.values.items()}) for _ in samples]


def object_sample(**others):
    truth = dict(
        bboxes=np.zeros((1, 4)),
        bbox_scores=np.ones(1),
        keypoints_model=POINTS[None],
        object_label=np.array([2]),
        cam_K=CAM_K[None],
        has_cam=np.ones(1),
    )
    sample = PoseDataSample(
        metainfo=dict(
            ori_shape=(210, 230),
            input_center=CENTER,
            input_scale=SCALE,
            input_size=INPUT,
            dataset_name="object_pose",
        )
    )
    sample.gt_instances = InstanceData(**{**truth, **others})
    return sample


def predicted(sample, points=None, pixels=None):
    points = IN_CAMERA - IN_CAMERA.mean(axis=0) if points is None else points
    image = pixels_of(IN_CAMERA) if pixels is None else pixels
    in_crop = (image - CENTER + SCALE / 2) / SCALE * INPUT
    # The camera of the crop that sees the mean of the points where it is.
    middle = IN_CAMERA.mean(axis=0)
    scale = 2 * 500 / (SCALE[1] * middle[2])
    shift = middle[:2] - (CENTER - CAM_K[:2, 2]) * middle[2] / 500
    model = TopdownObjectPoseEstimator(
        backbone=dict(type=Identity),
        head=dict(type=HeadOfOneObject, pixels=in_crop, points=points, cam=(scale, *shift)),
    )
    (found,) = model(torch.zeros(1, 3, 128, 96), [sample], mode="predict")
    return found.pred_instances


def test_both_poses_are_recovered_in_the_image():
    found = predicted(object_sample())
    for name in ("pnp", "fit"):
        np.testing.assert_allclose(found[f"{name}_rotation"][0], ROTATION, atol=1e-4)
        np.testing.assert_allclose(found[f"{name}_translation"][0], TRANSLATION, atol=1e-4)
    assert found.pnp_found.tolist() == [1]
    assert found.object_label.tolist() == [2]
    np.testing.assert_allclose(found.cam_translation[0], IN_CAMERA.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found.keypoints[0], pixels_of(IN_CAMERA), atol=1e-6)


def test_the_fit_stands_in_where_pnp_finds_nothing():
    found = predicted(object_sample(), pixels=np.full((8, 2), 100.0))
    assert found.pnp_found.tolist() == [0]
    np.testing.assert_array_equal(found.pnp_rotation, found.fit_rotation)
    np.testing.assert_array_equal(found.pnp_translation, found.fit_translation)


def test_without_a_camera_one_is_assumed():
    found = predicted(object_sample(has_cam=np.zeros(1)))
    assert found.focal_length[0] == pytest.approx(5000 / 256 * 230)
    assert found.principal_point.tolist() == [[115, 105]]
    assert found.pnp_translation[0, 2] > 3  # as far as the assumed focal length is too long


def test_what_the_object_is_must_be_known():
    sample = object_sample()
    del sample.gt_instances.keypoints_model
    with pytest.raises(ValueError, match="gt_instances have no keypoints_model"):
        predicted(sample)
    with pytest.raises(ValueError, match="flip_test"):
        TopdownObjectPoseEstimator(dict(type=Identity), test_cfg=dict(flip_test=True))


# --- Two networks ----------------------------------------------------------------------------


class Network(nn.Module):
    """A stand-in for an estimator: says what it was given."""

    def __init__(self, factor, data_preprocessor=None):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(factor)))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.unused_without_data = nn.Linear(2, 2)

    def forward(self, inputs, data_samples, mode):
        value = self.weight * inputs.mean(dim=(1, 2, 3))
        if mode == "tensor":
            return value
        if mode == "predict":
            for sample, own in zip(data_samples, value.tolist(), strict=True):
                sample.found = own
            return data_samples
        return dict(loss_a=value.mean() + self.unused_without_data.weight.sum() * 0)


def side_by_side(**settings):
    return HandObjectEstimator(
        hand=dict(type=Network, factor=1), object=dict(type=Network, factor=10), **settings
    )


def batch(names):
    samples = [PoseDataSample(metainfo=dict(dataset_name=name)) for name in names]
    inputs = torch.arange(1.0, len(names) + 1).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return inputs, samples


MIXED = ("object_pose", "hand_mesh", "object_pose")


def test_each_sample_goes_to_its_network_and_keeps_its_place():
    model = side_by_side()
    inputs, samples = batch(MIXED)
    found = model(inputs, samples, "predict")
    assert [sample.found for sample in found] == [10.0, 2.0, 30.0]
    assert found is samples
    both = model(inputs)
    assert both["hand"].tolist() == [1, 2, 3]
    assert both["object"].tolist() == [10, 20, 30]


def test_losses_are_named_by_kind():
    losses = side_by_side()(*batch(MIXED), "loss")
    assert {name: value.item() for name, value in losses.items()} == {
        "hand_loss_a": 2.0,
        "object_loss_a": 20.0,
    }


@pytest.mark.parametrize("kind", ["hand", "object"])
def test_a_network_without_samples_gets_gradients_of_zero(kind):
    model = side_by_side()
    other = dict(hand="object_pose", object="hand_mesh")[kind]
    losses = model(*batch([other] * 2), "loss")
    assert losses[f"{kind}_loss_absent"].item() == 0
    total, _ = model.parse_losses(losses)
    total.backward()
    for name, parameter in getattr(model, kind).named_parameters():
        assert name == "frozen" or (parameter.grad == 0).all(), name
    used = getattr(model, dict(hand="object", object="hand")[kind])
    assert used.weight.grad.item() == 1.5


def test_names_of_data_sets_decide():
    model = side_by_side(hand_datasets=["freihand_mesh"], object_datasets=["ycbv"])
    found = model(*batch(["ycbv", "freihand_mesh"]), "predict")
    assert [sample.found for sample in found] == [10.0, 2.0]
    with pytest.raises(ValueError, match="a sample of the data set 'hand_mesh'"):
        model(*batch(["hand_mesh"]), "loss")
    with pytest.raises(ValueError, match="unknown mode 'test'"):
        model(*batch(["ycbv"]), "test")
    with pytest.raises(ValueError, match=r"\['a'\] are named for hands and for objects"):
        side_by_side(hand_datasets=["a"], object_datasets=["a"])
    with pytest.raises(ValueError, match="network of the object has a data_preprocessor"):
        HandObjectEstimator(
            hand=dict(type=Network, factor=1),
            object=dict(type=Network, factor=1, data_preprocessor=dict()),
        )


def test_the_estimators_are_built_by_their_names():
    from mamba_mm.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmpose"):
        with pytest.raises(TypeError, match="hand"):
            MODELS.build(dict(type="mamba_mm.HandObjectEstimator"))
        with pytest.raises(TypeError, match="backbone"):
            MODELS.build(dict(type="mamba_mm.TopdownObjectPoseEstimator"))
