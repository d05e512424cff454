"""Occlusion, truncation, blur and colour: what changes, by how much, and what must not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms.utils import cache_random_params
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope

pytest.importorskip("mmpose")

from hand_mesh_samples import SIZE, make_hand, mirrored, pixels
from mmpose.structures.bbox import get_warp_matrix

from mamba_mm.datasets.hand_mesh import hand_record
from mamba_mm.datasets.transforms.hand_blur import blur_along, motion_kernel
from mamba_mm.datasets.transforms.occluders import covering_mask, draw_outline

CONFIG = "hamba_vit-b_1xb64-100k_freihand-strong-aug-256x192.py"
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "mmpose" / "hamba"
INPUT_SIZE = (192, 256)
AFFINE = dict(type="TopdownAffine", input_size=INPUT_SIZE, use_udp=False)
LABELS = ("keypoints", "keypoints_visible", "keypoints_cam", "vertices_cam", "mano_pose", "cam_K")

pytestmark = pytest.mark.usefixtures("mmpose_scope")


def transform(name, **options):
    return TRANSFORMS.build(dict(type=f"mamba_mm.{name}", **options))


def sample(seed=0, is_right=True, **labels):
    """A hand in an image of noise, with its box as centre and scale."""
    hand = make_hand(seed) if is_right else mirrored(make_hand(seed))
    low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
    record = hand_record(
        "test",
        **(hand | dict(img_path="x.jpg", img_id=0, id=0, is_right=is_right) | labels),
        bbox=np.array([*low, *high]),
    )
    image = np.random.default_rng(seed).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    record |= dict(img=image, bbox_center=(low + high)[None] / 2)
    return record | dict(bbox_scale=1.3 * (high - low)[None].astype(np.float32))


def cropped(seed=0, **labels):
    return Compose([AFFINE])(sample(seed, **labels))


def labels_of(results):
    return {name: np.array(results[name]) for name in LABELS}


def assert_same_labels(after, before):
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


# --- occlusion ---------------------------------------------------------------------------------


def hull_of(results):
    """The hand's outline in the crop, by OpenCV's test of every pixel."""
    points = np.rint(results["transformed_keypoints"][0]).astype(np.int32)
    hull = cv2.convexHull(points)
    width, height = INPUT_SIZE
    inside = [
        [cv2.pointPolygonTest(hull, (x, y), False) >= 0 for x in range(width)]
        for y in range(height)
    ]
    return np.array(inside)


@pytest.mark.parametrize("shape", ["ellipse", "rectangle", "blob"])
def test_the_asked_share_of_the_hand_is_hidden_and_no_label_changes(shape):
    before = cropped()
    hull, image, labels = hull_of(before), before["img"].copy(), labels_of(before)
    occlude = transform(
        "HandOcclusion", prob=1, coverage=(0.3, 0.3), shapes=[shape], fills=["plain"]
    )
    after = occlude(dict(before))
    changed = (after["img"] != image).any(-1)
    assert (changed & hull).sum() / hull.sum() == pytest.approx(0.3, abs=0.02)
    assert after["img"].dtype == np.uint8
    assert_same_labels(after, labels)
    # The image that came in is not written into.
    np.testing.assert_array_equal(before["img"], image)
    # One thing, with its joints and no others behind it.
    assert cv2.connectedComponents(changed.astype(np.uint8))[0] <= 4
    columns, rows = np.rint(after["transformed_keypoints"][0]).astype(int).T
    inside = (columns >= 0) & (columns < 192) & (rows >= 0) & (rows < 256)
    expected = [ok and bool(changed[y, x]) for ok, y, x in zip(inside, rows, columns, strict=True)]
    np.testing.assert_array_equal(after["occluded"], [expected])
    assert any(expected)


@pytest.mark.parametrize("fill", ["plain", "noise", "image"])
def test_what_surfaces_look_like(fill):
    results = cropped()
    results["img"] = np.zeros((256, 192, 3), np.float32)
    results["img"][:, 60:] = 0.5
    results["img"][:, 130:] = 200.25
    before = results["img"].copy()
    after = transform("HandOcclusion", prob=1, coverage=(0.6, 0.6), fills=[fill])(results)["img"]
    assert after.dtype == np.float32
    surface = after[(after != before).any(-1)]
    assert len(surface) > 500
    assert 0 <= surface.min() <= surface.max() <= 255
    known = np.isin(surface, [0, 0.5, 200.25]).all()
    assert known == (fill == "image")
    if fill == "plain":
        # One hue: brightness alone changes.
        ratios = surface / surface.sum(-1, keepdims=True)
        assert np.ptp(ratios, axis=0).max() < 0.06


def test_pictures_of_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    picture = np.zeros((30, 20, 3), np.uint8)
    picture[:] = (7, 8, 9)
    cv2.imwrite(str(tmp_path / "deep" / "one.PNG"), picture)
    (tmp_path / "notes.txt").write_text("no picture")
    occlude = transform("HandOcclusion", prob=1, fills=["picture"], picture_folder=tmp_path)
    before = cropped()
    after = occlude(dict(before))["img"]
    assert (after[(after != before["img"]).any(-1)] == (7, 8, 9)).all()
    assert transform("HandOcclusion", picture_folder=tmp_path).fills[-1] == "picture"
    with pytest.raises(FileNotFoundError, match="no picture"):
        transform("HandOcclusion", picture_folder=tmp_path / "none")


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_hidden_joints_can_lose_weight(weight):
    before = cropped()
    after = transform("HandOcclusion", prob=1, coverage=(0.5, 0.5), hidden_weight=weight)(
        dict(before)
    )
    hidden = after["occluded"]
    assert 0 < hidden.sum() < 21
    assert (after["keypoints_visible"][hidden] == weight).all()
    assert (after["keypoints_visible"][~hidden] == 1).all()
    assert (before["keypoints_visible"] == 1).all()


def test_hands_that_cannot_be_hidden_are_left_alone():
    occlude = transform("HandOcclusion", prob=1)
    visible = np.zeros(21)
    visible[:2] = 1
    two = cropped(keypoints_visible=visible)
    outside = cropped()
    outside["transformed_keypoints"] = outside["transformed_keypoints"] + np.float32(1000)
    no_labels = Compose([AFFINE])(
        {k: v for k, v in sample().items() if k in ("img", "bbox_center", "bbox_scale")}
    )
    for results in (two, outside, no_labels):
        image = results["img"].copy()
        np.testing.assert_array_equal(occlude(results)["img"], image)
    assert not outside["occluded"].any()


def test_the_shape_grows_until_it_hides_the_share():
    region = np.zeros((40, 60), bool)
    region[10:30, 20:50] = True
    for share in (0.001, 0.4, 1.0):
        outline = draw_outline("ellipse", np.random.default_rng(3))
        mask = covering_mask(region, np.array([25, 15]), share, outline)
        assert mask[15, 25]
        # Pixels at the same distance come together.
        assert 0 <= (mask & region).sum() - np.ceil(share * 600) <= 3
    assert mask[region].all()


# --- truncation --------------------------------------------------------------------------------


def crop_matrix(results):
    rotation = results.get("bbox_rotation", [0.0])[0]
    center, scale = results["bbox_center"][0], results["bbox_scale"][0]
    return np.vstack([get_warp_matrix(center, scale, rotation, INPUT_SIZE), [0, 0, 1]])


def inside_crop(points):
    return ((points >= 0) & (points < INPUT_SIZE)).all(-1)


@pytest.mark.parametrize("keep", [0.4, 0.8])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rotation", [0.0, 50.0])
def test_so_many_joints_stay_and_labels_follow_the_crop(seed, rotation, keep):
    np.random.seed(seed)
    results = sample(seed)
    results["bbox_rotation"] = np.array([rotation])
    # Everything is in the box before, however it is turned.
    results["bbox_scale"] = np.full((1, 2), 1.5 * results["bbox_scale"].max(), np.float32)
    before = labels_of(results)
    cut = transform("HandTruncation", input_size=INPUT_SIZE, prob=1, keep=(keep, keep))
    results = cut(results)
    assert_same_labels(results, before)
    assert results["bbox_center"].dtype == results["bbox_scale"].dtype == np.float32
    box = results["bbox_scale"].copy()
    results = Compose([AFFINE, dict(type="mamba_mm.MeshRotate")])(results)
    np.testing.assert_allclose(results["bbox_scale"], box, rtol=1e-6)  # the aspect was right

    inside = inside_crop(results["transformed_keypoints"][0])
    assert inside.sum() == round(keep * 21)
    camera = crop_matrix(results) @ np.float64(results["cam_K"][0])
    projected = pixels(results["keypoints_cam"][0], camera)
    np.testing.assert_allclose(projected, results["transformed_keypoints"][0], atol=2e-3)


def test_every_side_is_cut_and_boxes_differ():
    sizes, lost = [], []
    cut = transform("HandTruncation", input_size=INPUT_SIZE, prob=1, keep=(0.6, 0.6))
    for _ in range(40):
        results = cut(sample())
        sizes.append(results["bbox_scale"][0, 1])
        points = Compose([AFFINE])(results)["transformed_keypoints"][0]
        beyond = [points[:, 0] < 0, points[:, 0] >= 192, points[:, 1] < 0, points[:, 1] >= 256]
        lost.append([side.sum() for side in beyond])
        assert inside_crop(points).sum() == 13
    # One edge alone cuts off all the others, and each edge does at some time.
    assert np.max(lost, axis=1).tolist() == [8] * 40
    assert (np.max(lost, axis=0) == 8).all()
    assert np.ptp(sizes) > 0.1 * np.max(sizes)


def test_no_side_shrinks_below_the_least():
    results = sample()
    results["bbox_scale"] = np.float32([[192, 256]])
    cut = transform(
        "HandTruncation", input_size=INPUT_SIZE, prob=1, keep=(0.05, 0.05), min_scale=0.7
    )
    for _ in range(10):
        size = cut(dict(results))["bbox_scale"][0, 1]
        assert 0.7 * 256 <= size <= 0.851 * 256


def test_samples_without_joints_keep_their_box():
    for visible in (np.zeros(21), np.eye(21)[4]):
        results = sample(keypoints_visible=visible)
        center = results["bbox_center"].copy()
        results = transform("HandTruncation", input_size=INPUT_SIZE, prob=1)(results)
        np.testing.assert_array_equal(results["bbox_center"], center)
    results = dict(bbox_center=center, bbox_scale=center)
    assert transform("HandTruncation", input_size=INPUT_SIZE, prob=1)(results) is results


# --- blur --------------------------------------------------------------------------------------


def spread_of(image):
    """Covariance of where the brightness of a picture lies."""
    weights = image.astype(float).clip(0) / image.sum()  # OpenCV's spectra leave -1e-4
    rows, columns = np.indices(image.shape)
    places = np.stack([columns.ravel(), rows.ravel()])
    return np.cov(places, aweights=weights.ravel(), ddof=0)


@pytest.mark.parametrize("height", [64, 256])
def test_gaussian_blur_relative_to_the_height(height):
    point = np.zeros((height, height, 3), np.float32)
    point[height // 2, height // 2] = 1e4
    blur = transform("HandBlur", prob=1, kinds=["gaussian"], sigma=(0.02, 0.02))
    blurred = blur(dict(img=point))["img"]
    assert blurred.dtype == np.float32
    assert blurred.sum() == pytest.approx(3e4, rel=1e-4)
    np.testing.assert_allclose(
        spread_of(blurred[..., 0]), np.eye(2) * (0.02 * height) ** 2, rtol=0.03, atol=0.02
    )


def test_motion_blur_is_a_line():
    point = np.zeros((200, 200, 3), np.float32)
    point[100, 100] = 1e4
    blur = transform("HandBlur", prob=1, kinds=["motion"], length=(0.1, 0.1))
    angles = []
    for _ in range(12):
        spread, directions = np.linalg.eigh(spread_of(blur(dict(img=point))["img"][..., 0]))
        # A line of 20 pixels: 20² / 12 along it, and less than a pixel across.
        assert spread[1] == pytest.approx(400 / 12, rel=0.1)
        assert spread[0] < 0.7
        angles.append(np.arctan2(directions[1, 1], directions[0, 1]) % np.pi)
    assert np.ptp(angles) > 1


@pytest.mark.parametrize("length", [0.3, 1.0, 4.0, 7.7])
@pytest.mark.parametrize("angle", [0.0, 0.6, np.pi / 2, 3.0])
def test_motion_kernels_neither_shift_nor_dim(length, angle):
    kernel = motion_kernel(length, angle)
    side = len(kernel)
    assert kernel.shape == (side, side)
    assert side % 2 == 1
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    rows, columns = np.indices(kernel.shape) - side // 2
    assert (rows * kernel).sum() == pytest.approx(0, abs=1e-3)
    assert (columns * kernel).sum() == pytest.approx(0, abs=1e-3)


def test_a_motion_along_x():
    kernel = motion_kernel(4.0, 0.0)
    assert np.flatnonzero(kernel.sum(1)).tolist() == [2]
    np.testing.assert_allclose(kernel[2], kernel[2, ::-1], atol=1e-6)


def test_blur_changes_the_image_alone():
    before = cropped()
    labels, image = labels_of(before), before["img"].copy()
    after = transform("HandBlur", prob=1)(dict(before))
    assert (after["img"] != image).any()
    assert after["img"].dtype == np.uint8
    assert after.keys() == before.keys()
    assert_same_labels(after, labels)
    np.testing.assert_array_equal(before["img"], image)


def test_long_motions_are_made_of_short_ones():
    """A line of 40 pixels, in one convolution and in halves, on 8-bit noise."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.5)
    for angle in (0.3, 2.0):
        expected = cv2.filter2D(noise, -1, motion_kernel(40.0, angle)).astype(int)
        found = blur_along(noise, 40.0, angle).astype(int)
        middle = slice(25, 65)  # halves see another border
        assert np.abs(found - expected)[middle, middle].max() <= 3


def test_gains_of_8_bit_images_are_those_of_their_values():
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    gain = transform("ChannelGain")
    with cache_random_params(gain):
        eight = gain(dict(img=values))["img"]
        exact = gain(dict(img=values.astype(np.float64)))["img"]
    assert eight.dtype == np.uint8
    np.testing.assert_array_equal(eight, np.rint(exact))


# --- what they share ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("HandOcclusion", dict(fills=["noise"]), "img"),
        ("HandBlur", {}, "img"),
        ("HandTruncation", dict(input_size=INPUT_SIZE), "bbox_center"),
    ],
)
def test_seeds_probabilities_and_cached_randomness(name, options, key):
    make = sample if name == "HandTruncation" else cropped
    original = make()[key]
    always = transform(name, prob=1, **options)

    def run(step):
        return step(make())[key]

    np.random.seed(5)
    first, second = run(always), run(always)
    np.random.seed(5)
    np.testing.assert_array_equal(run(always), first)
    assert (second != first).any()
    with cache_random_params(always):
        np.testing.assert_array_equal(run(always), run(always))
    np.testing.assert_array_equal(run(transform(name, prob=0, **options)), original)
    some = transform(name, prob=0.5, **options)
    changed = [(run(some) != original).any() for _ in range(40)]
    assert 10 < sum(changed) < 30
    assert f"{name}(" in repr(some)
    assert "prob=0.5" in repr(some)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("HandOcclusion", dict(prob=1.2), "prob must be from 0 to 1, got 1.2"),
        ("HandOcclusion", dict(coverage=(0.5, 1.2)), "coverage must be .* <= 1; got"),
        ("HandOcclusion", dict(shapes=["star"]), "some of ellipse, rectangle, blob; got"),
        ("HandOcclusion", dict(shapes=[]), "must be a list"),
        ("HandOcclusion", dict(fills="noise"), "fills must be a list"),
        ("HandOcclusion", dict(fills=["picture"]), "belong together"),
        ("HandOcclusion", dict(fills=["noise"], picture_folder="x"), "belong together"),
        ("HandOcclusion", dict(hidden_weight=2), "hidden_weight must be from 0 to 1"),
        ("HandTruncation", dict(input_size=(192,)), "input_size must be"),
        ("HandTruncation", dict(input_size=(192, 256), keep=(0, 0.5)), "keep must be"),
        ("HandTruncation", dict(input_size=(192, 256), min_scale=0), "min_scale must be"),
        ("HandBlur", dict(kinds=["box"]), "some of gaussian, motion"),
        ("HandBlur", dict(sigma=(0.2, 0.1)), "sigma must be"),
        ("HandBlur", dict(length=(0.1,)), "length must be"),
    ],
)
def test_wrong_arguments_are_refused(name, options, complaint, tmp_path):
    if options.get("picture_folder"):
        options = options | dict(picture_folder=tmp_path)
    with pytest.raises(ValueError, match=complaint):
        transform(name, **options)


def test_the_wrong_place_in_the_pipeline_is_refused():
    with pytest.raises(ValueError, match="HandOcclusion must come after TopdownAffine"):
        transform("HandOcclusion")(sample())
    cut = transform("HandTruncation", input_size=INPUT_SIZE)
    with pytest.raises(ValueError, match="before TopdownAffine"):
        cut(cropped())
    with pytest.raises(ValueError, match="after GetBBoxCenterScale"):
        cut(dict(keypoints=np.zeros((1, 21, 2))))
    four = cropped()
    four["img"] = np.zeros((256, 192, 4), np.uint8)
    with pytest.raises(ValueError, match=r"an image \(H, W, 3\), got the shape \(256, 192, 4\)"):
        transform("HandOcclusion")(four)


# --- the shipped pipeline ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    """The steps of the config from the first after loading to the last before the codec."""
    with DefaultScope.overwrite_default_scope("mmpose"):
        pipeline = Config.fromfile(CONFIGS / CONFIG).train_dataloader.dataset.pipeline
    return [dict(step) for step in pipeline if step.type != "LoadImage"]


def test_the_shipped_pipeline_differs_from_haMeRs_by_the_augmentations(shipped):
    plain = Config.fromfile(CONFIGS / CONFIG.replace("-strong-aug", ""))
    expected = [dict(step) for step in plain.train_dataloader.dataset.pipeline][1:]
    added = {"mamba_mm.HandTruncation", "mamba_mm.HandOcclusion", "mamba_mm.HandBlur"}
    added.add("RandomApply")
    assert {step["type"] for step in shipped} >= added
    assert [step for step in shipped if step["type"] not in added] == expected


@pytest.mark.parametrize("is_right", [True, False])
def test_labels_follow_the_shipped_pipeline(shipped, is_right):
    pytest.importorskip("mmpretrain")
    packed, hidden = Compose(shipped), []
    for seed in range(6):
        results = sample(seed, is_right) | dict(ori_shape=(SIZE, SIZE), img_shape=(SIZE, SIZE))
        for step in packed.transforms[:-2]:
            results = step(results)
        hidden.append(results["occluded"].any())
        camera = crop_matrix(results) @ np.float64(results["cam_K"][0])
        projected = pixels(results["keypoints_cam"][0], camera)
        np.testing.assert_allclose(projected, results["transformed_keypoints"][0], atol=5e-3)
        assert results["img"].dtype == np.uint8
        assert (results["keypoints_visible"] == 1).all()
        for step in packed.transforms[-2:]:
            results = step(results)
        weights = results["data_samples"].gt_instance_labels.keypoint_weights
        assert (weights == 1).all()  # hidden or outside, as in HaMeR
    assert any(hidden)


def test_colours_change_and_skin_stays_skin(shipped):
    """MMPretrain's jitter in the shipped strength: no channels swapped, no green hands."""
    pytest.importorskip("mmpretrain")
    jitter = Compose([step for step in shipped if step["type"] == "RandomApply"])
    skin = np.full((16, 16, 3), (110, 140, 200), np.uint8)  # BGR
    before = dict(img=skin.copy(), keypoints=np.ones(3))
    colours = np.array([jitter(dict(before))["img"][0, 0] for _ in range(60)], int)
    blue, green, red = colours.T
    assert (red > green).all()
    assert (red > blue).all()
    assert len(np.unique(colours, axis=0)) > 30
    assert np.ptp(colours.sum(1)) > 60
    np.testing.assert_array_equal(before["img"], skin)
