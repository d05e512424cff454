"""Transforms of 3-D hand labels, judged by projecting them into the transformed image."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS
from mmengine.runner import Runner

pytest.importorskip("mmpose")

from hand_mesh_samples import (
    SHARED_DATA,
    SIZE,
    make_hand,
    matrices,
    mirrored,
    pixels,
    posed,
    write_coco,
    write_freihand,
)
from mmpose.structures.bbox import get_warp_matrix

from mamba_mm.datasets.hand_mesh import hand_record

RHD = SHARED_DATA / "rhd"
needs_rhd = pytest.mark.skipif(not RHD.is_dir(), reason=f"no RHD samples in {RHD}")

CODEC = dict(type="mamba_mm.MANOLabel", input_size=(192, 256))
META_KEYS = ("id", "img_id", "img_path", "ori_shape", "img_shape", "input_size", "input_center")
META_KEYS += ("input_scale", "dataset_name", "flipped", "bbox_rotation")
TO_CROP = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.2),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
]
TO_LABELS = [
    dict(type="GenerateTarget", encoder=CODEC),
    dict(type="PackPoseInputs", meta_keys=META_KEYS),
]
MOVE = dict(
    type="RandomBBoxTransform",
    shift_factor=0.02,
    shift_prob=1.0,
    scale_factor=(0.7, 1.3),
    scale_prob=1.0,
    rotate_factor=60,
    rotate_prob=1.0,
)
AFFINE = dict(type="TopdownAffine", input_size=(192, 256), use_udp=False)
TRAIN = [*TO_CROP, MOVE, AFFINE, dict(type="mamba_mm.MeshRotate")]
TRAIN += [dict(type="mamba_mm.ChannelGain"), *TO_LABELS]
TEST = [*TO_CROP, AFFINE, *TO_LABELS]

pytestmark = pytest.mark.usefixtures("mmpose_scope")


def transform(name, **options):
    return TRANSFORMS.build(dict(type=f"mamba_mm.{name}", **options))


def sample_of(hand, is_right, **labels):
    """What reaches the flip: a record, its image of noise, and the box as centre and scale."""
    image = np.random.default_rng(1).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
    box = np.array([*low, *high])
    given = hand | dict(bbox=box, is_right=is_right) | labels
    sample = hand_record("test", img_path="x.jpg", img_id=0, id=0, **given)
    sample |= dict(img=image, bbox_center=sample["bbox"][:, :2] + np.float32([[3, 5]]))
    return sample | dict(bbox_scale=np.float32([[80, 90]]))


def copied(sample):
    return {key: np.array(value) for key, value in sample.items()}


# --- the flip ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_left_hand_becomes_its_mirror_image(seed):
    right = make_hand(seed)
    left = sample_of(mirrored(right), is_right=False)
    before = copied(left)
    after = transform("HandMeshRandomFlip")(left)
    assert after["flipped"] is True
    assert after["is_right"] == 1
    assert after["is_right"].dtype == after["cam_K"].dtype == np.float32
    np.testing.assert_array_equal(after["img"], before["img"][:, ::-1])
    for name, atol in dict(
        keypoints=1e-3, keypoints_cam=1e-6, vertices_cam=1e-6, mano_betas=1e-6, cam_K=1e-4
    ).items():
        np.testing.assert_allclose(after[name][0], right[name], atol=atol, err_msg=name)
    np.testing.assert_allclose(
        matrices(after["mano_pose"][0]), matrices(right["mano_pose"]), atol=1e-5
    )
    projected = pixels(after["keypoints_cam"][0], after["cam_K"][0])
    np.testing.assert_allclose(projected, after["keypoints"][0], atol=1e-3)
    # The mirrored parameters give the mirrored mesh.
    joints, _ = posed(after["mano_pose"][0], after["mano_betas"][0])
    given = after["keypoints_cam"][0]
    np.testing.assert_allclose(joints - joints[0], given - given[0], atol=1e-5)
    # The box stays around the joints, ordered.
    low, high = after["keypoints"][0].min(0), after["keypoints"][0].max(0)
    np.testing.assert_allclose(after["bbox"][0], [*low, *high], atol=1e-3)
    x, y = before["bbox_center"][0]
    np.testing.assert_allclose(after["bbox_center"][0], [SIZE - 1 - x, y], rtol=1e-6)


def test_right_hands_and_hands_of_unknown_side_are_left_alone():
    sample = sample_of(make_hand(0), is_right=True)
    before = copied(sample)
    after = transform("HandMeshRandomFlip")(sample)
    assert after.pop("flipped") is False
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    del sample["is_right"]
    assert transform("HandMeshRandomFlip")(sample)["flipped"] is False


def test_mirrored_twice_is_as_before():
    sample = sample_of(make_hand(0), is_right=True)
    before = copied(sample)
    flip = transform("HandMeshRandomFlip", mode="random", prob=1)
    once = flip(sample)
    assert (once["flipped"], *once["is_right"]) == (True, 0)
    twice = flip(once)
    assert twice["flipped"] is False
    for name, value in before.items():
        if name != "img_path":
            np.testing.assert_allclose(twice[name], value, atol=1e-4, err_msg=name)


def test_random_flips_by_probability():
    flip = transform("HandMeshRandomFlip", mode="random")
    flipped = [flip(sample_of(make_hand(0), is_right=True))["flipped"] for _ in range(60)]
    assert 15 < sum(flipped) < 45
    never = transform("HandMeshRandomFlip", mode="random", prob=0.0)
    assert not never(sample_of(make_hand(0), is_right=False))["flipped"]


def test_unknown_labels_stay_zero():
    weights = np.ones(21)
    weights[3] = 0
    hand = mirrored(make_hand(0))
    one_less = sample_of(
        hand, is_right=False, keypoints_visible=weights, keypoints_cam_valid=weights
    )
    one_less = transform("HandMeshRandomFlip")(one_less)
    one_less["bbox_rotation"] = np.array([20.0])
    one_less = transform("MeshRotate")(Compose([AFFINE])(one_less))
    assert not one_less["keypoints"][0, 3].any()
    assert not one_less["keypoints_cam"][0, 3].any()

    names = ("keypoints", "keypoints_cam", "vertices_cam", "mano_pose", "mano_betas", "cam_K")
    nothing = sample_of(hand, is_right=False, **dict.fromkeys(names))
    nothing = transform("HandMeshRandomFlip")(nothing)
    nothing["bbox_rotation"] = np.array([20.0])
    nothing = transform("MeshRotate")(Compose([AFFINE])(nothing))
    for name in names:
        assert not nothing[name].any(), name


def test_samples_without_any_label_key():
    sample = dict(img=np.zeros((4, 6, 3), np.uint8), is_right=np.zeros(1))
    flipped = transform("HandMeshRandomFlip")(sample)
    assert flipped["flipped"]
    flipped |= dict(input_size=(192, 256), bbox_rotation=np.array([10.0]))
    transform("MeshRotate")(flipped)


# --- rotation, position, size ----------------------------------------------------------------


def crop_matrix(results):
    """The warp of the crop, (3, 3)."""
    rotation = results.get("bbox_rotation", [0.0])[0]
    center, scale = results["bbox_center"][0], results["bbox_scale"][0]
    return np.vstack([get_warp_matrix(center, scale, rotation, (192, 256)), [0, 0, 1]])


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_labels_follow_the_crop(seed, is_right):
    hand = make_hand(seed) if is_right else mirrored(make_hand(seed))
    np.random.seed(seed)
    steps = [dict(type="mamba_mm.HandMeshRandomFlip"), MOVE, AFFINE]
    results = Compose(steps)(sample_of(hand, is_right))
    degrees = results["bbox_rotation"][0]
    assert abs(degrees) > 1
    before = copied(results)
    after = transform("MeshRotate")(results)
    warp = crop_matrix(after)

    camera = warp @ np.float64(after["cam_K"][0])
    crop = pixels(after["keypoints_cam"][0], camera)
    np.testing.assert_allclose(crop, after["transformed_keypoints"][0], atol=1e-3)
    # The same with nothing but the rule: turned by -r about the axis, K Rz(r).
    r = np.deg2rad(degrees)
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    expected = before["keypoints_cam"][0] @ turn
    np.testing.assert_allclose(after["keypoints_cam"][0], expected, atol=1e-6)
    np.testing.assert_allclose(after["cam_K"][0], before["cam_K"][0] @ turn, atol=1e-3)
    np.testing.assert_array_equal(after["keypoints"], before["keypoints"])
    image = pixels(after["keypoints_cam"][0], after["cam_K"][0])
    np.testing.assert_allclose(image, after["keypoints"][0], atol=1e-3)

    # The turned parameters give the turned mesh.
    joints, vertices = posed(after["mano_pose"][0], after["mano_betas"][0])
    wrist = after["keypoints_cam"][0, 0]
    np.testing.assert_allclose(joints - joints[0], after["keypoints_cam"][0] - wrist, atol=1e-5)
    np.testing.assert_allclose(vertices - joints[0], after["vertices_cam"][0] - wrist, atol=1e-5)


@pytest.mark.parametrize("degrees", [-70.0, 25.0])
def test_a_turned_hand_is_what_an_upright_camera_sees(degrees):
    """With the wrong sign the camera of the crop would be rolled by twice the angle."""
    hand = make_hand(0)
    hand["cam_K"] = np.array([[500.0, 0, 110], [0, 500, 100], [0, 0, 1]])
    hand["keypoints"] = pixels(hand["keypoints_cam"], hand["cam_K"])
    results = sample_of(hand, True) | dict(bbox_rotation=np.array([degrees]))
    results = transform("MeshRotate")(Compose([AFFINE])(results))
    camera = crop_matrix(results) @ results["cam_K"][0]
    scale = 256 / results["bbox_scale"][0, 1]
    principal = crop_matrix(results) @ hand["cam_K"][:, 2]
    expected = [[500 * scale, 0, principal[0]], [0, 500 * scale, principal[1]], [0, 0, 1]]
    np.testing.assert_allclose(camera, expected, atol=0.01)


def test_moving_and_scaling_the_box_leaves_3d_labels():
    sample = sample_of(make_hand(0), is_right=True)
    before = copied(sample)
    results = Compose([MOVE | dict(rotate_prob=0.0), AFFINE])(sample)
    results = transform("MeshRotate")(results)
    for name in ("keypoints_cam", "vertices_cam", "mano_pose", "cam_K"):
        np.testing.assert_array_equal(results[name], before[name])
    camera = crop_matrix(results) @ results["cam_K"][0]
    projected = pixels(results["keypoints_cam"][0], camera)
    np.testing.assert_allclose(projected, results["transformed_keypoints"][0], atol=1e-3)


def test_without_a_rotation_nothing_is_turned():
    results = Compose([AFFINE])(sample_of(make_hand(0), is_right=True))
    before = copied(results)
    after = transform("MeshRotate")(results)
    for name in ("keypoints_cam", "mano_pose", "cam_K"):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (["HandMeshRandomFlip", "MeshRotate", AFFINE], "MeshRotate must come after TopdownAffine"),
        ([AFFINE, "HandMeshRandomFlip"], "must come before TopdownAffine"),
        ([MOVE, "HandMeshRandomFlip"], "must come before RandomBBoxTransform"),
        ([AFFINE, "MeshRotate", "MeshRotate"], "MeshRotate is in the pipeline twice"),
        ([MOVE, AFFINE, dict(type="GenerateTarget", encoder=CODEC)], "were not. Put"),
    ],
)
def test_the_wrong_order_is_refused(steps, complaint):
    steps = [dict(type=f"mamba_mm.{s}") if isinstance(s, str) else s for s in steps]
    with pytest.raises(ValueError, match=complaint):
        Compose(steps)(sample_of(make_hand(0), is_right=True))


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("HandMeshRandomFlip", dict(mode="left"), "unknown mode 'left'; known: to_right, random"),
        ("HandMeshRandomFlip", dict(mode="to_right", prob=0.5), "mode='random' only"),
        ("HandMeshRandomFlip", dict(mode="random", prob=1.5), "from 0 to 1, got 1.5"),
        ("ChannelGain", dict(gain_range=(1.2, 0.8)), "gain_range must be"),
    ],
)
def test_wrong_arguments_are_refused(name, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        transform(name, **options)


# --- colour ----------------------------------------------------------------------------------


def test_channel_gain():
    image = np.full((2, 2, 3), 100, np.uint8)
    image[0] = 250
    gain = transform("ChannelGain")
    drawn = []
    for _ in range(40):
        out = gain(dict(img=image.copy()))["img"]
        assert out.dtype == np.uint8
        assert (out[1] == out[1, 0]).all()
        drawn.append(out[1, 0])
        assert (out[0, 0][out[1, 0] > 102] == 255).all()
        assert (out[0, 0][out[1, 0] < 102] < 255).all()
    drawn = np.array(drawn)
    assert drawn.min() >= 80
    assert drawn.max() <= 120
    assert (np.ptp(drawn, axis=0) > 25).all()
    assert (drawn[:, 0] != drawn[:, 1]).any()
    exact = transform("ChannelGain", gain_range=(1.1, 1.1))(dict(img=np.float32([[[10, 1, 240]]])))
    np.testing.assert_allclose(exact["img"], [[[11, 1.1, 255]]], rtol=1e-6)
    rounded = transform("ChannelGain", gain_range=(1.1, 1.1))(dict(img=np.uint8([[[7, 4, 240]]])))
    np.testing.assert_array_equal(rounded["img"], [[[8, 4, 255]]])


# --- whole pipelines ---------------------------------------------------------------------------


def coco_style(folder, **options):
    left, right = mirrored(make_hand(0)), make_hand(1)
    write_coco(folder / "hands.json", [left, right], ["left", "right"])
    return dict(
        type="mamba_mm.HandMeshCocoDataset",
        ann_file=str(folder / "hands.json"),
        data_prefix=dict(img=str(folder)),
        serialize_data=False,
        **options,
    )


def freihand(folder, **options):
    write_freihand(folder / "freihand")
    return dict(
        type="mamba_mm.FreiHANDMeshDataset",
        data_root=str(folder / "freihand"),
        versions=["gs", "hom"],
        mano_path="toy",
        with_vertices=True,
        serialize_data=False,
        **options,
    )


def rhd(**options):
    return dict(
        type="mamba_mm.RHDMeshDataset",
        ann_file=str(RHD / "test_rhd.json"),
        data_prefix=dict(img=str(RHD)),
        serialize_data=False,
        **options,
    )


def in_image(labels, sample):
    """Joints from the label back to pixels of the image as it was taken."""
    points = labels.keypoint_labels[0].double().numpy() * 256 + [96, 128]
    scale, center = sample.input_scale, sample.input_center
    points = points / sample.input_size * scale + center - scale / 2
    return points * [-1, 1] + [sample.ori_shape[1] - 1, 0] if sample.flipped else points


def test_left_hands_through_the_pipeline_and_back(tmp_path):
    plain = DATASETS.build(coco_style(tmp_path))
    piped = DATASETS.build(coco_style(tmp_path, pipeline=TEST))
    assert [sample["data_samples"].flipped for sample in piped] == [True, False]
    for record, packed in zip(plain, piped, strict=True):
        sample = packed["data_samples"]
        back = in_image(sample.gt_instance_labels, sample)
        np.testing.assert_allclose(back, record["keypoints"][0], atol=1e-3)
        assert sample.gt_instances.is_right == 1
        assert packed["inputs"].shape == (3, 256, 192)


@needs_rhd
def test_rhd_through_the_training_pipeline():
    plain = DATASETS.build(rhd())
    dataset = DATASETS.build(rhd(pipeline=TRAIN))
    for record, packed in zip(plain, dataset, strict=True):
        sample = packed["data_samples"]
        assert sample.flipped == (record["is_right"][0] == 0)
        assert sample.bbox_rotation[0] != 0
        labels, instances = sample.gt_instance_labels, sample.gt_instances
        assert labels.has_3d == 1
        assert labels.has_mano == labels.vertices_weights == 0
        assert (labels.mano_hand_pose.numpy() == np.eye(3)).all()
        warp = get_warp_matrix(
            sample.input_center, sample.input_scale, sample.bbox_rotation[0], (192, 256)
        )
        camera = np.vstack([warp, [0, 0, 1]]) @ np.float64(instances.cam_K[0])
        crop = pixels(labels.keypoints_3d[0].numpy(), camera)
        expected = labels.keypoint_labels[0].numpy() * 256 + [96, 128]
        # The labels themselves agree to 0.07 pixels of the image.
        limit = 0.1 * 256 / sample.input_scale[1]
        np.testing.assert_allclose(crop, expected, atol=limit)


def test_images_without_labels_pass_the_test_pipeline():
    def data(**more):
        # As MMPose's inference_topdown gives it.
        box = dict(bbox=np.float32([[5, 5, 40, 45]]), bbox_score=np.ones(1, np.float32))
        return dict(img=np.zeros((50, 60, 3), np.uint8), **box, **more)

    sample = Compose(TEST)(data())["data_samples"]
    assert sample.flipped is False
    assert not sample.gt_instance_labels.keypoint_weights.any()
    assert not sample.gt_instance_labels.has_mano.any()
    left = Compose(TEST)(data(is_right=np.zeros(1, np.float32)))["data_samples"]
    assert left.flipped is True
    assert left.input_center[0] == 59 - 22.5


@needs_rhd
def test_mixed_sets_in_a_loader(tmp_path):
    dataset = dict(
        type="CombinedDataset",
        metainfo=dict(from_file="configs/_base_/datasets/freihand2d.py"),
        datasets=[freihand(tmp_path), rhd(), coco_style(tmp_path)],
        pipeline=TRAIN,
    )
    sampler = dict(type="MultiSourceSampler", batch_size=4, source_ratio=[2, 1, 1])
    loader = Runner.build_dataloader(
        dict(batch_size=4, num_workers=0, dataset=dataset, sampler=sampler), seed=0
    )
    seen = []
    for batch in loader:
        assert all(image.shape == (3, 256, 192) for image in batch["inputs"])
        names = {frozenset(s.gt_instance_labels.keys()) for s in batch["data_samples"]}
        assert len(names) == 1
        assert len({frozenset(s.gt_instances.keys()) for s in batch["data_samples"]}) == 1
        seen += [sample.dataset_name for sample in batch["data_samples"]]
    expected = ["freihand_mesh"] * 2 + ["rhd_mesh", "hand_mesh"]
    assert seen == expected * (len(seen) // 4)
    assert len(seen) >= 8


def test_mmpose_2d_sets_mix_with_ours(tmp_path):
    """An MMPose data set has no 3-D keys at all; its labels are complete all the same."""
    folder = SHARED_DATA / "freihand"
    if not folder.is_dir():
        pytest.skip(f"no FreiHAND samples in {folder}")
    theirs = dict(
        type="FreiHandDataset",
        ann_file=str(folder / "test_freihand.json"),
        data_prefix=dict(img=str(folder)),
        pipeline=TRAIN,
        serialize_data=False,
    )
    ours = DATASETS.build(freihand(tmp_path, pipeline=TRAIN))[0]["data_samples"].gt_instance_labels
    labels = DATASETS.build(theirs)[0]["data_samples"].gt_instance_labels
    for name, value in ours.items():
        assert labels[name].shape == value.shape
        assert labels[name].dtype == value.dtype
    assert labels.keypoint_weights.all()
    assert labels.has_3d == labels.has_mano == 0
