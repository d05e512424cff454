"""InterHand2.6M: world to camera, one hand a sample, fits of MANO."""

import json

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("mmpose")

from hand_mesh_samples import LAYER, SHARED_DATA, pixels, posed
from hand_release_samples import change_json, write_interhand
from mmengine.registry import TRANSFORMS
from test_hand_mesh_datasets import assert_is_record, build

from mamba_mm.datasets.hand_mesh.interhand import INTERHAND_TO_OPENPOSE
from mamba_mm.models.body_models import HAND_BONES, OPENPOSE_NAMES

SAMPLES = SHARED_DATA / "interhand2.6m"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no samples in {SAMPLES}")


@pytest.fixture(autouse=True)
def no_mano_of_the_machine(monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)


def interhand(root, **options):
    files = dict(ann_file="data.json", camera_param_file="camera.json", joint_file="joint_3d.json")
    return build("InterHandMeshDataset", data_root=str(root), **files | options)


def real(**options):
    prefix = "test_interhand2.6m"
    return interhand(
        SAMPLES,
        ann_file=f"{prefix}_data.json",
        camera_param_file=f"{prefix}_camera.json",
        joint_file=f"{prefix}_joint_3d.json",
        **options,
    )


def test_order():
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    theirs = [*(f"{finger}{number}" for finger in fingers for number in (4, 3, 2, 1)), "wrist"]
    assert tuple(theirs[i] for i in INTERHAND_TO_OPENPOSE) == OPENPOSE_NAMES


@needs_samples
def test_real_samples():
    annotations = json.loads((SAMPLES / "test_interhand2.6m_data.json").read_text())["annotations"]
    boxes = {annotation["image_id"]: annotation["bbox"] for annotation in annotations}
    records = list(real())
    assert [record["is_right"][0] for record in records] == [1, 0, 1, 0, 0, 1]
    for record in records:
        assert_is_record(record)
        assert (SAMPLES / record["img_path"]).is_file()
        projected = pixels(record["keypoints_cam"][0], record["cam_K"][0])
        np.testing.assert_allclose(record["keypoints"][0], projected, atol=1e-2)
        x, y, width, height = boxes[record["img_id"]]
        x1, y1, x2, y2 = record["bbox"][0]
        assert x - 1 <= x1 <= x2 <= x + width + 1
        assert y - 1 <= y1 <= y2 <= y + height + 1
        joints = record["keypoints_cam"][0]
        bones = np.array([np.linalg.norm(joints[b] - joints[a]) for a, b in HAND_BONES])
        bones = bones.reshape(5, 4)
        assert ((bones > 0.012) & (bones < 0.12)).all()
        # From the palm to the tip; the last bones of the pinky are about equal.
        assert (bones[1:4, :-1] > bones[1:4, 1:]).all()
        assert (bones[1:, 0] > 1.5 * bones[1:, 1:].max(1)).all()


@needs_samples
def test_real_samples_in_a_wrong_camera(tmp_path):
    for path in SAMPLES.glob("*.json"):
        (tmp_path / path.name.removeprefix("test_interhand2.6m_")).write_text(path.read_text())

    def behind(cameras):
        for table in cameras.values():
            table["campos"] = {name: [-5000.0, 0, 20000] for name in table["campos"]}

    change_json(tmp_path / "camera.json", behind)
    with pytest.raises(ValueError, match="behind the camera"):
        interhand(tmp_path)


def test_hands_come_out_in_metres_before_the_camera(tmp_path):
    right, left = write_interhand(tmp_path)
    dataset = interhand(tmp_path, serialize_data=True)
    expected = [(40, 10, right), (41, 10, left), (42, 11, right), (45, 12, left)]
    assert len(dataset) == len(expected)
    for record, (number, image, hand) in zip(dataset, expected, strict=True):
        assert_is_record(record)
        assert (record["id"], record["img_id"]) == (number, image)
        assert record["img_path"] == str(tmp_path / f"{image - 10}.jpg")
        assert record["is_right"] == (hand is right)
        assert record["dataset_name"] == "interhand_mesh"
        for name in ("keypoints_cam", "cam_K"):
            np.testing.assert_allclose(record[name][0], hand[name], atol=1e-6)
        np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], atol=1e-3)
        box = [*hand["keypoints"].min(0), *hand["keypoints"].max(0)]
        np.testing.assert_allclose(record["bbox"][0], box, atol=1e-3)
        assert record["has_3d"] == record["has_cam"] == 1
        assert record["has_mano"] == record["has_vertices"] == 0


def test_fits_are_absolute_and_in_the_frame_of_the_camera(tmp_path):
    right, left = write_interhand(tmp_path)
    dataset = interhand(tmp_path, mano_file="MANO_NeuralAnnot.json", mano_path="toy")
    for record, hand in zip(dataset, (right, left, right, left), strict=True):
        assert record["has_mano"] == 1
        np.testing.assert_allclose(record["mano_pose"][0], hand["mano_pose"], atol=1e-5)
        np.testing.assert_allclose(record["mano_betas"][0], hand["mano_betas"], atol=1e-6)
        # Mirrored to the right, as in the pipeline, they give the joints again.
        flip = TRANSFORMS.build(dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"))
        seen = flip(dict(record, img=np.zeros((8, 8, 3), np.uint8)))
        joints, _ = posed(seen["mano_pose"][0], seen["mano_betas"][0])
        found = seen["keypoints_cam"][0]
        np.testing.assert_allclose(joints - joints[0], found - found[0], atol=1e-5)


def test_fits_need_the_mano_file_and_may_be_missing(tmp_path):
    write_interhand(tmp_path)
    fits = dict(mano_file="MANO_NeuralAnnot.json")
    assert interhand(tmp_path, **fits)[0]["has_mano"] == 0
    change_json(tmp_path / "MANO_NeuralAnnot.json", lambda fits: fits["5"].pop("0"))
    dataset = interhand(tmp_path, mano_path="toy", **fits)
    assert [record["has_mano"][0] for record in dataset] == [0, 0, 1, 1]


def mark_invalid(joints):
    """Make joints of the first annotation invalid, which leaves placeholders behind."""

    def change(files):
        for joint in joints:
            files["joint_valid"][joint] = [0]
            if "world_coord" in files:
                files["world_coord"][joint] = [float("nan"), 1e9, 1.0]

    return change


def test_placeholders_of_invalid_joints_have_no_influence(tmp_path):
    right, _ = write_interhand(tmp_path)
    invalid = mark_invalid([20, 3, *range(21, 39)])
    change_json(tmp_path / "data.json", lambda files: invalid(files["annotations"][0]))
    change_json(tmp_path / "joint_3d.json", lambda files: invalid(files["5"]["0"]))
    dataset = interhand(tmp_path)
    # The left hand has three joints left, which are no hand.
    assert [record["id"] for record in dataset] == [40, 42, 45]
    assert len(interhand(tmp_path, min_joints=3)) == 4
    record = dataset[0]
    valid = np.ones(21)
    valid[[0, 1]] = 0  # wrist and the root of the thumb
    np.testing.assert_array_equal(record["keypoints_cam_valid"][0], valid)
    np.testing.assert_array_equal(record["keypoints_visible"][0], valid)
    assert not record["keypoints_cam"][0, :2].any()
    rest = right["keypoints"][2:]
    np.testing.assert_allclose(record["bbox"][0], [*rest.min(0), *rest.max(0)], atol=1e-3)


@pytest.mark.parametrize("file", ["data", "joint_3d"])
def test_a_joint_counts_if_both_files_say_so(tmp_path, file):
    write_interhand(tmp_path)

    def change(content):
        labels = content["annotations"][1] if file == "data" else content["5"]["1"]
        labels["joint_valid"][7] = [0]

    change_json(tmp_path / f"{file}.json", change)
    valid = interhand(tmp_path)[2]["keypoints_cam_valid"][0]
    np.testing.assert_array_equal(np.flatnonzero(valid == 0), [5])


def test_every_nth_image(tmp_path):
    write_interhand(tmp_path)
    dataset = interhand(tmp_path, sample_interval=2)
    assert [record["img_id"] for record in dataset] == [10, 10, 12]


def in_metres(files):
    for frame in files["5"].values():
        frame["world_coord"] = (np.array(frame["world_coord"]) / 1000).tolist()


def set_at(*path, value):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("joint_3d", in_metres, r"right hand of capture 5, frame 0, camera 400 .*no plausible"),
        ("joint_3d", lambda files: files["5"].pop("1"), "frame 1 of capture 5 is not in"),
        ("joint_3d", set_at("5", "1", value={}), "frame 1 of capture 5 .* no joint_valid"),
        (
            "joint_3d",
            lambda files: files["5"]["2"]["world_coord"].pop(),
            r"frame 2 of .*world_coord has the shape \(41, 3\), expected \(42, 3\)",
        ),
        (
            "joint_3d",
            set_at("5", "0", "world_coord", 4, value=[1, 2, float("inf")]),
            "frame 0 .*not finite",
        ),
        ("camera", lambda files: files["5"]["campos"].pop("400"), "camera 400 of capture 5 is not"),
        ("camera", lambda files: files["5"].pop("focal"), "camera 400 .* has no focal"),
        (
            "camera",
            set_at("5", "camrot", "400", value=(2 * np.eye(3)).tolist()),
            "camrot is no rotation",
        ),
        ("camera", set_at("5", "princpt", "400", value=[1, "x"]), "princpt is not an array of num"),
        ("data", set_at("annotations", 1, "hand_type", value="both"), "hand_type is 'both'"),
        ("data", set_at("annotations", 1, "image_id", value=3), "annotation 21 .* of image 3"),
        ("data", lambda files: files["annotations"][0].pop("joint_valid"), "no joint_valid"),
        ("data", lambda files: files["images"][0].pop("capture"), "annotation 20 .* no capture"),
        ("data", lambda files: files.pop("images"), r"data\.json has no images"),
        ("data", set_at("annotations", value=[]), "no usable hand"),
    ],
)
def test_bad_fields_are_named(tmp_path, file, change, complaint):
    write_interhand(tmp_path)
    change_json(tmp_path / f"{file}.json", change)
    with pytest.raises(ValueError, match=complaint):
        interhand(tmp_path)


def test_bad_fits_are_named(tmp_path):
    write_interhand(tmp_path)
    change_json(
        tmp_path / "MANO_NeuralAnnot.json",
        lambda fits: fits["5"]["1"]["right"].update(pose=[0.0] * 45),
    )
    dataset = interhand(tmp_path, mano_file="MANO_NeuralAnnot.json", mano_path="toy")
    assert dataset[0]["has_mano"] == 1
    with pytest.raises(ValueError, match=r"frame 1.*NeuralAnnot.json: pose has the shape \(45,\)"):
        dataset[2]


def test_arguments_are_checked(tmp_path):
    write_interhand(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json is not there"):
        interhand(tmp_path, joint_file="nowhere.json")
    with pytest.raises(ValueError, match="min_joints must be 2 to 21, got 1"):
        interhand(tmp_path, min_joints=1)
    with pytest.raises(ValueError, match="sample_interval must be at least 1, got 0"):
        interhand(tmp_path, sample_interval=0)
    (tmp_path / "camera.json").write_text("[]")
    with pytest.raises(ValueError, match=r"camera\.json holds no JSON object"):
        interhand(tmp_path)


def test_the_mean_of_left_hands_is_that_of_right_ones_in_a_mirror():
    mirrored = LAYER.model.mirrored()
    from mamba_mm.datasets.hand_mesh.pose_basis import mirrored_mean, right_basis

    np.testing.assert_array_equal(mirrored_mean(right_basis("a test", "toy")), mirrored.hands_mean)
