"""HO-3D: OpenGL to our frame, the order of the evaluation list, pickles that are not trusted."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope

pytest.importorskip("cv2")
pytest.importorskip("mmpose")

from hand_mesh_samples import posed
from hand_release_samples import ho3d_meta, write_ho3d, write_ho3d_truth, write_image, write_meta
from test_hand_mesh_datasets import assert_is_record, build

from mamba_mm.evaluation.functional import read_submission
from mamba_mm.models.body_models.array_pickle import RefusedPickleError

CONFIG = (
    Path(__file__).parents[2] / "configs" / "mmpose" / "hamba" / "hamba_vit-h_ho3d-test-256x192.py"
)


def ho3d(root, **options):
    return build("HO3DMeshDataset", data_root=str(root), **options)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_train(tmp_path, ending):
    hands = write_ho3d(tmp_path, ending=ending)
    dataset = ho3d(tmp_path)
    assert len(dataset) == 3
    for place, (record, hand) in enumerate(zip(dataset, hands, strict=True)):
        assert_is_record(record)
        assert record["id"] == record["img_id"] == place
        assert record["dataset_name"] == "ho3d_mesh"
        assert record["is_right"] == record["has_3d"] == record["has_mano"] == 1
        assert record["has_vertices"] == 0
        for name in ("keypoints_cam", "mano_betas", "cam_K"):
            np.testing.assert_allclose(record[name][0], hand[name], atol=1e-6)
        np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], atol=1e-3)
        box = [*hand["keypoints"].min(0), *hand["keypoints"].max(0)]
        np.testing.assert_allclose(record["bbox"][0], box, atol=1e-3)
        # The parameters give the joints again, up to where the hand is.
        joints, _ = posed(record["mano_pose"][0], record["mano_betas"][0])
        found = record["keypoints_cam"][0]
        np.testing.assert_allclose(joints - joints[0], found - found[0], atol=1e-5)
    assert dataset[0]["img_path"] == str(tmp_path / "train" / "AB1" / "rgb" / f"0003.{ending}")


def test_evaluation_has_a_box_a_wrist_and_a_camera(tmp_path):
    hands = write_ho3d(tmp_path, "evaluation")
    dataset = ho3d(tmp_path, split="evaluation", test_mode=True)
    names = [record["img_path"].rpartition("/")[2] for record in dataset]
    assert names == ["0003.jpg", "0001.jpg", "0002.jpg"]  # as listed, not sorted
    for place, (record, hand) in enumerate(zip(dataset, hands, strict=True)):
        assert_is_record(record)
        assert record["id"] == place
        wrist = np.eye(21)[0]
        np.testing.assert_array_equal(record["keypoints_cam_valid"][0], wrist)
        np.testing.assert_array_equal(record["keypoints_visible"][0], wrist)
        np.testing.assert_allclose(
            record["keypoints_cam"][0, 0], hand["keypoints_cam"][0], atol=1e-6
        )
        np.testing.assert_allclose(record["keypoints"][0, 0], hand["keypoints"][0], atol=1e-3)
        box = [*hand["keypoints"].min(0), *hand["keypoints"].max(0)]
        np.testing.assert_allclose(record["bbox"][0], box, atol=1e-3)
        assert record["has_3d"] == record["has_cam"] == 1
        assert record["has_mano"] == record["has_vertices"] == 0


def test_published_truth_of_the_evaluation_split(tmp_path):
    hands = write_ho3d(tmp_path, "evaluation")
    write_ho3d_truth(tmp_path, hands)
    options = dict(split="evaluation", with_vertices=True, cache=True)
    for record, hand in zip(ho3d(tmp_path, **options), hands, strict=True):
        assert record["keypoints_cam_valid"].all()
        assert record["has_vertices"] == 1
        for name in ("keypoints_cam", "vertices_cam"):
            np.testing.assert_allclose(record[name][0], hand[name], atol=1e-6)
        np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], atol=1e-2)
    assert (tmp_path / "evaluation_mamba_mm.npz").is_file()
    assert ho3d(tmp_path, split="evaluation")[0]["has_vertices"] == 0
    (tmp_path / "evaluation_verts.json").unlink()
    assert ho3d(tmp_path, **options)[0]["has_vertices"] == 0
    # Of the training split these files say nothing.
    write_ho3d(tmp_path, "train")
    assert ho3d(tmp_path)[0]["id"] == 0

    xyz = json.loads((tmp_path / "evaluation_xyz.json").read_text())
    (tmp_path / "evaluation_xyz.json").write_text(json.dumps(xyz[:2]))
    with pytest.raises(ValueError, match=r"evaluation_xyz\.json has 2 entries and .* 3 lines"):
        ho3d(tmp_path, split="evaluation")


def test_sequences_and_every_nth_sample_keep_their_places(tmp_path):
    write_ho3d(tmp_path)
    assert [record["id"] for record in ho3d(tmp_path, sequences=["SM1"])] == [2]
    assert [record["id"] for record in ho3d(tmp_path, sample_interval=2)] == [0, 2]
    with pytest.raises(ValueError, match=r"\['XY1'\] are not in train.txt, which has AB1, SM1"):
        ho3d(tmp_path, sequences=["SM1", "XY1"])
    with pytest.raises(ValueError, match="sequences"):
        ho3d(tmp_path, sequences=[])


def damaged(root, split="train", place=0, **changes):
    """Write a folder of which one frame has other fields; ``...`` takes one away."""
    hands = write_ho3d(root, split)
    frame = ("AB1/0003", "AB1/0001", "SM1/0002")[place]
    labels = ho3d_meta(hands[place], split) | changes
    sequence, name = frame.split("/")
    write_meta(
        root / split / sequence / "meta" / f"{name}.pkl",
        {key: value for key, value in labels.items() if value is not ...},
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(handJoints3D=...), "has no handJoints3D, only camMat, hand"),
        (dict(handJoints3D=None), "handJoints3D is None"),
        (dict(handJoints3D=np.zeros((16, 3))), r"handJoints3D has the shape \(16, 3\)"),
        (dict(handJoints3D=np.full((21, 3), np.nan)), "handJoints3D has values that are not fin"),
        (dict(handPose=np.zeros(45)), r"handPose has the shape \(45,\), expected \(48,\)"),
        (dict(handBeta=None), "handBeta is not an array of numbers|handBeta has"),
        (dict(camMat="K"), "camMat is not an array of numbers"),
    ],
)
def test_bad_fields_are_named_at_once_in_a_first_frame(tmp_path, changes, complaint):
    damaged(tmp_path, **changes)
    with pytest.raises(ValueError, match=complaint) as error:
        ho3d(tmp_path)
    assert "AB1/meta/0003.pkl" in str(error.value)


@pytest.mark.parametrize(
    ("factor", "complaint"),
    [
        (np.array([1000.0] * 3), "probably in millimetres"),
        (np.array([1.0, -1, -1]), "median depth is -.*OpenGL"),
    ],
)
def test_wrong_units_and_axes_are_refused(tmp_path, factor, complaint):
    (hand, *_) = write_ho3d(tmp_path / "whole")
    joints = ho3d_meta(hand)["handJoints3D"]
    damaged(tmp_path, handJoints3D=joints * factor)
    with pytest.raises(ValueError, match=complaint):
        ho3d(tmp_path)


def test_later_frames_are_read_when_they_are_asked_for(tmp_path):
    damaged(tmp_path, place=1, handPose=np.zeros(3))
    dataset = ho3d(tmp_path)
    assert dataset[0]["has_mano"] == 1
    with pytest.raises(ValueError, match=r"AB1/meta/0001\.pkl: handPose has the shape \(3,\)"):
        dataset[1]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(handBoundingBox=...), "no handBoundingBox"),
        (dict(handBoundingBox=[5, 5, 4, 9]), "empty; expected x1, y1, x2, y2"),
        (dict(handJoints3D=np.zeros(2)), r"handJoints3D has the shape \(2,\), expected \(3,\)"),
    ],
)
def test_bad_evaluation_fields(tmp_path, changes, complaint):
    damaged(tmp_path, "evaluation", **changes)
    with pytest.raises(ValueError, match=complaint):
        ho3d(tmp_path, split="evaluation")


class Call:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    sentinel = tmp_path / "sentinel"
    damaged(tmp_path, objName=Call(os.system, f"touch {sentinel}"))
    with pytest.raises(RefusedPickleError, match=r"0003\.pkl: refused: .* posix\.system"):
        ho3d(tmp_path)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a readable pickle"),
        (b"\x80\x02}q\x01X", "not a readable pickle"),
        (b"\x80\x02]q\x01.", "expected a dictionary, the file has a list"),
    ],
)
def test_damaged_pickles(tmp_path, content, complaint):
    write_ho3d(tmp_path)
    (tmp_path / "train" / "AB1" / "meta" / "0003.pkl").write_bytes(content)
    with pytest.raises(RefusedPickleError, match=complaint):
        ho3d(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train\.txt is not there.*unpacked release"):
        ho3d(tmp_path)
    write_ho3d(tmp_path)
    meta = tmp_path / "train" / "AB1" / "meta" / "0001.pkl"
    meta.rename(meta.with_suffix(".old"))
    with pytest.raises(FileNotFoundError, match=r"lists AB1/0001, but .*meta/0001\.pkl is not"):
        ho3d(tmp_path)
    (tmp_path / "train" / "AB1" / "rgb" / "0003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists AB1/0003, but .*0003\.png \(or \.jpg\)"):
        ho3d(tmp_path)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("", "train.txt is empty"),
        ("AB1/0003\nAB1", "has the line 'AB1', expected SEQ/0000"),
        ("../0003", r"has the line '\.\./0003'"),
        ("AB1/0003\nAB1/0001\nAB1/0003", "lists AB1/0003 twice"),
    ],
)
def test_bad_lists(tmp_path, lines, complaint):
    write_ho3d(tmp_path)
    (tmp_path / "train.txt").write_text(lines)
    with pytest.raises(ValueError, match=complaint):
        ho3d(tmp_path)


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown split 'test'; known: train, evaluation"):
        ho3d(tmp_path, split="test")


def test_an_image_of_version_2_goes_before_a_copy_in_jpg(tmp_path):
    write_ho3d(tmp_path, ending="png")
    write_image(tmp_path / "train" / "AB1" / "rgb" / "0003.jpg")
    assert ho3d(tmp_path)[0]["img_path"].endswith("0003.png")


def test_from_the_evaluation_list_to_the_prediction_file(tmp_path):
    """Through the shipped pipeline and the metric, in any order: the file is that of the list."""
    hands = write_ho3d(tmp_path / "data", "evaluation")
    cfg = Config.fromfile(CONFIG)
    settings = cfg.test_dataloader.dataset | dict(data_root=str(tmp_path / "data"))
    with DefaultScope.overwrite_default_scope("mmpose"):
        dataset = DATASETS.build(settings | dict(serialize_data=False))
        (metric,) = cfg.test_evaluator
        metric = METRICS.build(metric | dict(outfile_prefix=str(tmp_path / "pred")))
    for index in (1, 2, 0):
        sample = dataset[index]["data_samples"].to_dict()
        hand = hands[index]
        translation = np.array([[0.1, 0.2, 0.3]])
        sample["pred_instances"] = dict(
            keypoints_3d=hand["keypoints_cam"][None] - translation,
            vertices=hand["vertices_cam"][None] - translation,
            cam_translation=translation,
        )
        metric.process({}, [sample])
    assert metric.evaluate(len(dataset)) == {}
    joints, vertices = read_submission(tmp_path / "pred.json", "ho3d")
    for place, hand in enumerate(hands):
        np.testing.assert_allclose(joints[place], hand["keypoints_cam"], atol=1e-6)
        np.testing.assert_allclose(vertices[place], hand["vertices_cam"], atol=1e-6)
    # What is written is what the set itself calls joints.
    written = json.loads((tmp_path / "pred.json").read_text())[0]
    for place, hand in enumerate(hands):
        np.testing.assert_allclose(written[place], ho3d_meta(hand)["handJoints3D"], atol=1e-6)
