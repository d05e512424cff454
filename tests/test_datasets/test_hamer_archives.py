"""HaMeR's training archives, as files of their layout that are written here."""

import importlib
import multiprocessing
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")

from hamer_samples import encoded_image, hamer_label, write_members, write_set, write_tar
from hand_mesh_samples import SIZE, make_hand, mirrored
from mmengine.registry import DATASETS, DefaultScope

from mamba_mm.datasets.hand_mesh import tar_index
from mamba_mm.datasets.hand_mesh.tar_index import INDEX_NAME, index_archives

TOOLS = Path(__file__).parents[2] / "tools" / "dataset_converters"


def build(folder, **options):
    with DefaultScope.overwrite_default_scope("mmpose"):
        return DATASETS.build(
            dict(type="mamba_mm.HaMeRTarDataset", data_root=str(folder), **options)
        )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "some-train"


def logged(monkeypatch, module):
    lines = []
    monkeypatch.setattr(
        f"mamba_mm.datasets.hand_mesh.{module}.print_log", lambda text, logger: lines.append(text)
    )
    return lines


# --- records -------------------------------------------------------------------------------


def test_records_are_the_labels(folder):
    write_set(folder, range(3))
    dataset = build(folder)
    assert len(dataset) == 3
    assert dataset.metainfo["dataset_name"] == "hamer_some-train"
    for number in range(3):
        record, hand = dataset[number], make_hand(number)
        for key in ("keypoints", "keypoints_cam", "mano_pose", "mano_betas"):
            np.testing.assert_allclose(record[key][0], hand[key], rtol=1e-5, atol=1e-5)
        label = hamer_label(number)
        box = np.r_[label["center"] - 100 * label["scale"], label["center"] + 100 * label["scale"]]
        np.testing.assert_allclose(record["bbox"][0], box, rtol=1e-5)
        assert record["is_right"] == record["has_mano"] == record["has_3d"] == 1
        assert record["has_cam"] == record["has_vertices"] == 0
        assert record["vertices_cam"].shape == (1, 778, 3)
        assert record["img"].shape == (SIZE, SIZE, 3)
        assert abs(float(record["img"].mean()) - 10 * (number % 2)) < 2
    assert record["img_path"] == str(folder / "000001.tar" / "img0002.jpg")
    assert (record["img_id"], record["id"], record["sample_idx"]) == (2, 2, 2)


def test_all_hands_of_an_image_are_samples(folder):
    write_tar(
        folder / "000000.tar", [("a", [hamer_label(1), hamer_label(2, left=True)]), ("b", [])]
    )
    write_tar(folder / "000001.tar", [("de.ep/er", [hamer_label(3)])])
    dataset = build(folder)
    assert [dataset[i]["is_right"].item() for i in range(3)] == [1, 0, 1]
    left = mirrored(make_hand(2))
    for key in ("keypoints", "keypoints_cam", "mano_pose"):
        np.testing.assert_allclose(dataset[1][key][0], left[key], rtol=1e-5, atol=1e-5)
    assert len(dataset) == 3


def test_images_are_blue_first_and_not_turned(folder):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = [200, 0, 0]
    encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
    # EXIF: turn by 90 degrees.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    turned = encoded[:2] + segment + encoded[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (60, 40, 3)
    folder.mkdir()
    labels = pickle.dumps([hamer_label(0)])
    write_members(folder / "0.tar", [("a.jpg", turned), ("a.data.pyd", labels)])
    image = build(folder)[0]["img"]
    assert image.shape == (40, 60, 3)
    assert image[20, 10, 0] > 180 > 20 > image[20, 10, 2]


@pytest.mark.parametrize("extension", ["jpeg", "png"])
def test_other_images_and_members_beside(folder, extension):
    folder.mkdir()
    members = [
        ("a.detection.npz", b"masks"),
        ("a.data.pyd", pickle.dumps([hamer_label(0)])),
        (f"a.{extension}", cv2.imencode(f".{extension}", np.full((9, 7, 3), 50, np.uint8))[1]),
    ]
    write_members(folder / "0.tar", [(name, bytes(content)) for name, content in members])
    assert build(folder)[0]["img"].shape == (9, 7, 3)


def test_joints_that_are_relative_to_the_wrist_are_moved_ahead(folder):
    joints = hamer_label(0)["keypoints_3d"]
    relative = joints - np.r_[joints[0, :3], 0]
    write_tar(folder / "0.tar", [("a", [hamer_label(0, keypoints_3d=relative)])])
    record = build(folder)[0]
    np.testing.assert_allclose(
        record["keypoints_cam"][0], relative[:, :3] + [0, 0, 1], rtol=1e-5, atol=1e-6
    )


def test_unlabelled_joints_and_large_confidences(folder):
    label = hamer_label(0)
    label["keypoints_2d"][3] = [np.nan, np.nan, 0]
    label["keypoints_2d"][4, 2] = 0.2
    label["keypoints_2d"][5, 2] = 0.6
    label["keypoints_2d"][6, 2] = 2.0
    label["keypoints_3d"][7] = [np.nan, np.nan, np.nan, 0]
    label |= dict(has_hand_pose=0, hand_pose=np.full(48, np.nan))
    label |= dict(has_betas=0, betas=np.full(10, np.nan))
    write_tar(folder / "0.tar", [("a", [label])])
    record = build(folder)[0]
    np.testing.assert_allclose(record["keypoints_visible"][0, 2:8], [1, 0, 0, 0.6, 1, 1], rtol=1e-6)
    assert not record["keypoints"][0, 3:5].any()
    np.testing.assert_array_equal(record["keypoints_cam_valid"][0], np.arange(21) != 7)
    assert not record["keypoints_cam"][0, 7].any()
    assert record["has_mano"] == 0
    assert not record["mano_pose"].any()


def test_filters(folder):
    weak = hamer_label(0)["keypoints_2d"]
    weak[4:, 2] = 0.2
    hands = [
        hamer_label(0),
        hamer_label(1, fitting_loss=31000.0),
        hamer_label(2, fitting_loss=None),
        hamer_label(3, keypoints_2d=weak),
        hamer_label(4, betas=np.r_[np.zeros(9), -3.5]),
        hamer_label(5, has_betas=np.array(0.0)),
        hamer_label(6, extra_info=dict(fitting_loss=np.array({}))),
        hamer_label(7, fitting_loss=np.nan),
    ]
    write_tar(folder / "0.tar", [(str(i), [hand]) for i, hand in enumerate(hands)])

    def names(dataset):
        return [dataset[i]["img_path"][-5] for i in range(len(dataset))]

    dataset = build(folder)
    assert names(dataset) == ["0", "2", "4", "5", "6"]
    assert [dataset[i]["has_mano"].item() for i in range(5)] == [1, 1, 0, 0, 1]
    assert not dataset[2]["mano_betas"].any()
    everything = dict(
        min_confidence=0.1, max_abs_beta=9, more_joints_than=0, max_fitting_loss=float("inf")
    )
    dataset = build(folder, filters=everything)
    assert names(dataset) == list("0123456")
    assert dataset[4]["has_mano"] == 1
    with pytest.raises(TypeError, match="min_joints"):
        build(folder, filters=dict(min_joints=4))
    with pytest.raises(ValueError, match="is left"):
        build(folder, filters=dict(more_joints_than=21))


@pytest.mark.parametrize(
    ("indices", "expected"), [(2, [0, 1]), (-1, [4]), ([3, 1], [3, 1]), (None, [0, 1, 2, 3, 4])]
)
def test_indices(folder, indices, expected):
    write_set(folder, range(5))
    dataset = build(folder, indices=indices)
    assert [int(dataset[i]["img_path"][-5]) for i in range(len(dataset))] == expected


@pytest.mark.parametrize("chosen", [2, -2, [4, 1]])
def test_subsets_as_of_any_data_set(folder, chosen):
    write_set(folder, range(5))
    dataset = build(folder)
    subset = dataset.get_subset(chosen)
    expected = {2: [0, 1], -2: [3, 4]}[chosen] if isinstance(chosen, int) else chosen
    assert [subset[i]["img_id"] for i in range(len(subset))] == expected
    assert len(dataset) == 5


def test_indices_beyond_the_hands(folder):
    write_set(folder, range(2))
    for indices in ([2], [-1]):
        with pytest.raises(ValueError, match="among the 2 hands"):
            build(folder, indices=indices)
    with pytest.raises(ValueError, match="no hand of"):
        build(folder, indices=[])


def test_the_toolbox_gets_all_it_wants(folder):
    write_set(folder, range(2), left=True)
    pipeline = [
        dict(type="LoadImage"),
        dict(type="GetBBoxCenterScale", padding=1.0),
        dict(type="mamba_mm.HandMeshRandomFlip"),
        dict(type="TopdownAffine", input_size=(48, 64), use_udp=False),
        dict(type="GenerateTarget", encoder=dict(type="mamba_mm.MANOLabel", input_size=(48, 64))),
        dict(type="PackPoseInputs", meta_keys=("ori_shape", "flipped", "dataset_name")),
    ]
    sample = build(folder, pipeline=pipeline)[1]
    assert tuple(sample["inputs"].shape) == (3, 64, 48)
    assert sample["data_samples"].ori_shape == (SIZE, SIZE)
    assert sample["data_samples"].flipped
    right = make_hand(1)["keypoints_cam"]
    np.testing.assert_allclose(
        sample["data_samples"].gt_instance_labels.keypoints_3d[0], right, atol=1e-5
    )


# --- the index -----------------------------------------------------------------------------


def test_the_index_is_kept_and_only_changed_archives_are_read_again(folder, monkeypatch):
    write_set(folder, range(4))
    read = []
    index_one = tar_index._index_one
    monkeypatch.setattr(
        tar_index, "_index_one", lambda tar: read.append(tar.name) or index_one(tar)
    )
    first = build(folder)[3]
    assert read == ["000000.tar", "000001.tar"]
    again = build(folder)[3]
    assert len(read) == 2
    np.testing.assert_array_equal(first["keypoints"], again["keypoints"])

    write_tar(folder / "000000.tar", [("new", [hamer_label(9), hamer_label(8)])])
    write_tar(folder / "0000005.tar", [("between", [hamer_label(7)])])
    dataset = build(folder)
    assert read[2:] == ["000000.tar", "0000005.tar"]
    expected = [make_hand(seed)["keypoints"][0] for seed in (9, 8, 7, 2, 3)]
    found = [dataset[i]["keypoints"][0, 0] for i in range(len(dataset))]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    (folder / "000001.tar").unlink()
    assert len(build(folder)) == 3
    assert len(read) == 4


@pytest.mark.parametrize("changed", ["time", "size"])
def test_a_changed_time_or_size_is_a_changed_archive(folder, monkeypatch, changed):
    path = folder / "000000.tar"
    write_set(folder, range(2))
    os.utime(path, ns=(1, 1))
    build(folder)
    lines = logged(monkeypatch, "tar_index")
    if changed == "time":
        os.utime(path, ns=(1, 2))
    else:
        path.write_bytes(path.read_bytes() + bytes(512))
        os.utime(path, ns=(1, 1))
    build(folder)
    assert "1 archives" in lines[0]


@pytest.mark.parametrize("content", [b"", b"no npz", None], ids=["empty", "other", "version"])
def test_an_unusable_index_is_made_anew(folder, monkeypatch, content):
    write_set(folder, range(2))
    build(folder)
    if content is None:
        np.savez(folder / INDEX_NAME, stamps=np.array("[]"), hands=np.zeros(0))
    else:
        (folder / INDEX_NAME).write_bytes(content)
    lines = logged(monkeypatch, "tar_index")
    assert len(build(folder)) == 2
    assert "is unusable" in lines[0]
    assert "archives" in lines[1]


def test_the_index_goes_elsewhere(folder, tmp_path):
    write_set(folder, range(2))
    cache = tmp_path / "cache"
    build(folder, cache_dir=str(cache))
    assert not (folder / INDEX_NAME).exists()
    assert [path.name for path in (cache / "some-train").iterdir()] == [INDEX_NAME]


def test_a_folder_that_cannot_be_written_to(folder, tmp_path, monkeypatch):
    write_set(folder, range(2))
    lines = logged(monkeypatch, "tar_index")
    (tmp_path / "file").write_text("")
    assert len(build(folder, cache_dir=str(tmp_path / "file"))) == 2
    assert "give a folder" in lines[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["000000.tar"]


def test_the_tool_indexes_with_several_processes(folder, tmp_path, monkeypatch, capsys):
    write_set(folder, range(4))
    cache = str(tmp_path / "cache")
    monkeypatch.syspath_prepend(TOOLS)
    tool = importlib.import_module("index_hamer_archives")
    # A spawned process would import for seconds; the pool is the same.
    forking = multiprocessing.get_context("fork")
    monkeypatch.setattr(tar_index, "get_context", lambda method: forking)
    arguments = [str(folder), "--workers", "2", "--cache-dir", cache]
    assert tool.main(arguments) == 0
    assert "4 hands in 2 archives" in capsys.readouterr().out
    lines = logged(monkeypatch, "tar_index")
    parallel = index_archives(folder, cache)[1]
    assert not lines
    np.testing.assert_array_equal(parallel, index_archives(folder, tmp_path / "other")[1])

    assert tool.main([str(tmp_path / "nowhere")]) == 1
    assert "no *.tar" in capsys.readouterr().err


# --- bad archives --------------------------------------------------------------------------


def refused(folder, match):
    with pytest.raises(ValueError, match=match) as caught:
        build(folder)
    assert str(folder) in str(caught.value)
    assert not (folder / INDEX_NAME).exists()


def test_no_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.tar"):
        build(tmp_path)


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_an_archive_that_is_cut_off(folder, share):
    write_set(folder, range(4), per_tar=4)
    path = folder / "000000.tar"
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(share * len(content))])
    refused(folder, r"000000\.tar.*(damaged|members)")


def test_a_file_that_is_no_archive(folder):
    folder.mkdir()
    (folder / "0.tar").write_bytes(b"<html>quota exceeded</html>")
    refused(folder, "damaged, fetch it again")
    (folder / "0.tar").write_bytes(b"\0" * 10240)
    refused(folder, "has no files")


@pytest.mark.parametrize("missing", ["a.jpg", "a.data.pyd"])
def test_a_missing_member(folder, missing):
    folder.mkdir()
    members = {"a.jpg": encoded_image(3), "a.data.pyd": pickle.dumps([hamer_label(0)])}
    members["b.jpg"], members["b.data.pyd"] = members.values()
    members.pop(missing)
    write_members(folder / "0.tar", members.items())
    refused(folder, "sample a has the members")


def test_code_in_the_labels_is_not_run(folder, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "victim"),)

    write_tar(folder / "0.tar", [("a", [hamer_label(0, betas=Evil())])])
    refused(folder, r"sample a: refused: the file names posix\.mkdir")
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(center=None), "lacks center; it has keypoints_2d"),
        (dict(keypoints_2d=np.ones((21, 2))), r"keypoints_2d has the shape \(21, 2\)"),
        (dict(keypoints_3d=np.ones((20, 4))), r"keypoints_3d has the shape \(20, 4\)"),
        (dict(hand_pose=np.zeros(45)), "hand_pose has the shape"),
        (dict(right="left"), "right is no array of numbers"),
        (dict(extra_info=dict(fitting_loss=dict(reprojection_loss="x"))), "reprojection_loss"),
    ],
)
def test_labels_of_another_form(folder, changes, match):
    write_tar(folder / "0.tar", [("a", [hamer_label(0, **changes)])])
    refused(folder, match)


@pytest.mark.parametrize("labels", [b"damaged", pickle.dumps({}), pickle.dumps([3])])
def test_labels_that_are_none(folder, labels):
    write_tar(folder / "0.tar", [("a", labels)])
    refused(folder, r"sample a: (not a readable|expected a)")


def test_boxes_in_pixels_are_noticed(folder):
    labels = [hamer_label(seed, scale=200 * hamer_label(seed)["scale"]) for seed in range(3)]
    write_tar(folder / "0.tar", [(str(i), [label]) for i, label in enumerate(labels)])
    with pytest.raises(ValueError, match=r"300 times as large as their hands.*divided by 200"):
        build(folder)


def test_one_number_for_a_square_box(folder):
    write_tar(folder / "0.tar", [("a", [hamer_label(0, scale=np.float32(0.5))])])
    x1, y1, x2, y2 = build(folder)[0]["bbox"][0]
    assert (x2 - x1, y2 - y1) == (100, 100)


def bad_hand(kind):
    joints = hamer_label(0)["keypoints_3d"]
    return {
        "nan": dict(betas=np.full(10, np.nan)),
        "box": dict(scale=np.array([0.5, 0.0])),
        "mm": dict(keypoints_3d=joints * [1000, 1000, 1000, 1]),
        "opengl": dict(keypoints_3d=joints * [1, -1, -1, 1]),
    }[kind]


@pytest.mark.parametrize("kind", ["nan", "box", "mm", "opengl"])
def test_a_set_of_bad_hands_is_refused(folder, kind):
    hands = [hamer_label(0, **bad_hand(kind)) for _ in range(2)]
    write_tar(folder / "0.tar", [(str(i), [hand]) for i, hand in enumerate(hands)])
    with pytest.raises(ValueError, match=r"2 of 2 hands have (labels|3-D joints)"):
        build(folder)


def test_single_bad_hands_do_no_harm(folder, monkeypatch):
    lines = logged(monkeypatch, "hamer_archives")
    hands = [hamer_label(0) for _ in range(38)]
    hands[4] = hamer_label(0, **bad_hand("nan"))
    hands[7] = hamer_label(0, **bad_hand("mm"))
    write_tar(folder / "0.tar", [(f"{i:02d}", [hand]) for i, hand in enumerate(hands)])
    dataset = build(folder)
    assert len(dataset) == 37
    has_3d = {dataset[i]["img_path"][-6:-4]: dataset[i]["has_3d"].item() for i in range(37)}
    assert "04" not in has_3d
    assert [name for name, there in has_3d.items() if not there] == ["07"]
    assert any("1 hands have labels that are not finite" in line for line in lines)
    assert any("1 hands have 3-D joints that are no hand's" in line for line in lines)


def test_an_archive_that_shrinks_while_in_use(folder):
    write_set(folder, range(2))
    dataset = build(folder)
    (folder / "000000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="is cut off"):
        dataset.get_data_info(0)


def test_an_image_that_cannot_be_decoded(folder):
    folder.mkdir()
    write_members(
        folder / "0.tar", [("a.jpg", b"no jpg"), ("a.data.pyd", pickle.dumps([hamer_label(0)]))]
    )
    with pytest.raises(ValueError, match=r"image a\.jpg cannot be decoded"):
        build(folder).get_data_info(0)
