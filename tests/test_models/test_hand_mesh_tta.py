"""Test-time augmentation, against the transforms that turn labels with the crop."""

import numpy as np
import pytest
import torch
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from scipy.spatial.transform import Rotation

pytest.importorskip("mmpose")
from mmpose.structures import PoseDataSample

from mamba_mm.datasets.transforms.rot_scale_test_time_aug import (
    RotScaleTestTimeAug,
    augmentations,
    rot_scale_pipeline,
)
from mamba_mm.models.body_models.camera import project_pinhole
from mamba_mm.models.pose_estimators.hand_mesh_tta import HandMeshTTAModel, merge_augmented

WIDTH, HEIGHT = 200, 160
BOX = [60.0, 40, 140, 120]
PIPELINE = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=(96, 128), use_udp=False),
    dict(type="GenerateTarget", encoder=dict(type="mamba_mm.MANOLabel", input_size=(96, 128))),
    dict(type="PackPoseInputs", meta_keys=("ori_shape", "input_center", "input_scale", "flipped")),
]
SCALES, ROTATIONS = (0.8, 1.0), (-90, 0, 30)


def hand(is_right):
    """A hand in space, whose labels the pipeline turns with every crop."""
    rng = np.random.default_rng(0)
    # Far before the camera, as only its shape counts.
    joints = rng.uniform(-0.08, 0.08, (1, 21, 3)) + np.array([0, 0, 0.6])
    pixels = joints[..., :2] / joints[..., 2:] * 400 + [WIDTH / 2, HEIGHT / 2]
    fields = dict(
        img=rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8),
        img_path="a.jpg",
        bbox=[BOX],
        bbox_score=[1.0],
        is_right=[is_right],
        keypoints=pixels,
        keypoints_visible=np.ones((1, 21)),
        keypoints_cam=joints,
        keypoints_cam_valid=np.ones((1, 21)),
        vertices_cam=rng.uniform(-0.08, 0.08, (1, 778, 3)) + np.array([0, 0, 0.6]),
        mano_pose=rng.normal(0, 0.6, (1, 48)),
        mano_betas=rng.normal(size=(1, 10)),
        **{name: [1.0] for name in ("has_3d", "has_mano", "has_vertices")},
    )
    return {
        name: value if name in ("img", "img_path") else np.asarray(value, np.float32)
        for name, value in fields.items()
    }


def crops_of(is_right, scales=SCALES, rotations=ROTATIONS):
    with DefaultScope.overwrite_default_scope("mmpose"):
        pipeline = Compose(rot_scale_pipeline(PIPELINE, scales, rotations))
    return pipeline(hand(is_right))


def perfect_predictions(samples, is_right):
    """What a network predicts that is never wrong: the labels of every crop, in a photograph."""
    for sample in samples:
        labels = sample.gt_instance_labels
        mirror = np.float32([1 if is_right else -1, 1, 1])
        count = len(labels.keypoints_3d)
        sample.pred_instances = InstanceData(
            keypoints=np.zeros((count, 21, 2), np.float32),
            keypoint_scores=np.ones((count, 21), np.float32),
            keypoints_3d=labels.keypoints_3d.numpy() * mirror,
            vertices=labels.vertices_3d.numpy() * mirror,
            mano_rotations=np.concatenate(
                [labels.mano_global_orient.numpy(), labels.mano_hand_pose.numpy()], axis=1
            ),
            mano_betas=labels.mano_betas.numpy(),
            cam_translation=np.float32([[0.1, 0.2, 9]]),
            crop_camera_translation=np.float32([[0.01, 0.02, 5]]),
            crop_focal_length=np.float32([2000]),
            crop_principal_point=np.float32([[90, 70]]),
        )
    return samples


@pytest.mark.parametrize("is_right", [True, False])
class TestPerfectPredictions:
    @pytest.fixture
    def samples(self, is_right):
        return perfect_predictions(crops_of(is_right)["data_samples"], is_right)

    def test_their_mean_is_each_of_them(self, samples):
        plain = samples[0].pred_instances.clone()
        assert np.abs(samples[1].pred_instances.vertices - plain.vertices).max() > 0.05
        merged = merge_augmented(samples).pred_instances
        for name in ("keypoints_3d", "vertices", "mano_rotations", "mano_betas"):
            assert merged[name].dtype == np.float32
            np.testing.assert_allclose(merged[name], plain[name], atol=2e-6, err_msg=name)

    def test_the_camera_stays_and_sees_the_joints(self, samples):
        plain = samples[0].pred_instances.clone()
        merged = merge_augmented(samples).pred_instances
        for name in ("cam_translation", "crop_camera_translation", "crop_focal_length"):
            np.testing.assert_array_equal(merged[name], plain[name])
        seen = project_pinhole(
            *(
                torch.from_numpy(plain[name])
                for name in (
                    "keypoints_3d",
                    "crop_camera_translation",
                    "crop_focal_length",
                    "crop_principal_point",
                )
            )
        )
        np.testing.assert_allclose(merged.keypoints, seen, atol=1e-3)

    def test_size_and_place_of_a_prediction_do_not_matter(self, samples):
        plain = samples[0].pred_instances.clone()
        for number, sample in enumerate(samples[1:]):
            for name in ("keypoints_3d", "vertices"):
                sample.pred_instances[name] *= 1 + 0.1 * number
                sample.pred_instances[name] += np.float32([0.01, 0.02, 0.03])
        merged = merge_augmented(samples).pred_instances
        for name in ("keypoints_3d", "vertices"):
            np.testing.assert_allclose(merged[name], plain[name], atol=2e-6, err_msg=name)

    def test_errors_of_single_predictions_average_out(self, is_right):
        samples = crops_of(is_right, (0.9, 1.0, 1.1), range(-40, 41, 10))["data_samples"]
        samples = perfect_predictions(samples, is_right)
        truth = samples[0].pred_instances.vertices.copy()
        rng = np.random.default_rng(1)
        for sample in samples:
            sample.pred_instances.vertices += rng.normal(0, 0.002, truth.shape).astype(np.float32)
        before = np.linalg.norm(samples[0].pred_instances.vertices - truth, axis=-1).mean()
        after = np.linalg.norm(merge_augmented(samples).pred_instances.vertices - truth, axis=-1)
        # 27 predictions; that they are aligned to a noisy one costs a little (the more noise, the
        # smaller is the hand that fits best).
        assert after.mean() < 1.25 * before / np.sqrt(27)


def test_joints_go_where_the_mesh_goes():
    samples = perfect_predictions(crops_of(True)["data_samples"], True)
    # Joints that do not fit the mesh have no say in how it is aligned.
    samples[1].pred_instances.keypoints_3d[0, 0] += 1.0
    plain = samples[0].pred_instances.clone()
    merged = merge_augmented(samples).pred_instances
    np.testing.assert_allclose(merged.vertices, plain.vertices, atol=2e-6)
    np.testing.assert_allclose(merged.keypoints_3d[0, 1:], plain.keypoints_3d[0, 1:], atol=2e-6)
    moved = merged.keypoints_3d[0, 0] - plain.keypoints_3d[0, 0]
    assert np.linalg.norm(moved) == pytest.approx(np.sqrt(3) / len(samples), rel=1e-3)


def test_points_without_a_mesh():
    samples = perfect_predictions(crops_of(True)["data_samples"], True)
    for sample in samples:
        for name in ("vertices", "mano_rotations", "mano_betas"):
            sample.pred_instances.pop(name)
    plain = samples[0].pred_instances.clone()
    merged = merge_augmented(samples).pred_instances
    np.testing.assert_allclose(merged.keypoints_3d, plain.keypoints_3d, atol=2e-6)


def test_rotations_are_averaged_to_a_rotation():
    samples = perfect_predictions(crops_of(True, (1.0,), (-10, 0, 10))["data_samples"], True)
    for sample, degrees in zip(samples, (0, 60, -30), strict=True):
        rotations = sample.pred_instances.mano_rotations
        rotations[0, 4] = Rotation.from_euler("x", degrees, degrees=True).as_matrix()
    expected = (
        Rotation.from_rotvec([[0, 0, 0], [60, 0, 0], [-30, 0, 0]], degrees=True).mean().as_matrix()
    )
    merged = merge_augmented(samples).pred_instances.mano_rotations
    np.testing.assert_allclose(merged[0, 4], expected, atol=1e-6)


def test_samples_say_what_was_done_and_the_model_merges_each():
    class Perfect(torch.nn.Module):
        def test_step(self, data):
            return perfect_predictions(data["data_samples"], True)

    crops = crops_of(True)
    batch = {name: [[one, one] for one in values] for name, values in crops.items()}
    merged = HandMeshTTAModel(Perfect()).test_step(batch)
    assert len(merged) == 2
    assert merged[0].test_time_augmentation == "rot_scale_tta of 6 crops"


@pytest.mark.parametrize("name", ["vertices", "mano_rotations"])
def test_predictions_that_are_not_finite_are_named(name):
    samples = perfect_predictions(crops_of(True)["data_samples"], True)
    samples[3].pred_instances[name][0, 2] = np.nan
    with pytest.raises(ValueError, match=rf"\({name}\).* scale 0.8 rotated by 30 .*not finite"):
        merge_augmented(samples)


def test_other_crops_are_refused():
    with pytest.raises(ValueError, match="not the one without augmentation"):
        merge_augmented([PoseDataSample()])


class TestCrops:
    def test_the_plain_one_is_first_and_all_say_what_they_are(self):
        samples = crops_of(True)["data_samples"]
        assert [(one.tta_scale, one.tta_rotation) for one in samples] == [
            (1.0, 0.0),
            (0.8, -90.0),
            (0.8, 0.0),
            (0.8, 30.0),
            (1.0, -90.0),
            (1.0, 30.0),
        ]
        heights = [float(one.input_scale[1]) for one in samples]
        full = 80 / 0.75
        assert heights == pytest.approx([full, *[0.8 * full] * 3, full, full])

    def test_the_plain_one_is_that_of_the_plain_pipeline(self):
        with DefaultScope.overwrite_default_scope("mmpose"):
            plain = Compose(PIPELINE)(hand(False))
        crops = crops_of(False)
        assert torch.equal(crops["inputs"][0], plain["inputs"])
        for name in ("keypoint_labels", "keypoints_3d", "mano_global_orient"):
            labels = [one.gt_instance_labels[name] for one in (crops["data_samples"][0],)]
            assert torch.equal(labels[0], plain["data_samples"].gt_instance_labels[name])

    def test_the_picture_turns_against_the_box(self):
        """By -90 degrees: what was at the top is at the right, in a square crop."""
        pipeline = [
            dict(type="TopdownAffine", input_size=(64, 64)),
            dict(type="PackPoseInputs", meta_keys=()),
        ]
        image = np.zeros((64, 64, 3), np.uint8)
        image[:16] = 255
        with DefaultScope.overwrite_default_scope("mmpose"):
            augment = RotScaleTestTimeAug(pipeline, (1.0,), (0, -90))
        results = dict(
            img=image, bbox_center=np.float32([[31.5, 31.5]]), bbox_scale=np.float32([[64, 64]])
        )
        _, turned = augment(results)["inputs"]
        assert turned[0, 20:44, 52:60].float().mean() > 250
        assert turned[0, 20:44, 4:44].float().mean() < 5

    def test_all_of_the_paper(self):
        pairs = augmentations((0.7, 0.8, 0.9, 1.0, 1.1), range(-90, 91, 10))
        assert len(set(pairs)) == 95
        with DefaultScope.overwrite_default_scope("mmpose"):
            assert RotScaleTestTimeAug([]).augmentations == pairs

    @pytest.mark.parametrize(
        ("scales", "rotations", "message"),
        [
            ((0.9, 1.1), (0,), "scales need 1 and rotations 0"),
            ((1,), (10,), "scales need 1 and rotations 0"),
            ((1, 0), (0,), "a scale is positive, got 0"),
            ((1,), (0, np.inf), "a rotation is degrees, got inf"),
        ],
    )
    def test_mistakes(self, scales, rotations, message):
        with pytest.raises(ValueError, match=message):
            augmentations(scales, rotations)

    def test_a_pipeline_that_does_not_crop(self):
        with pytest.raises(ValueError, match="needs a TopdownAffine; it has LoadImage"):
            rot_scale_pipeline(PIPELINE[:1])

    def test_labels_are_turned_once(self):
        pipeline = [*PIPELINE[:4], dict(type="mamba_mm.MeshRotate"), *PIPELINE[4:]]
        inner = rot_scale_pipeline(pipeline)[-1]["transforms"]
        assert [one["type"] for one in inner].count("mamba_mm.MeshRotate") == 1
        assert len(pipeline) == 7
