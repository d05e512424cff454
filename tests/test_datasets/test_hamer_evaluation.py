"""HaMeR's evaluation files and HInt, as files of their layout that are written here."""

import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose")

from hamer_samples import evaluation_arrays, write_hint
from hand_mesh_samples import make_hand, mirrored
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mamba_mm.evaluation import HandKeypointPCK
from mamba_mm.models.pose_estimators.topdown_hand_mesh import TopdownHandMeshEstimator
from mamba_mm.registry import KEYPOINT_CODECS


def build(name, **options):
    with DefaultScope.overwrite_default_scope("mmpose"):
        return DATASETS.build(dict(type=f"mamba_mm.{name}", serialize_data=False, **options))


def evaluate(folder, arrays, **options):
    np.savez(folder / "set.npz", **arrays)
    return build("HaMeREvalDataset", ann_file=str(folder / "set.npz"), **options)


# --- evaluation files ----------------------------------------------------------------------


def test_records_are_the_labels(tmp_path):
    dataset = evaluate(tmp_path, evaluation_arrays([0, 1], [1]), data_prefix=dict(img="/images"))
    assert [record["is_right"].item() for record in dataset] == [1, 0]
    assert [record["img_path"] for record in dataset] == [
        "/images/img0000.jpg",
        "/images/img0001.jpg",
    ]
    for record, hand in zip(dataset, (make_hand(0), mirrored(make_hand(1))), strict=True):
        for key in ("keypoints", "keypoints_cam"):
            np.testing.assert_allclose(record[key][0], hand[key], rtol=1e-5, atol=1e-5)
        low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
        middle, half = (low + high) / 2, 0.75 * (high - low).max()
        np.testing.assert_allclose(
            record["bbox"][0], np.r_[middle - half, middle + half], rtol=1e-5
        )
        assert record["has_3d"] == 1
        assert record["has_mano"] == record["has_vertices"] == 0
        assert record["vertices_cam"].shape == (1, 778, 3)


def test_what_a_file_may_leave_out(tmp_path):
    arrays = evaluation_arrays([0, 1])
    arrays["imgname"] = np.array(["a/b.jpg", "a/b.jpg"])
    arrays["scale"] = np.array([30.0, 50.0])
    for key in ("hand_keypoints_3d", "right", "personid"):
        del arrays[key]
    arrays["extra_info"] = np.array([{}, {}])
    dataset = evaluate(tmp_path, arrays)
    assert [record["is_right"].item() for record in dataset] == [1, 1]
    assert [record["has_3d"].item() for record in dataset] == [0, 0]
    assert [record["img_id"] for record in dataset] == [0, 0]
    assert [record["id"] for record in dataset] == [0, 1]
    x1, y1, x2, y2 = dataset[1]["bbox"][0]
    np.testing.assert_allclose([x2 - x1, y2 - y1], 50, rtol=1e-5)


def test_parameters_are_read_and_not_filtered(tmp_path):
    pose, betas = np.full((2, 48), 0.1), np.full((2, 10), 5.0)
    arrays = evaluation_arrays([0, 1]) | dict(
        hand_pose=pose, betas=betas, has_hand_pose=np.array([1, 1]), has_betas=np.array([1, 0])
    )
    arrays["hand_keypoints_2d"][:, :, 2] = 0.1
    dataset = evaluate(tmp_path, arrays)
    assert [record["has_mano"].item() for record in dataset] == [1, 0]
    np.testing.assert_allclose(dataset[0]["mano_betas"][0], betas[0])
    np.testing.assert_allclose(dataset[0]["keypoints_visible"], 0.1, rtol=1e-6)


def test_dummy_truth_is_none(tmp_path):
    arrays = evaluation_arrays([0])
    arrays["hand_keypoints_3d"][..., :3] = 0
    assert evaluate(tmp_path, arrays)[0]["has_3d"] == 0


def changed(key, value):
    return evaluation_arrays([0, 1]) | {key: value}


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (changed("imgname", np.array(["a", "b"], object)), "imgname is an array of Python objects"),
        (changed("imgname", np.arange(2)), "imgname must be a list of names"),
        (changed("center", np.zeros((3, 2))), r"imgname has 2 entries, others differ: .*center"),
        (changed("center", np.full((2, 2), np.nan)), "hand 0: numbers that are not finite"),
        (changed("hand_keypoints_2d", np.zeros((2, 21, 2))), "hand 0: keypoints_2d has the shape"),
        (changed("scale", np.full((2, 2), 0.5)), "boxes are .* times as large.*its side in pixels"),
        ({"imgname": np.array(["a"])}, "lacks center, scale; it has imgname"),
        (changed("scale", np.zeros((2, 2))), "a box without a size"),
        ({key: value[:0] for key, value in evaluation_arrays([0]).items()}, "has no hands"),
    ],
)
def test_bad_files(tmp_path, arrays, match):
    with pytest.raises(ValueError, match=match) as caught:
        evaluate(tmp_path, arrays)
    assert str(tmp_path / "set.npz") in str(caught.value)


def test_files_that_are_no_files_of_arrays(tmp_path):
    path = tmp_path / "set.npz"
    with pytest.raises(FileNotFoundError):
        build("HaMeREvalDataset", ann_file=str(path))
    for content in (b"", b"<html>", b"PK\3\4 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no evaluation file"):
            build("HaMeREvalDataset", ann_file=str(path))
    np.savez_compressed(path, **evaluation_arrays(range(20)))
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("hand_keypoints_2d.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 100 : start + 400] = b"\xff" * 300
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no evaluation file"):
        build("HaMeREvalDataset", ann_file=str(path))


# --- HInt ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joints", "right", "left"), [("all", 21, 21), ("visible", 21, 19), ("occluded", 0, 2)]
)
def test_hint_as_released(tmp_path, joints, right, left):
    folder = write_hint(tmp_path)
    dataset = build("HIntDataset", data_root=str(tmp_path), joints=joints)
    first, second = dataset
    assert (first["is_right"], second["is_right"]) == (1, 0)
    assert first["keypoints_visible"].sum() == right
    assert second["keypoints_visible"].sum() == left
    assert second["img_path"] == str(folder / "ND_b_frame2_l.jpg")
    expected = mirrored(make_hand(1))["keypoints"]
    shown = second["keypoints_visible"][0] > 0
    assert shown[3] == (joints != "visible")
    np.testing.assert_allclose(second["keypoints"][0][shown], expected[shown], rtol=1e-6)
    low, high = expected.min(0), expected.max(0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    np.testing.assert_allclose(second["bbox"][0], np.r_[middle - half, middle + half], rtol=1e-6)
    assert first["has_3d"] == first["has_mano"] == 0


def test_hint_as_hamer_evaluates_it(tmp_path):
    (tmp_path / "hint" / "TEST_epick_img").mkdir(parents=True)
    arrays = evaluation_arrays([0, 1, 0], [0])
    np.savez(tmp_path / "TEST_epick_img_occ.npz", **arrays)
    options = dict(data_root=str(tmp_path / "hint"), evaluation_data=str(tmp_path))
    records = list(build("HIntDataset", subset="visor", joints="occluded", **options))
    assert [record["id"] for record in records] == [0, 1, 2]
    _, images = np.unique(arrays["imgname"], return_inverse=True)
    assert [record["img_id"] for record in records] == images.tolist()
    record = records[0]
    assert record["img_path"] == str(tmp_path / "hint" / "TEST_epick_img" / "img0000.jpg")
    assert record["is_right"] == 0
    with pytest.raises(FileNotFoundError, match="TEST_epick_img_all"):
        build("HIntDataset", subset="visor", **options)
    with pytest.raises(ValueError, match="part='TEST' only"):
        build("HIntDataset", subset="visor", part="VAL", **options)


@pytest.mark.parametrize(
    ("option", "match"),
    [
        (dict(subset="new days"), "unknown subset 'new days'; known: newdays, visor, ego4d"),
        (dict(joints="vis"), "unknown joints"),
        (dict(part="test"), "unknown part"),
    ],
)
def test_hint_choices(tmp_path, option, match):
    with pytest.raises(ValueError, match=match):
        build("HIntDataset", data_root=str(tmp_path), **option)


def test_hint_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"github\.com/ddshan/hint"):
        build("HIntDataset", data_root=str(tmp_path))
    (tmp_path / "TEST_ego4d_img").mkdir()
    with pytest.raises(ValueError, match="images of Ego4D are not in the download"):
        build("HIntDataset", data_root=str(tmp_path), subset="ego4d")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda hand: hand.pop("occlusion"), "hand 0: lacks occlusion"),
        (lambda hand: hand.update(occlusion=[0.5] * 21), "occlusion must be 21 times 0 or 1"),
        (lambda hand: hand.update(occlusion=[0] * 20), "occlusion must be 21 times 0 or 1"),
        (lambda hand: hand.update(keypoints=hand["keypoints"][:20]), "keypoints has the shape"),
        (lambda hand: hand.update(bbox=[[1, 2, 3]]), "bbox has the shape"),
        (lambda hand: hand.update(bbox=[[9, 9, 3, 4]]), "is empty"),
    ],
)
def test_bad_annotations_of_hint(tmp_path, change, match):
    path = write_hint(tmp_path) / "ND_a_frame1_r.json"
    hands = json.loads(path.read_text())
    change(hands[0])
    path.write_text(json.dumps(hands))
    with pytest.raises(ValueError, match=match) as caught:
        build("HIntDataset", data_root=str(tmp_path))
    assert str(path) in str(caught.value)


def test_bad_files_of_hint(tmp_path):
    folder = write_hint(tmp_path)
    path = folder / "ND_a_frame1_r.json"
    for content, match in (("{", "is no JSON"), ("{}", "a list of hands"), ("[1]", "a list of")):
        path.write_text(content)
        with pytest.raises(ValueError, match=match):
            build("HIntDataset", data_root=str(tmp_path))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no annotation"):
        build("HIntDataset", data_root=str(tmp_path))
    (folder / "ND_a_frame1_r.jpg").rename(folder / "side.jpg")
    (folder / "ND_b_frame2_l.json").rename(folder / "side.json")
    (folder / "ND_b_frame2_l.jpg").unlink()
    with pytest.raises(ValueError, match="must end in _l or _r"):
        build("HIntDataset", data_root=str(tmp_path))


class _NearlyTheTruth(nn.Module):
    """A head whose joints are those of the labels, moved right by so many pixels of the crop."""

    def __init__(self, codec, off_by):
        super().__init__()
        self.output_model = SimpleNamespace(cam_scale_min=0.1)
        self.codec, self.off_by = KEYPOINT_CODECS.build(codec), off_by

    def predict(self, feats, samples, test_cfg=None):
        found = []
        for sample in samples:
            pixels, scores = self.codec.decode(sample.gt_instance_labels.keypoint_labels.numpy())
            found.append(
                InstanceData(
                    keypoints=pixels + np.float32([self.off_by, 0]),
                    keypoint_scores=scores,
                    keypoints_3d=np.zeros((1, 21, 3), np.float32),
                    vertices=np.zeros((1, 778, 3), np.float32),
                    mano_rotations=np.zeros((1, 16, 3, 3), np.float32),
                    mano_betas=np.zeros((1, 10), np.float32),
                    cam=np.float32([[8, 0, 0]]),
                )
            )
        return found


class _Nothing(nn.Module):
    def forward(self, inputs):
        return (inputs,)


@pytest.mark.parametrize(
    ("joints", "off_by", "share"),
    # The crop of 256 pixels shows 2.0 times the box's longest side: 0.05 of that is 6.4 pixels.
    [("all", 6.39, 1), ("all", 6.41, 0), ("visible", 6.39, 1), ("occluded", 6.39, 1)],
)
def test_hint_is_scored_in_pixels_of_the_image_left_hands_too(tmp_path, joints, off_by, share):
    write_hint(tmp_path, tall=True)
    codec = dict(type="mamba_mm.MANOLabel", input_size=(192, 256))
    keys = ("ori_shape", "input_center", "input_scale", "input_size", "flipped")
    pipeline = [
        dict(type="LoadImage"),
        dict(type="GetBBoxCenterScale", padding=1.5),
        dict(type="mamba_mm.HandMeshRandomFlip"),
        dict(type="TopdownAffine", input_size=(192, 256), use_udp=False),
        dict(type="GenerateTarget", encoder=codec),
        dict(type="PackPoseInputs", meta_keys=keys),
    ]
    data = build("HIntDataset", data_root=str(tmp_path), joints=joints, pipeline=pipeline)
    samples = [sample["data_samples"] for sample in data]
    assert [sample.flipped for sample in samples] == [False, True]
    model = TopdownHandMeshEstimator(
        backbone=dict(type=_Nothing), head=dict(type=_NearlyTheTruth, codec=codec, off_by=off_by)
    )
    metric = HandKeypointPCK([0.05])
    found = model(torch.zeros(2, 3, 256, 192), samples, mode="predict")
    metric.process(None, [sample.to_dict() for sample in found])
    assert metric.evaluate(2) == {"hand2d/PCK@0.05": share}
