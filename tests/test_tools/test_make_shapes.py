import hashlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
mask_utils = pytest.importorskip("pycocotools.mask")
from pycocotools.coco import COCO  # noqa: E402

from mamba_mm.datasets.shapes import (  # noqa: E402
    CATEGORIES,
    ShapesConfig,
    draw_scene,
    write_shapes_coco,
)
from mamba_mm.datasets.shapes import coco as coco_module  # noqa: E402
from mamba_mm.datasets.shapes.coco import annotate, mask_to_polygons  # noqa: E402
from mamba_mm.datasets.shapes.scene import LARGEST, LEAST_VISIBLE, OVERSAMPLING  # noqa: E402

RECORDED = (4, [0.125, 0.125, 12.5, 9.5], 59.0)
TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "make_shapes_coco.py"
CONFIG = ShapesConfig(train_images=24, val_images=6, height=128, width=160, seed=3)
SMALL = ShapesConfig(train_images=2, val_images=1, height=96, width=64)


def silent(line):
    pass


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pixels(folder):
    return {path.name: cv2.imread(str(path)).tobytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    assert write_shapes_coco(folder, CONFIG, report=silent)
    return folder


@pytest.fixture(scope="module")
def train(shapes):
    return COCO(str(shapes / "annotations" / "instances_train.json"))


@pytest.fixture(scope="module")
def annotations(train):
    return list(train.anns.values())


def corners(annotation):
    x, y, width, height = annotation["bbox"]
    return np.array([x, y, x + width, y + height])


def test_another_process_draws_the_same_bytes(shapes, tmp_path):
    arguments = ["--train-images", "24", "--val-images", "6", "--size", "128", "160", "--seed", "3"]
    again = tmp_path / "again"
    command = [sys.executable, str(TOOL), str(again), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True)

    assert run.stderr == ""
    assert "train: 24/24 images drawn" in run.stdout
    assert hashes(again) == hashes(shapes)


def test_recorded_annotations_have_not_changed():
    """Raise DRAWING_VERSION when this fails on purpose: old sets must not be reused."""
    scene = draw_scene(np.random.default_rng([0, 0, 0]), 96, 96)
    first = annotate(scene)[0]
    assert coco_module.DRAWING_VERSION == 1
    assert (first["category_id"], first["bbox"], first["area"]) == RECORDED


def test_a_longer_set_begins_with_a_shorter_one_and_another_seed_is_another_set(tmp_path):
    sets = {"short": (2, 0), "long": (3, 0), "other": (2, 1)}
    drawn = {}
    for name, (count, seed) in sets.items():
        config = ShapesConfig(count, 0, 64, 64, seed)
        write_shapes_coco(tmp_path / name, config, report=silent)
        drawn[name] = pixels(tmp_path / name / "images" / "train")

    assert {name: drawn["long"][name] for name in drawn["short"]} == drawn["short"]
    assert not set(drawn["other"].values()) & set(drawn["short"].values())


def test_the_splits_share_no_image(shapes):
    train, val = (set(pixels(shapes / "images" / split).values()) for split in ("train", "val"))
    assert (len(train), len(val)) == (24, 6)
    assert not train & val


def test_files_and_sizes_are_those_of_the_annotations(shapes, train):
    for image in train.imgs.values():
        drawn = cv2.imread(str(shapes / "images" / "train" / image["file_name"]))
        assert drawn.shape == (image["height"], image["width"], 3) == (128, 160, 3)


def test_ids_are_unique_and_every_image_has_objects(train, annotations):
    assert sorted(train.imgs) == list(range(1, 25))
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    assert {annotation["image_id"] for annotation in annotations} == set(train.imgs)
    assert all(annotation["iscrowd"] == 0 for annotation in annotations)


def test_all_categories_occur_and_describe_their_keypoints(train, annotations):
    assert len(train.cats) == len(CATEGORIES) >= 5
    assert {annotation["category_id"] for annotation in annotations} == set(train.cats)
    for category in train.cats.values():
        names = category["keypoints"]
        assert len(set(names)) == len(names) == 5
        joints = np.array(category["skeleton"])
        assert joints.min() == 1
        assert joints.max() == 5


def test_polygons_lie_in_the_image_and_in_the_box_which_is_tight(annotations):
    for annotation in annotations:
        points = np.concatenate([np.reshape(p, (-1, 2)) for p in annotation["segmentation"]])
        assert all(len(polygon) >= 6 for polygon in annotation["segmentation"])
        assert points.min() >= 0
        assert (points <= [160, 128]).all()
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        np.testing.assert_allclose(corners(annotation), box, atol=2e-3)


def test_area_and_box_agree_with_the_mask_that_pycocotools_makes(train, annotations):
    for annotation in annotations:
        rle = train.annToRLE(annotation)
        perimeter = 2 * sum(annotation["bbox"][2:])
        assert abs(mask_utils.area(rle) - annotation["area"]) <= 0.6 * perimeter
        x, y, width, height = mask_utils.toBbox(rle)
        box = [x, y, x + width, y + height]
        # A tip is thinner than a pixel, and no part of the mask.
        np.testing.assert_allclose(corners(annotation), box, atol=2.01)


def test_masks_of_an_image_hardly_overlap(train):
    for image_id in train.imgs:
        masks = [train.annToMask(a) for a in train.loadAnns(train.getAnnIds(image_id))]
        covered = np.sum(masks, axis=0)
        # Rasterised borders may share a pixel, insides may not.
        inner = cv2.erode((covered > 1).astype(np.uint8), np.ones((3, 3)))
        assert inner.sum() == 0


def test_keypoints_lie_in_the_image_and_tell_what_is_in_sight(train, annotations):
    seen = set()
    for annotation in annotations:
        keypoints = np.reshape(annotation["keypoints"], (-1, 3))
        labelled = keypoints[keypoints[:, 2] > 0]
        assert len(labelled) == annotation["num_keypoints"]
        assert (keypoints[keypoints[:, 2] == 0] == 0).all()
        assert (labelled[:, :2] >= 0).all()
        assert (labelled[:, :2] < [160, 128]).all()
        grown = cv2.dilate(train.annToMask(annotation), np.ones((3, 3)))
        for x, y, visibility in keypoints:
            seen.add(visibility)
            if visibility == 2:
                assert grown[int(y), int(x)]
    assert seen == {0, 1, 2}


def test_scales_reach_from_a_twentieth_to_a_half():
    longest = []
    for index in range(30):
        scene = draw_scene(np.random.default_rng(index), 128, 128)
        for shape in scene.shapes:
            if (shape.visible == shape.covered).all():
                rows, columns = np.nonzero(shape.covered)
                longest.append(max(np.ptp(rows), np.ptp(columns)) / (128 * OVERSAMPLING))
    assert max(longest) <= LARGEST + 0.01
    assert max(longest) > 0.4
    assert min(longest) < 0.07


def test_shapes_overlap_but_stay_recognisable():
    hidden = 0
    for index in range(20):
        for shape in draw_scene(np.random.default_rng(index), 128, 128).shapes:
            share = shape.visible.sum() / shape.covered.sum()
            # Cells on the outline count as covered, which tells in small shapes.
            assert share >= LEAST_VISIBLE - 0.06
            hidden += share < 0.95
    assert hidden >= 8


def test_a_hole_is_cut_open():
    y, x = np.mgrid[:160, :160]
    radius = np.hypot(y - 80, x - 80)
    ring = (radius < 60) & (radius > 30)
    polygons = mask_to_polygons(ring)

    rle = mask_utils.merge(mask_utils.frPyObjects([p.ravel().tolist() for p in polygons], 40, 40))
    drawn = mask_utils.decode(rle)
    assert len(polygons) >= 2
    assert not drawn[20, 20]
    assert drawn.sum() == pytest.approx(ring.sum() / OVERSAMPLING**2, rel=0.08)


def test_a_complete_set_is_left_as_it_is(tmp_path):
    folder = tmp_path / "shapes"
    write_shapes_coco(folder, SMALL, report=silent)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    lines = []

    assert not write_shapes_coco(folder, SMALL, report=lines.append)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "complete" in lines[0]


def test_other_content_is_not_overwritten_without_force(tmp_path):
    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"other files; name another folder, or pass --force"):
        write_shapes_coco(folder, SMALL, report=silent)
    assert (folder / "thesis.tex").exists()

    assert write_shapes_coco(folder, SMALL, force=True, report=silent)
    assert not (folder / "thesis.tex").exists()
    other = ShapesConfig(train_images=1, val_images=1, height=64, width=64)
    with pytest.raises(FileExistsError, match="made with other arguments"):
        write_shapes_coco(folder, other, report=silent)


def test_an_interrupted_call_leaves_nothing_half_written(tmp_path, monkeypatch):
    folder = tmp_path / "shapes"

    def interrupted(path, image):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(coco_module, "write_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shapes_coco(folder, SMALL, report=silent)
    assert list(tmp_path.iterdir()) == []

    # What a killed process leaves behind does not disturb the next call.
    (tmp_path / "shapes.partial").mkdir()
    (tmp_path / "shapes.partial" / "rest").touch()
    assert write_shapes_coco(folder, SMALL, report=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert json.loads((folder / "shapes.json").read_text())["height"] == 96
    assert not (folder / "rest").exists()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"train_images": -1}, "train_images must not be negative, got -1"),
        ({"seed": -5}, "seed must not be negative, got -5"),
        ({"height": 63}, "at least 64 pixels high and wide, got 63x128"),
    ],
)
def test_impossible_arguments_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        ShapesConfig(**field)


def test_the_tool_says_what_is_wrong_in_one_line(tmp_path, capsys):
    arguments = [str(tmp_path / "shapes"), "--size", "8", "8"]
    assert runpy.run_path(str(TOOL))["main"](arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: images must be at least 64 pixels")
    assert said.count("\n") == 1
