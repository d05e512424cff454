import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

cv2 = pytest.importorskip("cv2")

from mamba_mm.datasets.drawn_set import generator_of, images_of  # noqa: E402
from mamba_mm.datasets.toy_hands import (  # noqa: E402
    DEPTH_UNIT,
    GESTURES,
    HandAnatomy,
    HandFactory,
    ToyHandsConfig,
    appearance,
    coco,
    draw_depth_map,
    paint_hand,
    write_toy_hands,
)
from mamba_mm.datasets.toy_hands import folder as folder_module  # noqa: E402
from mamba_mm.datasets.toy_hands import poses as poses_module  # noqa: E402
from mamba_mm.datasets.toy_hands.freihand import FreiHANDLabels  # noqa: E402
from mamba_mm.datasets.toy_hands.views import FACING, draw_orientation  # noqa: E402
from mamba_mm.models.body_models import (  # noqa: E402
    OPENPOSE_NAMES,
    axis_angle_to_matrix,
    mirror_axis_angle,
)
from mamba_mm.rendering import rasterize  # noqa: E402

TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "make_toy_hands.py"
SIZE = 96
CONFIG = ToyHandsConfig(train_images=10, val_images=4, image_size=SIZE, left_share=0.3, seed=3)
ARGUMENTS = ["--train-images", "10", "--val-images", "4", "--image-size", "96", "--seed", "3"]
SMALL = ToyHandsConfig(train_images=2, val_images=1, image_size=64, left_share=0.5)
SPLITS = {"train": "training", "val": "evaluation"}


def silent(line):
    pass


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def load_tool():
    spec = importlib.util.spec_from_file_location("make_toy_hands", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "hands"
    assert write_toy_hands(folder, CONFIG, report=silent)
    return folder


@pytest.fixture(scope="module")
def annotated(root):
    """Images with their annotations of both splits."""
    content = {
        split: json.loads((root / "annotations" / f"toy_hands_{split}.json").read_text())
        for split in SPLITS
    }
    return {
        split: list(zip(values["images"], values["annotations"], strict=True))
        for split, values in content.items()
    }


@pytest.fixture(scope="module")
def factory():
    return HandFactory(SIZE, CONFIG.orientation_spread)


@pytest.fixture(scope="module")
def hands(factory):
    """Sixty right hands, then the same as left ones."""
    rngs = [[np.random.default_rng(seed) for seed in range(60)] for _ in range(2)]
    return factory.draw(rngs[0] + rngs[1], [True] * 60 + [False] * 60)


@pytest.fixture(scope="module")
def anatomy(factory):
    return HandAnatomy(factory.layer.model)


def run_layer(layer, pose, betas):
    """Pose one hand; NumPy in, NumPy out."""
    rotations = axis_angle_to_matrix(torch.as_tensor(np.reshape(pose, (1, 16, 3))))
    with torch.no_grad():
        output = layer(rotations[:, :1], rotations[:, 1:], torch.as_tensor(betas)[None])
    return output.vertices[0].numpy(), output.joints[0].numpy()


# --- The set ---------------------------------------------------------------------------------


def test_the_command_draws_the_same_bytes_again(root, tmp_path, capsys):
    again = tmp_path / "again"
    assert load_tool().main([str(again), *ARGUMENTS]) == 0
    printed = capsys.readouterr().out
    assert "train: 10/10 images drawn" in printed
    assert "10 images to train on, 4 held out" in printed
    assert hashes(again) == hashes(root)


def test_neither_the_batch_nor_the_length_of_the_set_changes_an_image(root, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "_BATCH", 3)
    write_toy_hands(tmp_path / "hands", replace(CONFIG, train_images=8), report=silent)
    shorter, whole = hashes(tmp_path / "hands"), hashes(root)
    same = [name for name in shorter if "training" not in name or name.endswith((".jpg", ".png"))]
    assert len(same) == 3 * 12 + 5 + 3
    for name in same:
        if name not in ("toy_hands.json", "annotations/toy_hands_train.json"):
            assert shorter[name] == whole[name]


def test_another_seed_and_the_other_split_show_other_hands(factory):
    drawn = [
        factory.draw([generator_of(seed, split, 0)], [True])[0].pose
        for seed, split in ((0, "train"), (0, "val"), (1, "train"))
    ]
    for i in range(3):
        assert np.abs(drawn[i] - drawn[i - 1]).max() > 0.05


def test_there_are_the_files_of_the_layout(root):
    names = {name for name in hashes(root) if not name.startswith("left")}
    expected = {"toy_hands.json", "annotations/toy_hands_train.json"}
    expected.add("annotations/toy_hands_val.json")
    for name, count in (("training", 7), ("evaluation", 3)):
        expected |= {f"{name}_{key}.json" for key in ("K", "xyz", "verts", "mano", "scale")}
        expected |= {f"{name}/{image}" for i in range(count) for image in images_named(i)}
    assert names == expected
    left = {str(path.relative_to(root)) for path in (root / "left").rglob("*.*")}
    assert left == {
        f"left/{name}/{image}"
        for name, count in (("training", 3), ("evaluation", 1))
        for i in range(count)
        for image in images_named(i)
    }


def images_named(i):
    return f"rgb/{i:08d}.jpg", f"mask/{i:08d}.jpg", f"depth/{i:08d}.png"


@pytest.mark.parametrize(("share", "lefts"), [(0.0, 0), (0.25, 5), (0.5, 10), (1.0, 20)])
def test_left_hands_are_spread_evenly(share, lefts):
    config = ToyHandsConfig(left_share=share)
    right = [config.is_right(index) for index in range(20)]
    assert right.count(False) == lefts
    assert abs(right[:10].count(False) - lefts / 2) <= 1


# --- FreiHAND's layout -----------------------------------------------------------------------


def labels_of(root, name):
    return {
        key: json.loads((root / f"{name}_{key}.json").read_text())
        for key in ("K", "xyz", "verts", "mano", "scale")
    }


@pytest.mark.parametrize(("split", "name"), SPLITS.items())
def test_labels_have_the_shapes_of_the_release(root, split, name):
    labels = labels_of(root, name)
    count = {"train": 7, "val": 3}[split]
    assert np.shape(labels["K"]) == (count, 3, 3)
    assert np.shape(labels["xyz"]) == (count, 21, 3)
    assert np.shape(labels["verts"]) == (count, 778, 3)
    assert np.shape(labels["mano"]) == (count, 1, 61)
    assert np.shape(labels["scale"]) == (count,)


@pytest.mark.parametrize(("split", "name"), SPLITS.items())
def test_projected_joints_are_the_keypoints_and_parameters_make_the_mesh(
    root, annotated, factory, split, name
):
    labels = labels_of(root, name)
    right = [pair for pair in annotated[split] if pair[1]["is_right"]]
    assert len(right) == len(labels["K"])
    for index, (image, annotation) in enumerate(right):
        assert image["file_name"] == f"{name}/rgb/{index:08d}.jpg"
        intrinsics, joints = np.array(labels["K"][index]), np.array(labels["xyz"][index])
        homogeneous = joints @ intrinsics.T
        pixels = homogeneous[:, :2] / homogeneous[:, 2:]
        keypoints = np.reshape(annotation["keypoints"], (21, 3))
        np.testing.assert_allclose(pixels, keypoints[:, :2], atol=0.01)
        np.testing.assert_array_equal(joints, annotation["joint_cam"])

        values = np.array(labels["mano"][index][0])
        pose = values[:48].copy()
        pose[3:] += factory.layer.hands_mean.numpy()
        np.testing.assert_allclose(pose, annotation["mano_pose"], atol=1e-9)
        np.testing.assert_array_equal(values[48:58], annotation["mano_betas"])
        # As the toolbox does: joint 9 goes where the pixel and the scale say.
        focal, scale = (intrinsics[0, 0] + intrinsics[1, 1]) / 2, values[60]
        depth = focal / scale
        root_joint = np.array([*((values[58:60] - intrinsics[:2, 2]) * depth / focal), depth])
        posed, posed_joints = run_layer(factory.layer, pose, values[48:58])
        shift = root_joint - posed_joints[9]
        np.testing.assert_allclose(posed + shift, labels["verts"][index], atol=3e-6)
        np.testing.assert_allclose(posed_joints + shift, joints, atol=3e-6)
        bone = np.linalg.norm(joints[10] - joints[9])
        assert labels["scale"][index] == pytest.approx(bone, abs=1e-6)


def test_the_layout_has_no_left_hands_and_may_be_empty(tmp_path, hands, factory):
    mean = factory.layer.model.hands_mean
    with (
        pytest.raises(ValueError, match="no left hands"),
        FreiHANDLabels(tmp_path, "training", mean) as labels,
    ):
        labels.add(hands[60])
    assert json.loads((tmp_path / "training_xyz.json").read_text()) == []


# --- COCO's format ---------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_xtcocotools_reads_the_annotations(root, split, capsys):
    coco_api = pytest.importorskip("xtcocotools.coco")
    content = coco_api.COCO(str(root / "annotations" / f"toy_hands_{split}.json"))
    count = images_of(CONFIG, split)
    assert sorted(content.imgs) == sorted(content.anns) == list(range(1, count + 1))
    (category,) = content.cats.values()
    assert category["keypoints"] == list(OPENPOSE_NAMES)
    assert (np.min(category["skeleton"]), np.max(category["skeleton"])) == (1, 21)
    for image_id, image in content.imgs.items():
        assert cv2.imread(str(root / image["file_name"])).shape == (SIZE, SIZE, 3)
        (annotation,) = content.loadAnns(content.getAnnIds(image_id))
        assert (image["height"], image["width"], annotation["iscrowd"]) == (SIZE, SIZE, 0)
        assert annotation["num_keypoints"] == 21
        assert np.shape(annotation["mano_pose"]) == (48,)
        assert ("vertices_cam" in annotation) == (split == "val")


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_of_both_hands_agree_with_camera_and_mask(root, annotated, split):
    sides = {"right": 0, "left": 0}
    for image, annotation in annotated[split]:
        sides[annotation["hand_type"]] += 1
        assert annotation["is_right"] == (annotation["hand_type"] == "right")
        assert image["file_name"].startswith("left/") != annotation["is_right"]
        camera, joints = image["cam_param"], np.array(annotation["joint_cam"])
        pixels = joints[:, :2] / joints[:, 2:] * camera["focal"] + camera["princpt"]
        keypoints = np.reshape(annotation["keypoints"], (21, 3))
        np.testing.assert_allclose(pixels, keypoints[:, :2], atol=0.01)
        assert 400 <= camera["focal"][0] * 224 / SIZE <= 600
        assert np.abs(np.array(camera["princpt"]) - (SIZE - 1) / 2).max() <= 0.03 * SIZE

        mask = cv2.imread(str(root / image["file_name"].replace("rgb", "mask")), 0) >= 128
        assert annotation["area"] == mask.sum()
        x, y, width, height = annotation["bbox"]
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max(), rows.max()]
        np.testing.assert_allclose([x, y, x + width, y + height], box, atol=1.0)
    assert sides == {"train": {"right": 7, "left": 3}, "val": {"right": 3, "left": 1}}[split]


@pytest.mark.parametrize("split", SPLITS)
def test_images_have_depth_maps_of_their_hands(root, annotated, split):
    for image, annotation in annotated[split]:
        assert image["depth_file"] == image["file_name"].replace("rgb", "depth")[:-3] + "png"
        depth = cv2.imread(str(root / image["depth_file"]), cv2.IMREAD_UNCHANGED)
        assert (depth.shape, depth.dtype) == ((SIZE, SIZE), np.uint16)
        # Joints in sight lie at most a finger's thickness below the surface.
        joints = np.array(annotation["joint_cam"])
        column, row, visibility = np.reshape(annotation["keypoints"], (21, 3)).T
        column, row = np.rint([column, row]).astype(int)
        below = joints[:, 2] - depth[row, column] * DEPTH_UNIT
        inside = visibility == 2
        inside[[4, 8, 12, 16, 20]] = False  # tips are points of the outline
        assert inside.sum() > 4
        assert (below[inside] > -0.002).all()
        assert (below[inside] < 0.021).all()


def test_depth_takes_nothing_from_the_chance_that_pictures_are_drawn_by(root, factory, palm):
    """So pictures are those of the sets without depth maps."""
    for index in range(2):
        rng = generator_of(CONFIG.seed, "train", index)
        (hand,) = factory.draw([rng], [CONFIG.is_right(index)])
        picture, _, surface = paint_hand(rng, hand, factory.faces(hand.is_right), palm)
        encoded = cv2.imencode(".jpg", picture)[1].tobytes()
        assert (root / "training" / "rgb" / f"{index:08d}.jpg").read_bytes() == encoded
        depth = cv2.imread(str(root / "training" / "depth" / f"{index:08d}.png"), -1)
        np.testing.assert_array_equal(draw_depth_map(rng, surface), depth)


def test_the_wall_is_behind_the_hand_and_only_there_depth_is_lost(hands, factory, palm):
    lost, gaps = [], []
    for seed, hand in enumerate(hands[:12]):
        rng = np.random.default_rng(seed)
        _, _, surface = paint_hand(rng, hand, factory.faces(True), palm)
        depth = draw_depth_map(rng, surface) * DEPTH_UNIT
        is_hand = np.isfinite(surface)
        np.testing.assert_allclose(depth[is_hand], surface[is_hand], atol=DEPTH_UNIT / 2)
        beside = depth[~is_hand]
        known = beside[beside > 0]
        assert known.min() > surface[is_hand].max() + 0.029
        assert known.max() < 3
        assert known.std() > 0.001
        lost.append(1 - len(known) / len(beside))
        gaps.append(np.median(known) - surface[is_hand].max())
    assert 0 <= min(lost) < 0.06
    assert 0.08 < max(lost) < 0.2
    assert np.ptp(gaps) > 0.5


def test_vertices_of_held_out_hands_are_those_of_the_mesh(annotated, factory):
    for _, annotation in annotated["val"]:
        vertices, joints = np.array(annotation["vertices_cam"]), np.array(annotation["joint_cam"])
        tips = vertices[[744, 320, 443, 554, 671]]
        np.testing.assert_array_equal(joints[[4, 8, 12, 16, 20]], tips)


def test_a_joint_is_hidden_if_a_surface_is_nearer_by_more_than_a_finger(hands, factory):
    hand, size = hands[0], SIZE
    flat = np.full((size, size), np.inf)
    assert coco.coco_annotation(1, hand, flat > 0, flat, False)["keypoints"][2::3] == [2] * 21
    for nearer, expected in ((0.019, 2), (0.021, 1)):
        depth = flat.copy()
        column, row = np.rint(hand.keypoints[8]).astype(int)
        depth[row, column] = hand.joints[8, 2] - nearer
        keypoints = coco.coco_annotation(1, hand, flat > 0, depth, False)["keypoints"]
        assert keypoints[8 * 3 + 2] == expected


# --- Poses -----------------------------------------------------------------------------------


def test_poses_are_within_the_limits_and_use_them(anatomy):
    rng = np.random.default_rng(0)
    poses = [anatomy.draw_pose(rng) for _ in range(400)]
    angles = np.array([anatomy.angles_of(pose) for pose in poses])
    assert (angles >= anatomy.limits[..., 0] - 1e-9).all()
    assert (angles <= anatomy.limits[..., 1] + 1e-9).all()
    middle_joints = [joints[1] - 1 for joints in poses_module.DIGITS.values()]
    flexion = np.degrees(angles[:, middle_joints, 0])
    assert (np.quantile(flexion, 0.15, axis=0) < 15).all()
    assert (np.quantile(flexion[:, 1:], 0.85, axis=0) > 70).all()
    # Fingers go together more often than not, but not always.
    index, pinky = flexion[:, 1], flexion[:, 4]
    assert 0.15 < np.corrcoef(index, pinky)[0, 1] < 0.9


def test_every_gesture_names_five_digits():
    assert len(GESTURES) >= 12
    for closures, spread in GESTURES.values():
        assert np.shape(closures) == (5, 2)
        assert np.max(closures) <= 1
        assert 0 <= spread <= 1


def moved_tip(anatomy, factory, joint, axis, degrees, tip):
    angles = np.zeros((15, 3))
    angles[joint - 1, axis] = np.radians(degrees)
    rest, posed = (
        run_layer(factory.layer, np.concatenate([np.zeros(3), pose]), np.zeros(10))[1][tip]
        for pose in (np.zeros(45), anatomy.pose_of(angles))
    )
    return posed - rest


@pytest.mark.parametrize(("joint", "tip"), [(1, 8), (5, 12), (12, 16), (7, 20)])
def test_flexion_moves_fingers_to_the_palm_and_abduction_to_the_thumb(anatomy, factory, joint, tip):
    x, y, z = moved_tip(anatomy, factory, joint, 0, 60, tip)
    assert y < -0.015
    assert x > 0.005
    assert abs(z) < 0.6 * x
    x, y, z = moved_tip(anatomy, factory, joint, 1, 10, tip)
    assert z > 0.003
    assert abs(y) < 0.2 * z


def test_flexion_moves_the_thumb_across_the_palm(anatomy, factory):
    for joint in (13, 14, 15):
        _, y, z = moved_tip(anatomy, factory, joint, 0, 40, 4)
        assert z < -0.008
        assert y < -0.003


def test_angles_and_poses_are_inverse(anatomy):
    angles = np.random.default_rng(0).normal(size=(15, 3))
    np.testing.assert_allclose(anatomy.angles_of(anatomy.pose_of(angles)), angles, atol=1e-12)


def test_shapes_are_clipped(hands):
    betas = np.array([hand.betas for hand in hands])
    assert np.abs(betas).max() == 2
    assert 0.7 < betas.std() < 1.1


# --- Views -----------------------------------------------------------------------------------


def test_hands_face_the_camera_unless_turned(factory, anatomy):
    upright = cv2.Rodrigues(FACING)[0].ravel()
    assert np.linalg.det(FACING) == pytest.approx(1)
    pose = np.concatenate([upright, anatomy.pose_of(np.zeros((15, 3)))])
    vertices, joints = run_layer(factory.layer, pose, np.zeros(10))
    wrist, thumb, index, middle_tip = joints[[0, 4, 5, 12]]
    assert middle_tip[1] < wrist[1] - 0.1  # fingers up
    assert thumb[0] > index[0]  # the thumb of a right palm is on the right
    palm, back = palm_and_back(factory, vertices)
    assert palm[2] < back[2]  # the palm is nearer


@pytest.mark.parametrize("spread", [20.0, 90.0, 180.0])
def test_orientations_fill_their_range_evenly(spread):
    rng = np.random.default_rng(0)
    angles = np.array(
        [
            np.linalg.norm(
                cv2.Rodrigues(cv2.Rodrigues(draw_orientation(rng, spread))[0] @ FACING.T)[0]
            )
            for _ in range(500)
        ]
    )
    limit = np.radians(spread)
    assert angles.max() <= limit + 1e-6
    # The share of the rotations up to a.
    shares = np.sort((angles - np.sin(angles)) / (limit - np.sin(limit)))
    assert np.abs(shares - np.linspace(0, 1, 500)).max() < 0.08


@pytest.mark.parametrize("spread", [90.0, 180.0])
def test_hands_are_in_the_picture_at_plausible_distances(spread):
    rngs = [np.random.default_rng(seed) for seed in range(150)]
    hands = HandFactory(128, spread).draw(rngs, [seed % 2 == 0 for seed in range(150)])
    keypoints = np.array([hand.keypoints for hand in hands])
    assert keypoints.min() >= 0.05 * 128 - 0.6
    assert keypoints.max() <= 127 - 0.05 * 128 + 0.6
    spans = np.ptp(keypoints, axis=1).max(axis=1)
    assert spans.max() <= 0.85 * 128
    assert spans.max() > 0.7 * 128
    assert 0.2 * 128 < np.median(spans) < 0.6 * 128
    joints = np.array([hand.joints for hand in hands])
    depth = joints[..., 2].mean(axis=1)
    assert depth.min() >= 0.45 - 1e-6
    assert depth.max() < 0.9
    palm = np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1)
    assert 0.06 < palm.min() < palm.max() < 0.13


# --- Left hands ------------------------------------------------------------------------------


def palm_and_back(factory, vertices):
    """Return the middles of the two sides of the palm."""
    template = factory.layer.model.v_template
    share = appearance.palm_share(template, factory.layer.faces)
    between = (template[:, 0] > 0.02) & (template[:, 0] < 0.07) & (np.abs(template[:, 2]) < 0.025)
    return vertices[between & (share > 0.9)].mean(axis=0), vertices[between & (share < 0.1)].mean(
        axis=0
    )


def test_left_hands_are_mirrored_right_ones(hands, factory):
    """Index, pinky and the back of the hand form a left-handed frame on the right side only."""
    for number, hand in enumerate(hands):
        wrist, index, pinky = hand.joints[[0, 5, 17]]
        palm, back = palm_and_back(factory, hand.vertices)
        chirality = np.linalg.det([index - wrist, pinky - wrist, back - palm])
        assert hand.is_right == (number < 60)
        assert chirality < 0 if hand.is_right else chirality > 0
        corners = hand.vertices[factory.faces(hand.is_right)] - hand.vertices.mean(axis=0)
        assert np.linalg.det(corners).sum() / 6 > 5e-5  # faces look outwards: a volume in m^3
        assert len(factory.faces(hand.is_right)) == 1552


def test_the_pose_of_a_left_hand_is_that_of_the_left_model(hands, factory):
    for right, left in zip(hands[:60:12], hands[60::12], strict=True):
        pose = torch.from_numpy(left.pose).reshape(16, 3)
        mirrored = mirror_axis_angle(pose).reshape(48).numpy()
        np.testing.assert_allclose(mirrored, right.pose)
        vertices, joints = run_layer(factory.layer, mirrored, left.betas)
        vertices, joints = vertices * [-1, 1, 1], joints * [-1, 1, 1]
        shift = left.joints[0] - joints[0]
        np.testing.assert_allclose(joints + shift, left.joints, atol=3e-6)
        np.testing.assert_allclose(vertices + shift, left.vertices, atol=3e-6)


# --- Pixels ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def palm(factory):
    return appearance.palm_share(factory.layer.model.v_template, factory.layer.faces)


def test_the_mask_is_the_projected_mesh(hands, factory, palm):
    shifts = []
    for hand in (*hands[:8], *hands[68:76]):
        _, mask, depth = paint_hand(
            np.random.default_rng(0), hand, factory.faces(hand.is_right), palm
        )
        pixels = hand.view.project(hand.vertices)
        finer = np.column_stack([8 * pixels + 3.5, hand.vertices[:, 2]])
        raster = rasterize(finer, factory.faces(True), 8 * SIZE, 8 * SIZE)
        cover = (raster.face_index >= 0).reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3))
        assert (mask != (cover >= 0.5)).sum() < 0.12 * mask.sum()
        assert not (mask & (cover < 0.2)).any()
        shifts.append(np.argwhere(mask).mean(axis=0) - np.argwhere(cover >= 0.5).mean(axis=0))
        surface = depth[cover == 1]
        assert hand.vertices[:, 2].min() - 1e-3 < surface.min()
        assert surface.max() < hand.vertices[:, 2].max() + 1e-3
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.15


def test_the_hand_covers_the_background_and_nothing_else_does(hands, factory, palm, monkeypatch):
    green = np.array([0.0, 255, 0])
    monkeypatch.setattr(
        appearance,
        "cluttered_background",
        lambda rng, rows, columns: np.full((rows, columns, 3), green),
    )
    picture, mask, _ = paint_hand(np.random.default_rng(0), hands[0], factory.faces(True), palm)
    inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
    outside = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
    assert inside.sum() > 50
    assert np.abs(picture[outside] - green).max() < 30
    skin = picture[inside].astype(int)
    assert (skin[:, 2] > skin[:, 1]).mean() > 0.9  # red before green before blue
    assert (skin[:, 1] > skin[:, 0]).mean() > 0.9
    assert skin.sum(axis=1).std() > 10  # it is shaded


def test_skin_and_light_differ_from_image_to_image(hands, factory, palm):
    brightness = []
    for seed in range(12):
        picture, mask, _ = paint_hand(
            np.random.default_rng(seed), hands[0], factory.faces(True), palm
        )
        brightness.append(picture[mask].mean())
    assert max(brightness) > 2 * min(brightness)


def test_palms_are_lighter_than_backs(factory, palm):
    assert palm.min() == 0
    assert palm.max() == 1
    colours = appearance._skin(np.random.default_rng(1), palm)
    assert colours[palm == 1].mean() > colours[palm == 0].mean()


RECORDED_KEYPOINT, RECORDED_AREA = (53.661, 74.377), 1375


def test_recorded_drawings_have_not_changed(factory, palm):
    """Raise DRAWING_VERSION when this fails on purpose: old sets must not be reused."""
    assert folder_module.DRAWING_VERSION == 2
    rng = generator_of(0, "train", 0)
    (hand,) = factory.draw([rng], [True])
    _, mask, _ = paint_hand(rng, hand, factory.faces(True), palm)
    np.testing.assert_allclose(hand.keypoints[8], RECORDED_KEYPOINT, atol=0.01)
    assert mask.sum() == pytest.approx(RECORDED_AREA, abs=3)


# --- The folder and the command --------------------------------------------------------------


def test_a_complete_set_is_left_as_it_is_and_others_are_not_overwritten(tmp_path):
    folder = tmp_path / "hands"
    assert write_toy_hands(folder, SMALL, report=silent)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    lines = []
    assert not write_toy_hands(folder, SMALL, report=lines.append)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "complete" in lines[0]
    other = replace(SMALL, orientation_spread=30.0)
    with pytest.raises(FileExistsError, match=r"made with other arguments .*pass --force"):
        write_toy_hands(folder, other, report=silent)
    assert write_toy_hands(folder, other, force=True, report=silent)


def test_an_interrupted_call_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupted(path, image):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_toy_hands(tmp_path / "hands", SMALL, report=silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"train_images": -1}, "train_images must not be negative, got -1"),
        ({"seed": -5}, "seed must not be negative, got -5"),
        ({"image_size": 63}, "at least 64 pixels high and wide, got 63x63: a finger"),
        ({"left_share": 1.2}, r"a share of the images, 0\.\.1, got 1\.2"),
        ({"left_share": float("nan")}, "a share of the images"),
        ({"orientation_spread": 0.0}, r"an angle of 0\.\.180 degrees, got 0\.0"),
        ({"orientation_spread": 181.0}, "an angle of"),
    ],
)
def test_impossible_arguments_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        ToyHandsConfig(**field)


def test_the_command_passes_its_arguments_on(tmp_path, capsys):
    folder = tmp_path / "hands"
    arguments = ["--train-images", "2", "--val-images", "0", "--image-size", "64", "--seed", "7"]
    arguments += ["--left-share", "0.5", "--orientation-spread", "45"]
    assert load_tool().main([str(folder), *arguments]) == 0
    stamp = json.loads((folder / "toy_hands.json").read_text())
    assert stamp == dict(
        drawing_version=2,
        train_images=2,
        val_images=0,
        image_size=64,
        left_share=0.5,
        orientation_spread=45.0,
        seed=7,
    )
    assert json.loads((folder / "evaluation_K.json").read_text()) == []
    assert "2 images to train on" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert load_tool().main([str(tmp_path / "hands"), "--image-size", "8"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: images must be at least 64 pixels")
    assert message.count("\n") == 1
