"""COCO-WholeBody's hands and OneHand10K, on the samples that MMPose distributes."""

import json

import numpy as np
import pytest

pytest.importorskip("mmpose")

from hand_mesh_samples import SHARED_DATA
from mmengine.registry import DATASETS, DefaultScope
from mmpose.datasets.datasets.hand import CocoWholeBodyHandDataset

COCO = SHARED_DATA / "coco" / "test_coco_wholebody.json"
ONE_HAND = SHARED_DATA / "onehand10k" / "test_onehand10k.json"
needs_coco = pytest.mark.skipif(not COCO.is_file(), reason=f"no samples in {COCO}")
needs_one_hand = pytest.mark.skipif(not ONE_HAND.is_file(), reason=f"no samples in {ONE_HAND}")
ALL = dict(min_box_side=0, min_confidence=0, more_joints_than=0)


def build(name, **options):
    with DefaultScope.overwrite_default_scope("mmpose"):
        return DATASETS.build(dict(type=f"mamba_mm.{name}", serialize_data=False, **options))


def wholebody(**options):
    return build("COCOWholeBodyHandMeshDataset", ann_file=str(COCO), **options)


@needs_coco
def test_wholebody_has_what_mmpose_reads_and_the_side():
    ours = list(wholebody(**ALL, data_prefix=dict(img="somewhere")))
    theirs = list(CocoWholeBodyHandDataset(ann_file=str(COCO), data_prefix=dict(img="somewhere")))
    assert len(ours) == len(theirs) == 10
    assert sum(record["is_right"].item() for record in ours) == 5

    def key(record):
        return record["img_path"], *record["bbox"][0].tolist()

    for a, b in zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True):
        assert a["img_path"] == b["img_path"]
        assert a["img_id"] == b["img_id"]
        for name in ("bbox", "keypoints", "keypoints_visible"):
            np.testing.assert_allclose(a[name], b[name], rtol=1e-6)
        assert 0 < a["keypoints_visible"].min() <= a["keypoints_visible"].max() <= 1
        assert a["has_3d"] == a["has_mano"] == 0


@needs_coco
def test_the_side_is_that_of_the_field():
    document = json.loads(COCO.read_text())
    annotation = next(a for a in document["annotations"] if a["id"] == 533949)
    for side in ("left", "right"):
        x, y, _, _ = annotation[f"{side}hand_box"]
        (record,) = (
            record for record in wholebody(**ALL) if np.allclose(record["bbox"][0, :2], [x, y])
        )
        assert record["is_right"] == (side == "right")


@needs_coco
def test_small_boxes_and_weak_joints():
    assert len(wholebody(min_confidence=0)) == 2
    assert len(wholebody(min_box_side=0)) == 8
    assert len(wholebody(min_box_side=0, more_joints_than=2)) == 9
    (record,) = wholebody()
    assert record["is_right"] == 1
    weak = [record for record in wholebody(min_box_side=0, more_joints_than=2)]
    (record,) = (record for record in weak if (record["keypoints_visible"] > 0).sum() == 3)
    shown = record["keypoints_visible"][0]
    assert shown[shown > 0].min() >= 0.3
    assert not record["keypoints"][0, shown == 0].any()
    with pytest.raises(ValueError, match="no hand with a box of 500 pixels"):
        wholebody(min_box_side=500)
    with pytest.raises(ValueError, match="min_box_side must not be negative"):
        wholebody(min_box_side=-1)


@needs_coco
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a.pop("lefthand_kpts"), "left hand of annotation .* lacks lefthand_kpts"),
        (lambda a: a.update(image_id=-3), "hand of annotation 442619 .*its image is not in the f"),
        (lambda a: a.update(righthand_kpts=[1] * 62), "62 numbers of joints, expected 63"),
        (lambda a: a.update(righthand_kpts=[float("nan"), 1, 1] * 21), "not finite"),
    ],
)
def test_bad_annotations_of_wholebody(tmp_path, change, match):
    document = json.loads(COCO.read_text())
    annotation = next(a for a in document["annotations"] if a["id"] == 442619)
    change(annotation)
    (tmp_path / "bad.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=match):
        build("COCOWholeBodyHandMeshDataset", ann_file=str(tmp_path / "bad.json"), **ALL)


@needs_coco
def test_crowds_are_left_out(tmp_path):
    document = json.loads(COCO.read_text())
    next(a for a in document["annotations"] if a["id"] == 533949)["iscrowd"] = 1
    (tmp_path / "crowd.json").write_text(json.dumps(document))
    options = dict(ann_file=str(tmp_path / "crowd.json"), **ALL)
    assert len(build("COCOWholeBodyHandMeshDataset", **options)) == 8


@needs_one_hand
def test_one_hand_10k():
    records = list(build("OneHand10KMeshDataset", ann_file=str(ONE_HAND)))
    assert [int((r["keypoints_visible"] > 0).sum()) for r in records] == [20, 7, 15, 21]
    first = records[0]
    assert not first["keypoints"][0, 0].any()
    np.testing.assert_array_equal(first["keypoints"][0, 1], [81, 251])
    np.testing.assert_array_equal(first["bbox"][0], [63, 92, 162, 286])
    assert all(record["is_right"] == 1 for record in records)
    assert all(record["has_3d"] == record["has_mano"] == 0 for record in records)


@needs_one_hand
def test_one_hand_10k_options():
    options = dict(ann_file=str(ONE_HAND))
    assert len(build("OneHand10KMeshDataset", more_joints_than=7, **options)) == 3
    left = build("OneHand10KMeshDataset", side="left", **options)
    assert all(record["is_right"] == 0 for record in left)
    with pytest.raises(ValueError, match="unknown side 'both'"):
        build("OneHand10KMeshDataset", side="both", **options)
