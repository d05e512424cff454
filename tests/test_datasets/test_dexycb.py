"""DexYCB: published splits, PCA poses of both sides, frames without a hand."""

import os

import numpy as np
import pytest
import yaml

pytest.importorskip("cv2")
pytest.importorskip("mmpose")

from hand_mesh_samples import LAYER, posed
from hand_release_samples import SERIALS, SUBJECT, write_dexycb, write_image
from test_hand_mesh_datasets import assert_is_record, build

from mamba_mm.datasets.hand_mesh import dexycb_files
from mamba_mm.datasets.hand_mesh.dexycb_splits import SETUPS
from mamba_mm.models.body_models import save_mano_npz

RIGHT, LEFT = f"{SUBJECT}/20200709_1", f"{SUBJECT}/20200709_2"
FRAME = f"{RIGHT}/{SERIALS[0]}/labels_000001.npz"


@pytest.fixture(autouse=True)
def no_mano_of_the_machine(monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)


@pytest.fixture(scope="module")
def left_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("mano") / "left.npz"
    save_mano_npz(LAYER.model.mirrored(), path)
    return str(path)


def dexycb(root, **options):
    return build("DexYCBMeshDataset", data_root=str(root), **dict(setup=None) | options)


def test_records(tmp_path, left_model):
    hands = write_dexycb(tmp_path)
    dataset = dexycb(tmp_path, mano_path="toy", mano_left_path=left_model)
    assert len(dataset) == len(hands) == 8  # two of three frames show a hand
    for number, (record, (where, hand)) in enumerate(zip(dataset, hands.items(), strict=True)):
        assert_is_record(record)
        sequence, serial, frame = where
        folder = tmp_path / SUBJECT / sequence / serial
        assert record["img_path"] == str(folder / f"color_{frame:06d}.jpg")
        assert record["id"] == record["img_id"] == number
        assert record["dataset_name"] == "dexycb_mesh"
        right = sequence == "20200709_1"
        assert record["is_right"] == right
        assert record["has_3d"] == record["has_mano"] == record["has_cam"] == 1
        for name in ("keypoints_cam", "mano_betas", "cam_K"):
            np.testing.assert_allclose(record[name][0], hand[name], atol=1e-6)
        np.testing.assert_allclose(record["mano_pose"][0], hand["mano_pose"], atol=1e-5)
        np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], atol=1e-3)
        box = [*hand["keypoints"].min(0), *hand["keypoints"].max(0)]
        np.testing.assert_allclose(record["bbox"][0], box, atol=1e-3)
        # The parameters give the joints again; those of a left hand in a mirror.
        side = np.array([1.0 if right else -1.0, 1, 1])
        pose = record["mano_pose"][0] * (1 if right else np.tile([1.0, -1, -1], 16))
        joints, _ = posed(pose, record["mano_betas"][0])
        found = record["keypoints_cam"][0]
        np.testing.assert_allclose((joints - joints[0]) * side, found - found[0], atol=1e-5)


def test_poses_need_the_model_of_their_side(tmp_path, left_model):
    write_dexycb(tmp_path, serials=SERIALS[:1])

    def has_mano(**options):
        return [record["has_mano"][0] for record in dexycb(tmp_path, **options)]

    assert has_mano() == [0, 0, 0, 0]
    assert has_mano(mano_path="toy") == [1, 1, 0, 0]
    assert has_mano(mano_left_path=left_model) == [0, 0, 1, 1]
    record = dexycb(tmp_path)[0]
    assert not record["mano_pose"].any()
    assert record["has_3d"] == 1
    with pytest.raises(ValueError, match="for right hands is of a left hand; give MANO_RIGHT"):
        dexycb(tmp_path, mano_path=left_model)


def rewrite(path, **changes):
    """Change entries of an archive; ``...`` takes one away."""
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not ...})


def test_a_hand_may_lack_its_pose(tmp_path):
    write_dexycb(tmp_path, ("20200709_1",))
    rewrite(tmp_path / FRAME, pose_m=np.zeros((1, 51)))
    records = dexycb(tmp_path, mano_path="toy")
    assert [record["has_mano"][0] for record in records] == [0, 1, 1, 1]


def test_choices(tmp_path):
    write_dexycb(tmp_path)
    write_dexycb(tmp_path / "other", ("20200813_1",), subject="20200813-subject-02")
    for part in ("20200813-subject-02", "calibration/mano_20200813_1_right"):
        (tmp_path / "other" / part).rename(tmp_path / part)

    def folders(**options):
        records = dexycb(tmp_path, **options)
        return {
            os.path.relpath(record["img_path"], tmp_path).rpartition("/")[0] for record in records
        }

    assert len(folders()) == 6
    assert folders(subjects=["20200813-subject-02"]) == {
        f"20200813-subject-02/20200813_1/{serial}" for serial in SERIALS
    }
    assert folders(sequences=[LEFT], serials=SERIALS[1:]) == {f"{LEFT}/{SERIALS[1]}"}
    samples = dexycb(tmp_path, sequences=[RIGHT], sample_interval=3)
    assert [record["id"] for record in samples] == [0, 3]
    for name, complaint in (
        ("subjects", "unknown subjects .*known: 20200709-subject-01, 20200813-subject-02"),
        ("sequences", "unknown sequences .*known: 20200709-subject-01/20200709_1"),
        ("serials", f"unknown serials .*known: {SERIALS[0]}"),
    ):
        for wrong in (["nothing"], [], "20200709-subject-01"):
            with pytest.raises(ValueError, match=complaint):
                dexycb(tmp_path, **{name: wrong})


def test_splits_are_disjoint_and_of_the_published_sizes():
    cells = {}
    for setup, splits in SETUPS.items():
        parts = [
            {(a, b, c) for a in p.subjects for b in p.serials for c in p.sequences}
            for p in splits.values()
        ]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 10 * 8 * 100
        cells[setup] = [len(part) for part in parts]
    assert cells == dict(
        s0=[6400, 320, 1280],
        s1=[7 * 800, 800, 2 * 800],
        s2=[6 * 1000, 1000, 1000],
        s3=[15 * 400, 2 * 400, 3 * 400],
    )
    assert SETUPS["s0"]["train"].sequences[:6] == (0, 1, 2, 3, 5, 6)
    assert SETUPS["s0"]["val"].subjects == (0, 1)
    assert SETUPS["s1"]["test"].subjects == (7, 8)
    assert SETUPS["s3"]["val"].sequences == (*range(15, 20), *range(95, 100))


def test_positions_count_sequences_subjects_and_cameras(tmp_path):
    serials = [f"{number:012d}" for number in range(8)]
    write_dexycb(tmp_path, ("s004",), serials)  # the fifth in alphabetical order
    for number in range(100):
        (tmp_path / SUBJECT / f"s{number:03d}").mkdir(exist_ok=True)
    only = dict(subjects=[SUBJECT])

    def chosen(setup, split):
        # Of the hundred sequences one has files, and the first of the chosen ones is asked for.
        return dexycb(tmp_path, setup=setup, split=split, sequences=[f"{SUBJECT}/s004"], **only)

    assert len(chosen("s0", "val")) == 16
    cameras = {record["img_path"].split("/")[-2] for record in chosen("s2", "val")}
    assert cameras == {serials[6]}
    for split in ("train", "test"):  # train leaves out every fifth, test the first two subjects
        with pytest.raises(ValueError, match="unknown sequences"):
            chosen("s0", split)
    with pytest.raises(ValueError, match=r"has 1 subjects of 10.*setup=None"):
        dexycb(tmp_path, setup="s0")
    (tmp_path / SUBJECT / "s100").mkdir()
    with pytest.raises(ValueError, match="101 sequences of 100"):
        chosen("s0", "val")
    with pytest.raises(ValueError, match=r"unknown setup .*known: s0, s1, s2, s3"):
        dexycb(tmp_path, setup="s4")
    with pytest.raises(ValueError, match=r"unknown split .*known: train, val, test"):
        dexycb(tmp_path, split="training")


def test_setups_need_all_cameras(tmp_path):
    write_dexycb(tmp_path, ("s004",))
    for number in range(100):
        (tmp_path / SUBJECT / f"s{number:03d}").mkdir(exist_ok=True)
    options = dict(subjects=[SUBJECT], sequences=[f"{SUBJECT}/s004"], split="val")
    with pytest.raises(ValueError, match=r"meta\.yml has 2 cameras, expected 8"):
        dexycb(tmp_path, setup="s0", **options)


def test_the_index_of_frames_with_a_hand_is_kept(tmp_path, monkeypatch):
    write_dexycb(tmp_path)
    opened = []
    read = dexycb_files.read_hand
    monkeypatch.setattr(
        dexycb_files, "read_hand", lambda path: opened.append(path.parent) or read(path)
    )
    dexycb(tmp_path)
    assert not (tmp_path / dexycb_files.INDEX_NAME).exists()
    paths = [record["img_path"] for record in dexycb(tmp_path, cache=True)]
    opened.clear()
    again = dexycb(tmp_path, cache=True)
    assert opened == []
    assert [record["img_path"] for record in again] == paths

    # A frame more in one folder: only that one is looked through.
    folder = tmp_path / RIGHT / SERIALS[1]
    (folder / "labels_000003.npz").write_bytes((folder / "labels_000002.npz").read_bytes())
    write_image(folder / "color_000003.jpg")
    assert len(dexycb(tmp_path, cache=True)) == len(paths) + 1
    assert set(opened) == {folder}
    assert {path.name for path in tmp_path.iterdir()} == {
        SUBJECT,
        "calibration",
        dexycb_files.INDEX_NAME,
    }


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {"stamp": 1}}', '{"a": [1]}'])
def test_an_unreadable_index_is_replaced(tmp_path, content):
    write_dexycb(tmp_path, ("20200709_1",))
    (tmp_path / dexycb_files.INDEX_NAME).write_text(content)
    assert len(dexycb(tmp_path, cache=True)) == 4
    assert SERIALS[0] in (tmp_path / dexycb_files.INDEX_NAME).read_text()


def test_a_stale_index_is_named(tmp_path):
    write_dexycb(tmp_path, ("20200709_1",))
    dexycb(tmp_path, cache=True)
    rewrite(tmp_path / FRAME.replace("001", "002"), joint_3d=np.full((1, 21, 3), -1.0))
    dataset = dexycb(tmp_path, cache=True)
    with pytest.raises(ValueError, match=r"labels_000002\.npz has no hand.*remove .*\.json"):
        dataset[1]


def joints_of(root):
    with np.load(root / FRAME) as archive:
        return archive["joint_3d"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(joint_3d=...), "no joint_3d, only"),
        (dict(joint_3d=lambda j: j[0]), r"joint_3d has the shape \(21, 3\), expected \(1, 21, 3\)"),
        (dict(joint_3d=lambda j: j * np.nan), "joint_3d has values that are not finite"),
        (dict(joint_3d=lambda j: j * 1000), "probably in millimetres"),
        (dict(joint_3d=lambda j: j * [1, -1, -1]), "median depth is -"),
        (
            dict(joint_3d=lambda j: j + np.float32([0.1, 0, 0])),
            "pixels from joint_2d; do the calibration",
        ),
        (dict(joint_2d=np.zeros((1, 20, 2))), r"joint_2d has the shape \(1, 20, 2\)"),
        (dict(pose_m=np.zeros((1, 48))), r"pose_m has the shape \(1, 48\), expected \(1, 51\)"),
        (dict(pose_m=np.array([{}])), "allow_pickle=False"),
    ],
)
def test_bad_labels_are_named(tmp_path, changes, complaint):
    write_dexycb(tmp_path, ("20200709_1",))
    ((name, value),) = changes.items()
    if callable(value):
        value = value(joints_of(tmp_path))
    rewrite(tmp_path / FRAME, **{name: value})
    with pytest.raises(ValueError, match=complaint) as error:
        dexycb(tmp_path)
    assert FRAME in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_damaged_archives(tmp_path, content):
    write_dexycb(tmp_path, ("20200709_1",))
    (tmp_path / FRAME).write_bytes(content)
    with pytest.raises(ValueError, match=r"labels_000001\.npz: not the labels of a frame"):
        dexycb(tmp_path)


META, SHAPE = f"{RIGHT}/meta.yml", "calibration/mano_20200709_1_right/mano.yml"
CAMERA = f"calibration/intrinsics/{SERIALS[0]}_640x480.yml"


@pytest.mark.parametrize(
    ("file", "changes", "complaint"),
    [
        (META, dict(serials=...), r"meta\.yml has no serials"),
        (META, dict(mano_sides=["both"]), r"mano_sides is \['both'\].*right or left"),
        (META, dict(mano_calib=[]), r"mano_calib \[\]"),
        (SHAPE, dict(betas=[0.0] * 9), r"mano\.yml: betas has the shape \(9,\), expected \(10,\)"),
        (CAMERA, dict(color=dict(fx=1.0)), r"640x480\.yml has no fy"),
        (CAMERA, dict(color=...), "no color"),
    ],
)
def test_bad_settings_are_named(tmp_path, file, changes, complaint):
    write_dexycb(tmp_path, ("20200709_1",))
    path = tmp_path / file
    content = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not ...}))
    with pytest.raises(ValueError, match=complaint):
        dexycb(tmp_path)


def test_yaml_runs_nothing(tmp_path):
    write_dexycb(tmp_path, ("20200709_1",))
    (tmp_path / META).write_text(f"a: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    with pytest.raises(ValueError, match=r"meta\.yml is no YAML"):
        dexycb(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("file", [META, SHAPE, CAMERA])
def test_missing_files_are_named(tmp_path, file):
    write_dexycb(tmp_path, ("20200709_1",))
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match="unpacked release of DexYCB"):
        dexycb(tmp_path)


def test_missing_images_and_folders_are_named(tmp_path):
    write_dexycb(tmp_path, ("20200709_1",))
    folder = tmp_path / RIGHT / SERIALS[0]
    (folder / "color_000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"labels of frame 2, but no image color_000002"):
        dexycb(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no labels in"):
        dexycb(tmp_path)
    folder.rmdir()
    with pytest.raises(FileNotFoundError, match="no folder"):
        dexycb(tmp_path)
    assert len(dexycb(tmp_path, serials=SERIALS[1:])) == 2
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        dexycb(tmp_path / "nowhere")


def test_a_set_without_any_hand_is_an_error(tmp_path):
    write_dexycb(tmp_path, ("20200709_1",), SERIALS[:1])
    for frame in ("001", "002"):
        rewrite(tmp_path / FRAME.replace("001", frame), joint_3d=np.full((1, 21, 3), -1.0))
    with pytest.raises(ValueError, match="no hand in the chosen sequences"):
        dexycb(tmp_path)
