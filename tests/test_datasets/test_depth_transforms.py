"""Depth maps: from files and from networks, and along with the image into the crop."""

import cv2
import numpy as np
import pytest
import torch
from hand_mesh_samples import SIZE, make_hand, mirrored, write_coco
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, TRANSFORMS

pytest.importorskip("mmpose")

from mamba_mm.datasets.hand_mesh import hand_record
from mamba_mm.datasets.transforms.depth_maps import normalised

AFFINE = dict(type="TopdownAffine", input_size=(192, 256), use_udp=False)
MOVE = dict(
    type="RandomBBoxTransform",
    shift_factor=0.1,
    shift_prob=1.0,
    scale_factor=(0.7, 1.3),
    scale_prob=1.0,
    rotate_factor=60,
    rotate_prob=1.0,
)
FLIP = dict(type="mamba_mm.HandMeshRandomFlip")
APPEND = dict(type="mamba_mm.AppendDepth")

pytestmark = pytest.mark.usefixtures("mmpose_scope")


def transform(name, **options):
    return TRANSFORMS.build(dict(type=f"mamba_mm.{name}", **options))


def sample_of(image, is_right=True, **more):
    hand = make_hand(0) if is_right else mirrored(make_hand(0))
    low, high = hand["keypoints"].min(0), hand["keypoints"].max(0)
    given = hand | dict(bbox=np.array([*low, *high]), is_right=is_right)
    sample = hand_record("test", img_path=None, img_id=0, id=0, **given)
    sample |= dict(img=image, bbox_center=sample["bbox"][:, :2] + np.float32([[30, 35]]))
    return sample | dict(bbox_scale=np.float32([[150, 200]])) | more


def photo(height=SIZE, width=SIZE):
    return np.random.default_rng(1).integers(0, 255, (height, width, 3)).astype(np.uint8)


def cropped_depth(inverse_depth, *, image=None, steps=(), is_right=True):
    """The crop of a map that was loaded, (256, 192, 4), and the whole sample."""
    image = photo() if image is None else image
    sample = sample_of(image, is_right) | dict(inverse_depth=np.float32(inverse_depth))
    results = Compose([FLIP, *steps, AFFINE, APPEND])(sample)
    return results["img"], results


# --- from files ------------------------------------------------------------------------------


def test_a_file_of_sixteen_bits_is_read_as_inverse_depth(tmp_path):
    values = np.uint16([[0, 500], [1000, 4000]])
    cv2.imwrite(str(tmp_path / "a.png"), values)
    sample = dict(img=np.zeros((2, 2, 3), np.uint8), depth_path=str(tmp_path / "a.png"))
    found = transform("LoadDepth")(dict(sample))
    assert found["has_depth"] == 1
    assert found["inverse_depth"].dtype == np.float32
    np.testing.assert_allclose(found["inverse_depth"], [[np.nan, 1 / 500], [1 / 1000, 1 / 4000]])
    nearer = transform("LoadDepth", kind="inverse_depth")(dict(sample))["inverse_depth"]
    np.testing.assert_allclose(nearer, [[np.nan, 500], [1000, 4000]])


def test_an_array_is_read_and_what_is_not_finite_is_unknown(tmp_path):
    np.save(tmp_path / "a.npy", np.float64([[np.inf, np.nan], [-1, 2]]))
    sample = dict(img=np.zeros((2, 2, 3), np.uint8), depth_path=str(tmp_path / "a.npy"))
    found = transform("LoadDepth")(sample)["inverse_depth"]
    np.testing.assert_allclose(found, [[np.nan, np.nan], [np.nan, 0.5]])


def test_maps_are_found_beside_the_images(tmp_path):
    """The last folder of the name counts, and only whole names do."""
    folder = tmp_path / "rgb" / "my_rgb" / "rgb" / "left"
    maps = tmp_path / "rgb" / "my_rgb" / "depth" / "left"
    maps.mkdir(parents=True)
    cv2.imwrite(str(maps / "7.png"), np.full((3, 3), 2, np.uint16))
    sample = dict(img=np.zeros((3, 3, 3), np.uint8), img_path=str(folder / "7.jpg"))
    found = transform("LoadDepth", folders=("rgb", "depth"))(dict(sample))
    np.testing.assert_array_equal(found["inverse_depth"], 0.5)
    with pytest.raises(FileNotFoundError, match=r"no depth map .*7\.npy of .*7\.jpg"):
        transform("LoadDepth", folders=("rgb", "depth"), suffix=".npy")(dict(sample))
    with pytest.raises(FileNotFoundError, match="lead to no depth map"):
        transform("LoadDepth", folders=("colour", "depth"))(dict(sample))


def test_photos_without_a_map_may_be_let_pass():
    tolerant = transform("LoadDepth", missing="unknown")
    with pytest.warns(UserWarning, match="photos without a depth map"):
        found = tolerant(dict(img=np.zeros((2, 3, 3), np.uint8), img_path=None))
    assert np.isnan(found["inverse_depth"]).all()
    assert found["inverse_depth"].shape == (2, 3)
    assert found["has_depth"] == 0
    with pytest.raises(FileNotFoundError, match=r"an image has no depth_path.*missing='unknown'"):
        transform("LoadDepth")(dict(img=np.zeros((2, 3, 3), np.uint8)))


def test_a_named_file_must_be_there_and_readable(tmp_path):
    tolerant = transform("LoadDepth", missing="unknown")
    sample = dict(img=np.zeros((2, 2, 3), np.uint8), depth_path=str(tmp_path / "a.png"))
    with pytest.raises(FileNotFoundError, match=r"no depth map .*a\.png, which a sample"):
        tolerant(dict(sample))
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"a\.png cannot be read; expected an image of one"):
        tolerant(dict(sample))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match=r"has the shape \(2, 2, 3\)"):
        tolerant(dict(sample))
    cv2.imwrite(str(tmp_path / "a.png"), np.ones((4, 2), np.uint8))
    with pytest.raises(ValueError, match="map of 4 x 2 pixels for an image of 2 x 2"):
        tolerant(dict(sample))


def test_coco_files_name_the_maps_of_their_images(tmp_path):
    write_coco(tmp_path / "hands.json", [make_hand(0)], ["right"])
    options = dict(ann_file=str(tmp_path / "hands.json"), data_prefix=dict(img=str(tmp_path)))
    dataset = dict(type="mamba_mm.HandMeshCocoDataset", serialize_data=False, **options)
    assert "depth_path" not in DATASETS.build(dataset)[0]
    path = tmp_path / "hands.json"
    path.write_text(path.read_text().replace('"id": 7,', '"id": 7, "depth_file": "depth/7.png",'))
    assert DATASETS.build(dataset)[0]["depth_path"] == str(tmp_path / "depth" / "7.png")


# --- from networks ---------------------------------------------------------------------------


class BlueIsNear(torch.nn.Module):
    """Half as large a map, which tells how much blue there is, less one."""

    def __init__(self, dims: int = 4):
        super().__init__()
        self.dims = dims

    def forward(self, images):
        blue = torch.nn.functional.avg_pool2d(images[:, 2:], 2) - 1
        return blue if self.dims == 4 else blue[:, 0]


@pytest.fixture
def network(tmp_path):
    def save(module):
        torch.jit.save(torch.jit.script(module), tmp_path / "network.pt")
        return dict(
            type="mamba_mm.TorchScriptDepthEstimator",
            path=str(tmp_path / "network.pt"),
            mean=(0, 0, 0),
            std=(1, 1, 1),
        )

    return save


@pytest.mark.parametrize("dims", [3, 4])
def test_an_estimator_sees_the_photo_and_its_map_is_resized(network, dims):
    image = np.zeros((6, 8, 3), np.uint8)
    image[:, 4:, 0] = 255  # blue comes first
    estimated = transform("EstimateDepth", estimator=network(BlueIsNear(dims)))(dict(img=image))
    found = estimated["inverse_depth"]
    assert found.shape == (6, 8)
    assert estimated["has_depth"] == 1
    # Inverse depth has no zero; all of it is known.
    assert (found > 0).all()
    np.testing.assert_allclose(found[:, 7] - found[:, 0], 1, atol=1e-5)
    assert found[0, 3] < found[0, 4]


def test_depth_that_is_not_positive_is_unknown(network):
    image = np.full((4, 4, 3), 255, np.uint8)
    image[:, :2, 0] = 0
    depth = transform("EstimateDepth", estimator=network(BlueIsNear()), kind="depth")
    assert np.isnan(depth(dict(img=image))["inverse_depth"]).all()


class Moments(torch.nn.Module):
    """A map of one pixel's colours, so that a test can look at what arrived."""

    def forward(self, images):
        return images[:, :, 0, :1].permute(0, 2, 1) + images.shape[2]


def test_photos_are_normalised_and_resized_for_the_network(network):
    settings = network(Moments()) | dict(size=(5, 9), mean=(0.5, 0, 0), std=(1, 1, 2))
    estimator = transform("EstimateDepth", estimator=settings).estimator
    seen = estimator(torch.ones(1, 3, 20, 20))
    np.testing.assert_allclose(seen[0, 0].numpy() - 5, [0.5, 1, 0.5], atol=1e-6)
    assert not any(parameter.requires_grad for parameter in estimator.parameters())


def test_wrong_estimators_are_refused(network, tmp_path):
    class Classes(torch.nn.Module):
        def forward(self, images):
            return images

    with pytest.raises(ValueError, match=r"returned the shape \(1, 3, 4, 4\) for one image"):
        transform("EstimateDepth", estimator=network(Classes()))(dict(img=photo(4, 4)))

    class Overflowing(torch.nn.Module):
        def forward(self, images):
            return images[:, :1] / 0

    with pytest.raises(ValueError, match="returned values that are not finite"):
        transform("EstimateDepth", estimator=network(Overflowing()))(dict(img=photo(4, 4)))
    missing = dict(type="mamba_mm.TorchScriptDepthEstimator", path=str(tmp_path / "none.pt"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.pt"):
        transform("EstimateDepth", estimator=missing)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pt")
    weights = missing | dict(path=str(tmp_path / "weights.pt"))
    with pytest.raises(ValueError, match=r"weights\.pt is no TorchScript; a checkpoint holds"):
        transform("EstimateDepth", estimator=weights)
    with pytest.raises(ValueError, match="size must be"):
        transform("EstimateDepth", estimator=network(Classes()) | dict(size=(5,)))


# --- into the crop ---------------------------------------------------------------------------


@pytest.mark.parametrize("is_right", [True, False])
def test_depth_goes_the_way_of_the_image(is_right):
    """Mirrored, moved, turned and resized: a map painted on the image stays on it."""
    y, x = np.mgrid[:SIZE, :SIZE]
    ramp = np.float32(3 * x + y**1.5 + 50)
    image = np.repeat(ramp[..., None], 3, axis=2)
    crop, results = cropped_depth(ramp, image=image, steps=[MOVE], is_right=is_right)
    assert results["flipped"] == (not is_right)
    assert abs(results["bbox_rotation"][0]) > 1
    mask = results["depth_mask"]
    # Outside of the image nothing is known.
    assert 0.3 < mask.mean() < 1
    assert (crop[~mask] == 0)[:, 3].all()
    expected = normalised(
        np.where(cv2.erode(np.uint8(mask), np.ones((3, 3))) > 0, crop[..., 0], np.nan)
    )
    inner = expected != 0
    assert np.corrcoef(expected[inner], crop[inner][:, 3])[0, 1] > 0.9999
    np.testing.assert_allclose(crop[inner][:, 3], expected[inner], atol=0.05)


def test_colours_pass_unchanged_and_depth_is_normalised():
    y, x = np.mgrid[:SIZE, :SIZE]
    image = photo()
    crop, results = cropped_depth(1 / (1.0 + 0.01 * x + 0.02 * y), image=image)
    plain = Compose([AFFINE])(sample_of(image))["img"]
    assert crop.dtype == np.float32
    np.testing.assert_array_equal(crop[..., :3], plain)
    depth = crop[..., 3][results["depth_mask"]]
    assert depth.mean() == pytest.approx(0, abs=1e-5)
    assert depth.std() == pytest.approx(1, abs=1e-5)
    # The top is near, and what is near is large.
    rows = np.nonzero(results["depth_mask"])[0]
    assert crop[rows[0], 100, 3] > 1 > -1 > crop[255, 100, 3]
    assert "inverse_depth" not in results


def test_what_is_put_in_front_of_a_hand_has_no_known_depth():
    loaded = sample_of(photo()) | dict(inverse_depth=np.ones((SIZE, SIZE), np.float32))
    before = Compose([FLIP, AFFINE])(loaded)
    hidden = transform("HandOcclusion", prob=1.0, fills=["noise"])(dict(before))
    painted = (hidden["img"] != before["img"]).any(axis=-1)
    bare, covered = (transform("AppendDepth")(sample) for sample in (before, hidden))
    assert painted.any()
    assert bare["depth_mask"][painted].any()
    assert not covered["depth_mask"][painted].any()
    other = ~covered["occlusion_mask"]
    np.testing.assert_array_equal(covered["depth_mask"][other], bare["depth_mask"][other])


def test_units_and_zeros_of_inverse_depth_do_not_matter():
    inverse = np.random.default_rng(0).uniform(1, 2, (SIZE, SIZE))
    first, _ = cropped_depth(inverse)
    second, _ = cropped_depth(1000 * inverse + 7)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_nothing_is_interpolated_between_known_and_unknown():
    inverse = np.full((SIZE, SIZE), np.nan)
    inverse[:, :90], inverse[:, 110:] = 1.0, 3.0
    crop, results = cropped_depth(inverse, steps=[MOVE])
    mask = results["depth_mask"]
    assert 0.2 < mask.mean() < 0.95
    assert len(np.unique(np.round(crop[mask][:, 3], 4))) == 2
    assert not crop[~mask][:, 3].any()


@pytest.mark.parametrize("values", [np.nan, 0.7])
def test_unknown_and_flat_depth_gives_zeros(values):
    crop, results = cropped_depth(np.full((SIZE, SIZE), values))
    assert not crop[..., 3].any()
    assert results["depth_mask"].any() == (values == 0.7)


def test_a_few_wrong_values_do_not_squeeze_the_others():
    inverse = np.tile(np.linspace(1, 2, 100, dtype=np.float32), (100, 1))
    plain = normalised(inverse)
    inverse[0, :50] = 1e6
    assert np.abs(normalised(inverse) - plain)[1:].max() < 0.1


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([FLIP, AFFINE, APPEND], "put LoadDepth or EstimateDepth behind LoadImage"),
        ([dict(type="mamba_mm.LoadDepth", missing="unknown"), APPEND], "after TopdownAffine"),
        ([FLIP, dict(type="mamba_mm.LoadDepth", missing="unknown")], "before HandMeshRandomFlip"),
        ([AFFINE, dict(type="mamba_mm.LoadDepth", missing="unknown")], "mirrored or cropped"),
        ([AFFINE, dict(type="mamba_mm.DepthPerturbation")], "must come after AppendDepth"),
    ],
)
@pytest.mark.filterwarnings("ignore:LoadDepth")
def test_the_wrong_order_is_refused(steps, complaint):
    with pytest.raises(ValueError, match=complaint):
        Compose(steps)(sample_of(photo()))


def test_the_flip_of_mmpose_is_refused():
    sample = sample_of(photo()) | dict(inverse_depth=np.ones((SIZE, SIZE)), flip=True)
    with pytest.raises(ValueError, match=r"RandomFlip.*use mamba_mm\.HandMeshRandomFlip"):
        Compose([AFFINE, APPEND])(sample)


# --- perturbed -------------------------------------------------------------------------------


def with_depth():
    ramp = np.tile(np.linspace(1, 2, SIZE), (SIZE, 1))
    return cropped_depth(ramp)[1]


def test_depth_is_lost_as_often_as_asked_for():
    perturb = transform("DepthPerturbation", drop_prob=0.3)
    sample, lost = with_depth(), 0
    for _ in range(60):
        crop = perturb(dict(sample))
        gone = not crop["img"][..., 3].any()
        assert gone == (not crop["depth_mask"].any())
        if not gone:
            np.testing.assert_array_equal(crop["img"], sample["img"])
        np.testing.assert_array_equal(crop["img"][..., :3], sample["img"][..., :3])
        lost += gone
    assert 8 < lost < 30


def test_holes_and_noise():
    sample = with_depth()
    before = sample["img"].copy()
    torn = transform("DepthPerturbation", drop_prob=0.0, hole_prob=1.0)(dict(sample))
    hole = sample["depth_mask"] & ~torn["depth_mask"]
    rows, columns = np.nonzero(hole)
    assert 0 < len(rows) <= 128 * 96
    assert not torn["img"][hole][:, 3].any()
    assert np.ptp(rows) < 128
    assert np.ptp(columns) < 96
    np.testing.assert_array_equal(torn["img"][~hole], before[~hole])
    noisy = transform("DepthPerturbation", drop_prob=0.0, noise=0.1)(dict(sample))
    change = (noisy["img"] - before)[..., 3]
    assert change[sample["depth_mask"]].std() == pytest.approx(0.1, rel=0.05)
    assert not change[~sample["depth_mask"]].any()
    assert noisy["img"].dtype == np.float32
    np.testing.assert_array_equal(sample["img"], before)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("LoadDepth", dict(folders="rgb"), "folders must be two names"),
        ("LoadDepth", dict(folders=("rgb",)), "folders must be two names"),
        ("LoadDepth", dict(missing="zeros"), "unknown missing 'zeros'; known: error, unknown"),
        ("LoadDepth", dict(kind="disparity"), "unknown kind 'disparity'; known: depth, inverse_"),
        ("EstimateDepth", dict(kind="z", estimator={}), "EstimateDepth: unknown kind 'z'"),
        ("DepthPerturbation", dict(drop_prob=1.5), "from 0 to 1, got 1.5"),
        ("DepthPerturbation", dict(hole_prob=-1), "from 0 to 1, got -1"),
        ("DepthPerturbation", dict(noise=-0.1), "noise must not be negative, got -0.1"),
    ],
)
def test_wrong_arguments_are_refused(name, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        transform(name, **options)
