"""The codec of hand-mesh labels."""

import numpy as np
import pytest
from mmengine.structures import InstanceData
from scipy.spatial.transform import Rotation

pytest.importorskip("mmpose")

from mmpose.datasets.transforms import GenerateTarget, PackPoseInputs
from mmpose.registry import KEYPOINT_CODECS

LABELS = dict(
    keypoint_labels=(1, 21, 2),
    keypoint_weights=(1, 21),
    keypoints_3d=(1, 21, 3),
    keypoints_3d_weights=(1, 21),
    vertices_3d=(1, 778, 3),
    vertices_weights=(1,),
    mano_global_orient=(1, 1, 3, 3),
    mano_hand_pose=(1, 15, 3, 3),
    mano_betas=(1, 10),
    has_3d=(1,),
    has_mano=(1,),
)


@pytest.fixture
def codec():
    return KEYPOINT_CODECS.build(dict(type="mamba_mm.MANOLabel", input_size=(192, 256)))


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    ones = np.ones((1,), np.float32)
    return dict(
        keypoints=rng.uniform(-50, 300, (1, 21, 2)).astype(np.float32),
        keypoints_visible=rng.uniform(0.1, 1, (1, 21)).astype(np.float32),
        keypoints_cam=rng.normal(size=(1, 21, 3)).astype(np.float32),
        keypoints_cam_valid=np.ones((1, 21), np.float32),
        vertices_cam=rng.normal(size=(1, 778, 3)).astype(np.float32),
        has_vertices=ones,
        mano_pose=rng.normal(size=(1, 48)).astype(np.float32),
        mano_betas=rng.normal(size=(1, 10)).astype(np.float32),
        has_3d=ones,
        has_mano=ones,
        is_right=ones,
    )


def assert_all_labels(encoded):
    assert encoded.keys() == LABELS.keys()
    for name, shape in LABELS.items():
        assert encoded[name].shape == shape, name
        assert encoded[name].dtype == np.float32, name


def test_everything_is_encoded(codec, sample):
    encoded = codec.encode(**sample)
    assert_all_labels(encoded)
    x, y = sample["keypoints"][0].T
    np.testing.assert_allclose(encoded["keypoint_labels"][0, :, 0], (x - 96) / 256, atol=1e-6)
    np.testing.assert_allclose(encoded["keypoint_labels"][0, :, 1], (y - 128) / 256, atol=1e-6)
    # Also of the joints outside the input, of which there are some.
    assert (np.abs(encoded["keypoint_labels"]) > 0.5).any()
    for label, source in (
        ("keypoint_weights", "keypoints_visible"),
        ("keypoints_3d", "keypoints_cam"),
        ("keypoints_3d_weights", "keypoints_cam_valid"),
        ("vertices_3d", "vertices_cam"),
        ("vertices_weights", "has_vertices"),
        ("mano_betas", "mano_betas"),
    ):
        np.testing.assert_array_equal(encoded[label], sample[source], err_msg=label)
    matrices = Rotation.from_rotvec(sample["mano_pose"].reshape(16, 3)).as_matrix()
    np.testing.assert_allclose(encoded["mano_global_orient"][0], matrices[:1], atol=1e-6)
    np.testing.assert_allclose(encoded["mano_hand_pose"][0], matrices[1:], atol=1e-6)


def test_units_are_the_height_of_any_input(sample):
    codec = KEYPOINT_CODECS.build(dict(type="mamba_mm.MANOLabel", input_size=(100, 200)))
    labels = codec.encode(np.full((1, 21, 2), 200.0), sample["keypoints_visible"])
    np.testing.assert_allclose(labels["keypoint_labels"], np.full((1, 21, 2), [0.75, 0.5]))


def test_decode_inverts_encode(codec, sample):
    labels = codec.encode(**sample)["keypoint_labels"]
    pixels, scores = codec.decode(labels)
    np.testing.assert_allclose(pixels, sample["keypoints"], atol=1e-4)
    assert scores.shape == (1, 21)
    assert (scores == 1).all()
    pixels, _ = codec.decode(np.float32([[[0, 0], [0.25, -0.5]]]))
    np.testing.assert_array_equal(pixels, [[[96, 128], [160, 0]]])


def test_an_image_without_labels(codec):
    # What MMPose's TopdownAffine leaves behind.
    encoded = codec.encode(np.zeros([]), np.ones((1, 1, 1)))
    assert_all_labels(encoded)
    for name in set(LABELS) - {"mano_global_orient", "mano_hand_pose"}:
        assert not encoded[name].any(), name
    for name in ("mano_global_orient", "mano_hand_pose"):
        assert (encoded[name] == np.eye(3)).all()


def test_what_is_not_valid_is_zero_with_weight_zero(codec, sample):
    sample["keypoints_visible"][0, 2] = 0
    sample["keypoints_cam_valid"][0, 3] = 0
    encoded = codec.encode(**sample)
    assert not encoded["keypoint_labels"][0, 2].any()
    assert not encoded["keypoints_3d"][0, 3].any()
    assert np.count_nonzero(encoded["keypoints_3d"].any(-1)) == 20

    zero = np.zeros((1,), np.float32)
    encoded = codec.encode(**sample | dict(has_3d=zero, has_mano=zero, has_vertices=zero))
    for name in ("keypoints_3d", "keypoints_3d_weights", "vertices_weights", "mano_betas"):
        assert not encoded[name].any(), name
    assert (encoded["mano_hand_pose"] == np.eye(3)).all()
    assert encoded["keypoint_weights"].any()


def test_left_hands_and_labels_that_were_not_rotated_are_refused(codec, sample):
    with pytest.raises(ValueError, match="HandMeshRandomFlip"):
        codec.encode(**sample | dict(is_right=np.zeros(1)))
    codec.encode(**sample, bbox_rotation=np.zeros(1))
    codec.encode(**sample, bbox_rotation=np.ones(1), mesh_rotation=1.0)
    with pytest.raises(
        ValueError, match=r"^MANOLabel: .*mamba_mm\.MeshRotate.*after TopdownAffine"
    ):
        codec.encode(**sample, bbox_rotation=np.ones(1))


def test_a_wrong_shape_or_size_is_refused(codec, sample):
    with pytest.raises(ValueError, match=r"shape \(48,\), expected \(1, 48\)"):
        codec.encode(**sample | dict(mano_pose=sample["mano_pose"][0]))
    with pytest.raises(ValueError, match=r"^MANOLabel: input_size must be"):
        KEYPOINT_CODECS.build(dict(type="mamba_mm.MANOLabel", input_size=(256,)))


def test_mmpose_packs_labels_and_instances(sample):
    sample |= dict(
        img=np.zeros((256, 192, 3), np.uint8),
        bbox=np.ones((1, 4), np.float32),
        bbox_score=np.ones(1, np.float32),
        bbox_scale=np.ones((1, 2), np.float32),
        cam_K=np.ones((1, 3, 3), np.float32),
        has_cam=np.ones(1, np.float32),
        transformed_keypoints=sample["keypoints"] + 1,
    )
    results = GenerateTarget(encoder=dict(type="mamba_mm.MANOLabel"))(dict(sample))
    packed = PackPoseInputs()(results)["data_samples"]
    labels = packed.gt_instance_labels
    assert isinstance(labels, InstanceData)
    assert {name: tuple(labels[name].shape) for name in labels.keys()} == LABELS  # noqa: SIM118
    expected = (sample["keypoints"] + 1 - [96, 128]) / 256
    np.testing.assert_allclose(labels.keypoint_labels, expected, atol=1e-6)

    instances = packed.gt_instances
    for name, key in dict(
        bboxes="bbox", bbox_scores="bbox_score", bbox_scales="bbox_scale"
    ).items():
        np.testing.assert_array_equal(instances[name], sample[key])
    for name in (
        *("keypoints", "keypoints_visible", "keypoints_cam", "keypoints_cam_valid"),
        *("vertices_cam", "cam_K", "has_cam", "is_right", "has_3d", "has_mano", "has_vertices"),
    ):
        np.testing.assert_array_equal(instances[name], sample[name], err_msg=name)


def test_mmpose_defaults_are_still_packed(codec):
    for name, packed in PackPoseInputs.instance_mapping_table.items():
        assert codec.instance_mapping_table[name] == packed
