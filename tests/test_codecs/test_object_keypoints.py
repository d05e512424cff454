"""The codec of objects: every symmetric pose lands where the camera would see it."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("mmpose")

from mmengine.registry import TRANSFORMS, DefaultScope
from mmpose.datasets.transforms import PackPoseInputs

from mamba_mm.codecs import ObjectKeypointLabel
from mamba_mm.datasets.object_pose.record import object_record
from mamba_mm.datasets.object_pose.symmetries import symmetry_transforms

INPUT = (96, 128)
CAM_K = np.array([[500.0, 0, 115], [0, 500, 105], [0, 0, 1]])
SYMMETRIES = symmetry_transforms(
    dict(symmetries_continuous=[dict(axis=[0.2, 0, 1], offset=[4, -6, 3])]), steps=3
)
POINTS = np.random.default_rng(0).normal(0, 0.03, (8, 3))
ROTATION = Rotation.from_euler("xyz", [20, 50, -100], degrees=True).as_matrix()
TRANSLATION = np.array([0.03, -0.02, 0.6])


def record(**settings):
    values = dict(
        img_path="none.jpg",
        img_id=1,
        id=2,
        bbox=[60, 30, 190, 150],
        label=3,
        keypoints_model=POINTS,
        symmetries=SYMMETRIES,
        rotation=ROTATION,
        translation=TRANSLATION,
        cam_K=CAM_K,
    )
    return object_record("a test", **{**values, **settings})


def through_pipeline(degrees, turn_labels=True, **settings):
    results = record(**settings) | dict(
        img=np.zeros((224, 224, 3), np.uint8), bbox_rotation=np.array([degrees])
    )
    steps = [
        dict(type="GetBBoxCenterScale", padding=1.25),
        dict(type="TopdownAffine", input_size=INPUT, use_udp=False),
        *([dict(type="mamba_mm.MeshRotate")] if turn_labels else []),
        dict(
            type="GenerateTarget",
            encoder=dict(type="mamba_mm.ObjectKeypointLabel", input_size=INPUT),
        ),
    ]
    with DefaultScope.overwrite_default_scope("mmpose"):
        for step in steps:
            results = TRANSFORMS.build(step)(results)
    return results


@pytest.mark.parametrize("degrees", [0.0, 35.0])
def test_each_symmetric_pose_is_labelled_as_if_it_were_the_given_one(degrees):
    found = through_pipeline(degrees)
    assert found["keypoint_labels"].shape == (1, 3, 8, 2)
    middle = np.array(INPUT) / 2
    for index, motion in enumerate(SYMMETRIES):
        other = through_pipeline(
            degrees,
            rotation=ROTATION @ motion[:3, :3],
            translation=ROTATION @ motion[:3, 3] + TRANSLATION,
        )
        # MMPose's own way from the image to the crop, and MeshRotate's.
        pixels = found["keypoint_labels"][0, index] * INPUT[1] + middle
        np.testing.assert_allclose(pixels, other["transformed_keypoints"][0], atol=2e-3)
        np.testing.assert_allclose(
            found["keypoints_3d"][0, index], other["keypoints_cam"][0], atol=1e-6
        )


def test_labels_are_packed():
    sample = PackPoseInputs(meta_keys=())(through_pipeline(0.0))["data_samples"]
    truth, labels = sample.gt_instances, sample.gt_instance_labels
    np.testing.assert_allclose(truth.object_rotation[0], ROTATION, atol=1e-6)
    np.testing.assert_allclose(truth.object_translation[0], TRANSLATION, atol=1e-6)
    np.testing.assert_allclose(truth.keypoints_model[0], POINTS, atol=1e-7)
    assert truth.object_label.tolist() == labels.object_label.tolist() == [3]
    np.testing.assert_allclose(truth.cam_K[0], CAM_K)
    assert truth.has_cam.tolist() == [1]
    assert labels.keypoint_weights.tolist() == [[1.0] * 8]


def test_pixels_come_back():
    codec = ObjectKeypointLabel(INPUT)
    encoded = np.array([[[0.0, 0.0], [0.25, -0.5]]])
    pixels, scores = codec.decode(encoded)
    np.testing.assert_allclose(pixels, [[[48, 64], [80, 0]]])
    assert scores.tolist() == [[1, 1]]


def test_an_object_without_a_known_pose_has_labels_of_no_weight():
    found = ObjectKeypointLabel(INPUT).encode(
        np.zeros(()), object_label=np.array([1]), keypoints_model=POINTS[None]
    )
    assert found["object_label"].tolist() == [1]
    assert found["keypoint_labels"].shape == (1, 1, 8, 2)
    assert not found["keypoint_weights"].any()
    assert not found["keypoints_3d_weights"].any()


def test_unusable_samples_are_refused():
    with pytest.raises(ValueError, match="says not what object it is"):
        ObjectKeypointLabel(INPUT).encode(np.zeros((1, 8, 2)))
    with pytest.raises(ValueError, match=r"^ObjectKeypointLabel: .*mamba_mm\.MeshRotate"):
        through_pipeline(10.0, turn_labels=False)
    with pytest.raises(ValueError, match=r"^ObjectKeypointLabel: input_size must be"):
        ObjectKeypointLabel((96, 0))
