"""Drawn scenes of hands and objects: shapes, contact, pixels and labels."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

pytest.importorskip("trimesh")

from mamba_mm.datasets.object_pose.keypoint_file import read_keypoints
from mamba_mm.datasets.object_pose.models import read_models
from mamba_mm.datasets.object_pose.symmetries import symmetry_transforms
from mamba_mm.datasets.toy_hands import HandFactory
from mamba_mm.datasets.toy_hands.appearance import palm_share
from mamba_mm.datasets.toy_objects import (
    TOY_OBJECTS,
    ToyScenesConfig,
    draw_scene,
    paint_scene,
    toy_object,
    write_toy_scenes,
)
from mamba_mm.datasets.toy_objects.contact import distance_to_contact
from mamba_mm.datasets.toy_objects.scenes import palm_of

TOOLS = Path(__file__).parents[2] / "tools" / "dataset_converters"
SIZE = 96
SMALL = ToyScenesConfig(train_images=5, val_images=2, image_size=SIZE, hand_share=0.6, seed=3)


def silent(line):
    """Report nothing."""


@pytest.fixture(scope="module")
def factory():
    return HandFactory(SIZE, 60.0)


@pytest.fixture(scope="module")
def palm(factory):
    return palm_share(factory.layer.model.v_template, factory.layer.faces)


@pytest.fixture(scope="module")
def scenes(factory):
    return [draw_scene(np.random.default_rng(seed), factory) for seed in range(30)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "scenes"
    assert write_toy_scenes(folder, SMALL, report=silent)
    return folder


# --- Shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sides", "volume"),
    [
        ("brick", (100, 45, 65), 292.5),
        ("can", (66, 66, 105), np.pi * 33**2 * 105 / 1000),
        ("mug", (105, 76, 85), None),
        ("bracket", (85, 45, 110), 45 * (24 * 110 + 61 * 24) / 1000),
    ],
)
def test_shapes_are_closed_centred_and_as_large_as_said(name, sides, volume):
    shape = toy_object(name)
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    np.testing.assert_allclose(high - low, np.array(sides) / 1000, atol=1e-6)
    np.testing.assert_allclose(low, -high, atol=1e-9)
    corners = shape.vertices[shape.faces]
    enclosed = np.linalg.det(corners).sum() / 6 * 1e6  # positive if faces look outwards
    if volume is not None:
        assert enclosed == pytest.approx(volume, rel=0.01)
    else:  # the walls of the mug, not what it holds
        assert 80 < enclosed < 150
    assert 500 < len(shape.vertices) < 1500
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    assert edges.max() < 0.025


@pytest.mark.parametrize("name", TOY_OBJECTS)
def test_symmetries_leave_the_shape_as_it_is_and_no_other_half_turn_does(name):
    shape = toy_object(name)
    tree = cKDTree(shape.vertices)

    def distance(matrix):
        moved = shape.vertices @ matrix[:3, :3].T + matrix[:3, 3]
        return tree.query(moved)[0].mean()

    # The can has 32 edges around, so that 1/24 of a turn is off by less than half of one.
    assert max(map(distance, symmetry_transforms(shape.symmetries))) < 0.002
    listed = {
        tuple(np.round(m[:3, :3].ravel()).astype(int))
        for m in symmetry_transforms(shape.symmetries, steps=2)
    }
    for axis in range(3):
        turn = -np.eye(4)
        turn[axis, axis] = turn[3, 3] = 1
        is_symmetric = distance(turn) < 0.002
        assert is_symmetric == (tuple(turn[:3, :3].ravel().astype(int)) in listed)


def test_unknown_shapes_are_refused():
    with pytest.raises(ValueError, match="unknown object 'spoon'; known: brick, can, mug, brack"):
        toy_object("spoon")


# --- Contact ---------------------------------------------------------------------------------


def block(shift):
    from mamba_mm.datasets.toy_objects.shapes import _Surface

    surface = _Surface()
    surface.add_block((0, 0, 0), (0.03, 0.03, 0.03))
    vertices, faces = surface.mesh()
    return vertices + np.array(shift), faces


@pytest.mark.parametrize("direction", [(0, 0, 1), (0, 0, -2), (1, 0, 0), (0, -1, 0)])
def test_blocks_touch_after_the_gap_between_them(direction):
    unit = np.array(direction) / np.linalg.norm(direction)
    beside = 0.01 * np.roll(unit, 1)
    way = distance_to_contact(block((0, 0, 0)), block(0.1 * unit + beside), np.array(direction))
    assert way == pytest.approx(0.07, abs=1e-6)
    assert distance_to_contact(block((0, 0, 0)), block(-0.1 * unit), unit) < 0
    assert distance_to_contact(block((0, 0, 0)), block(0.1 * unit + 5 * beside), unit) == np.inf


def test_the_nearest_of_slanted_surfaces_decides():
    """A block on its edge meets the other with the edge."""
    vertices, faces = block((0, 0, 0))
    turn = cv2.Rodrigues(np.array([np.pi / 4, 0, 0]))[0]
    way = distance_to_contact((vertices @ turn.T, faces), block((0, 0, 0.1)), np.array([0, 0, 1.0]))
    # Cells of 3 mm find the edge to within half a cell.
    assert way == pytest.approx(0.1 - 0.015 - 0.015 * 2**0.5, abs=0.002)


def test_objects_nearly_touch_hands_and_do_not_enter_them(scenes):
    nearest = []
    for scene in scenes:
        hand, shape = scene.hand.vertices, scene.object_vertices
        gap = cKDTree(hand).query(shape)[0].min()
        nearest.append(gap)
        if scene.object.name == "brick":
            # Inside the brick there is no vertex of the hand, but for what is thinner than a cell.
            own = (hand - scene.translation) @ scene.rotation
            inside = (np.abs(own) < np.array([0.05, 0.0225, 0.0325]) - 0.004).all(axis=1)
            assert not inside.any()
    assert np.median(nearest) < 0.012
    assert np.quantile(nearest, 0.9) < 0.04


# --- Scenes ----------------------------------------------------------------------------------


def test_scenes_are_in_the_picture_and_repeat(scenes, factory):
    again = draw_scene(np.random.default_rng(7), factory)
    np.testing.assert_array_equal(again.object_vertices, scenes[7].object_vertices)
    np.testing.assert_array_equal(again.hand.vertices, scenes[7].hand.vertices)
    for scene in scenes:
        points = np.concatenate([scene.hand.joints, scene.object_vertices])
        pixels = scene.view.project(points)
        assert pixels.min() > 0
        assert pixels.max() < SIZE - 1
        assert 0.4 < points[:, 2].mean() < 1.5
        np.testing.assert_allclose(scene.rotation @ scene.rotation.T, np.eye(3), atol=1e-9)
        # The hand is where its joints are.
        np.testing.assert_allclose(
            scene.hand.joints[[4, 8, 12, 16, 20]],
            scene.hand.vertices[[744, 320, 443, 554, 671]],
            atol=2e-6,
        )
    assert {scene.object.name for scene in scenes} == set(TOY_OBJECTS)
    assert {scene.hand.is_right for scene in scenes} == {True, False}


def test_objects_are_upright_within_the_spread(factory):
    for seed in range(10):
        scene = draw_scene(
            np.random.default_rng(seed), factory, with_hand=False, orientation_spread=20.0
        )
        assert scene.hand is None
        up = scene.rotation @ [0, 0, 1]
        assert up @ [0, -1, 0] > np.cos(np.radians(20.1))  # y points down in pictures


def test_the_palm_of_either_hand_looks_where_fingers_bend(scenes):
    for scene in scenes:
        middle, normal = palm_of(scene.hand)
        wrist, index, pinky = scene.hand.joints[[0, 5, 17]]
        assert normal @ (index - wrist) == pytest.approx(0, abs=1e-9)
        # Fingers bend to the side of the palm, or stay straight.
        tips = scene.hand.joints[[12, 16]] - middle
        assert (tips @ normal).max() > -0.02
        side = np.linalg.det([index - wrist, pinky - wrist, normal])
        assert (side > 0) == scene.hand.is_right


# --- Pixels ----------------------------------------------------------------------------------


def painted(scene, factory, palm, seed=0):
    faces = factory.faces(scene.hand is None or scene.hand.is_right)
    return paint_scene(np.random.default_rng(seed), scene, faces, palm)


def test_what_is_nearer_hides_what_is_behind(scenes, factory, palm):
    scene = next(s for s in scenes if s.hand is not None)
    pictures = {}
    for depth in (-0.15, 0.15):
        moved = replace(scene, translation=scene.hand.joints[9] + [0, 0, depth])
        pictures[depth] = painted(moved, factory, palm)
    front, behind = pictures[-0.15], pictures[0.15]
    np.testing.assert_array_equal(front.object_visible, front.object_mask)
    both = front.object_mask & front.hand_mask
    assert both.sum() > 20
    np.testing.assert_array_equal(front.hand_visible, front.hand_mask & ~both)
    np.testing.assert_array_equal(behind.hand_visible, behind.hand_mask)
    assert (behind.object_visible == (behind.object_mask & ~behind.hand_mask)).all()
    np.testing.assert_allclose(front.depth[both], scene.hand.joints[9, 2] - 0.15, atol=0.08)


def test_both_occlude_each_other_in_the_set(scenes, factory, palm):
    hidden = {"hand": 0, "object": 0}
    for scene in scenes[:16]:
        picture = painted(scene, factory, palm)
        assert not (picture.object_visible & picture.hand_visible).any()
        hidden["object"] += picture.object_visible.sum() < 0.9 * picture.object_mask.sum()
        hidden["hand"] += picture.hand_visible.sum() < 0.9 * picture.hand_mask.sum()
    assert min(hidden.values()) >= 2


def test_colours_are_those_of_object_and_hand(scenes, factory, palm):
    for scene in [s for s in scenes if s.object.name == "can"][:3]:
        picture = painted(scene, factory, palm)
        inside = cv2.erode(picture.object_visible.astype(np.uint8), np.ones((3, 3))) > 0
        blue, _, red = picture.image[inside].mean(axis=0)
        assert blue > 1.3 * red
        inside = cv2.erode(picture.hand_visible.astype(np.uint8), np.ones((3, 3))) > 0
        blue, _, red = picture.image[inside].mean(axis=0)
        assert red > 1.1 * blue


# --- The folder ------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("val", 2)])
def test_labels_of_objects_agree_with_the_pictures(root, split, count):
    pytest.importorskip("mmpose")
    from mamba_mm.datasets.object_pose.bop import BOPObjectDataset

    data = BOPObjectDataset(str(root), split=split, min_visible_fraction=0.0)
    assert len(data) == count
    models = read_models(root / "models")
    for index in range(count):
        record = data.get_data_info(index)
        assert cv2.imread(record["img_path"]).shape == (SIZE, SIZE, 3)
        label = int(record["object_label"][0])
        assert label == index % 4
        mask = cv2.imread(
            str(root / split / "000000" / "mask_visib" / f"{index:06d}_000000.png"), 0
        )
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_array_equal(record["bbox"][0], box)
        # The mesh in its pose covers what is in sight of it.
        model = models[label + 1]
        posed = model.vertices @ record["object_rotation"][0].T + record["object_translation"][0]
        rays = posed @ record["cam_K"][0].T
        hull = cv2.convexHull(np.float32(rays[:, :2] / rays[:, 2:]))
        for row, column in list(zip(rows, columns, strict=True))[::7]:
            assert cv2.pointPolygonTest(hull, (float(column), float(row)), True) > -1.0


def test_hands_are_annotated_as_in_the_set_of_hands(root):
    pytest.importorskip("mmpose")
    from mamba_mm.datasets.hand_mesh.coco_style import HandMeshCocoDataset

    hands = HandMeshCocoDataset("annotations/hands_train.json", data_root=str(root), test_mode=True)
    assert 1 <= len(hands) <= 3  # three of five images have a hand, most of which is in sight
    for index in range(len(hands)):
        record = hands.get_data_info(index)
        assert Path(record["img_path"]).is_file()
        assert record["has_mano"][0] == record["has_cam"][0] == 1
        rays = record["keypoints_cam"][0] @ record["cam_K"][0].T
        np.testing.assert_allclose(record["keypoints"][0], rays[:, :2] / rays[:, 2:], atol=0.02)


def test_cameras_of_hands_and_objects_are_the_same(root):
    content = json.loads((root / "annotations" / "hands_val.json").read_text())
    cameras = json.loads((root / "val" / "000000" / "scene_camera.json").read_text())
    for image in content["images"]:
        camera = cameras[str(int(Path(image["file_name"]).stem))]
        assert image["cam_param"]["focal"] == [camera["cam_K"][0], camera["cam_K"][4]]
        assert image["cam_param"]["princpt"] == [camera["cam_K"][2], camera["cam_K"][5]]
        assert camera["depth_scale"] == 0.1
        depth = cv2.imread(str(root / image["depth_file"]), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        pose = json.loads((root / "val" / "000000" / "scene_gt.json").read_text())
        (entry,) = pose[str(int(Path(image["file_name"]).stem))]
        mask = cv2.imread(
            str(root / "val" / "000000" / "mask_visib" / f"{image['id'] - 1:06d}_000000.png"), 0
        )
        own = depth[mask > 0] * camera["depth_scale"]
        assert np.abs(own - entry["cam_t_m2c"][2]).max() < 80


def test_models_and_keypoints_come_with_the_set(root):
    models = read_models(root / "models")
    assert [model.name for model in models.values()] == list(TOY_OBJECTS)
    assert [len(model.symmetries) for model in models.values()] == [4, 48, 1, 1]
    for number, entry in read_keypoints(root / "models" / "keypoints.json").items():
        assert entry.sha256 == models[number].sha256
        np.testing.assert_allclose(
            models[number].vertices, toy_object(entry.name).vertices, atol=1e-8
        )


def test_a_complete_set_is_left_as_it_is_and_others_are_not_overwritten(root):
    lines = []
    assert not write_toy_scenes(root, SMALL, report=lines.append)
    assert "complete" in lines[0]
    with pytest.raises(FileExistsError, match=r"made with other arguments .*pass --force"):
        write_toy_scenes(root, replace(SMALL, seed=4), report=silent)


RECORDED_TRANSLATION, RECORDED_AREA = (0.054179, 0.057747, 0.693384), 996


def test_recorded_drawings_have_not_changed(factory, palm):
    """Raise DRAWING_VERSION when this fails on purpose: old sets must not be reused."""
    scene = draw_scene(np.random.default_rng(0), factory, name="mug")
    picture = painted(scene, factory, palm)
    np.testing.assert_allclose(scene.translation, RECORDED_TRANSLATION, atol=1e-5)
    assert picture.object_visible.sum() == pytest.approx(RECORDED_AREA, abs=3)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"train_images": -1}, "train_images must not be negative, got -1"),
        ({"image_size": 63}, "at least 64 pixels high and wide"),
        ({"hand_share": 1.2}, r"a share of the images, 0\.\.1, got 1\.2"),
        ({"orientation_spread": 0.0}, r"an angle of 0\.\.180 degrees, got 0\.0"),
    ],
)
def test_impossible_arguments_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        ToyScenesConfig(**field)


def test_hands_are_spread_evenly():
    config = replace(SMALL, hand_share=0.6)
    assert sum(config.has_hand(index) for index in range(100)) == 60
    assert all(replace(SMALL, hand_share=1.0).has_hand(index) for index in range(10))
    assert not any(replace(SMALL, hand_share=0.0).has_hand(index) for index in range(10))


def test_the_command_passes_its_arguments_on(tmp_path, capsys):
    main = runpy.run_path(str(TOOLS / "make_toy_hand_objects.py"))["main"]
    folder = tmp_path / "scenes"
    arguments = ["--train-images", "1", "--val-images", "0", "--image-size", "64", "--seed", "7"]
    arguments += ["--hand-share", "0", "--orientation-spread", "45"]
    assert main([str(folder), *arguments]) == 0
    stamp = json.loads((folder / "toy_scenes.json").read_text())
    assert stamp == dict(
        drawing_version=1,
        train_images=1,
        val_images=0,
        image_size=64,
        hand_share=0.0,
        orientation_spread=45.0,
        seed=7,
    )
    assert json.loads((folder / "annotations" / "hands_train.json").read_text())["images"] == []
    assert main([str(tmp_path / "x"), "--image-size", "8"]) == 1
    assert capsys.readouterr().err.startswith("error: images must be at least 64")
