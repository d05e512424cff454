"""The hand data sets: one record from every format, and errors for labels that cannot be."""

import dataclasses
import json
import os

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

pytest.importorskip("cv2")
pytest.importorskip("mmpose")

from hand_mesh_samples import (
    SHARED_DATA,
    SIZE,
    make_hand,
    mirrored,
    pixels,
    posed,
    write_coco,
    write_freihand,
)
from mmpose.apis.inference import dataset_meta_from_config
from mmpose.datasets.datasets.utils import parse_pose_metainfo

from mamba_mm.datasets.hand_mesh import (
    check_plausible_hands,
    freihand,
    hand_metainfo,
    hand_record,
)
from mamba_mm.datasets.hand_mesh.coco_style import (
    RHD_TO_OPENPOSE,
    HandMeshCocoDataset,
    RHDMeshDataset,
)
from mamba_mm.datasets.hand_mesh.freihand import FreiHANDMeshDataset
from mamba_mm.models.body_models import HAND_BONES, OPENPOSE_NAMES, resolve_mano

RHD = SHARED_DATA / "rhd"
needs_rhd = pytest.mark.skipif(not RHD.is_dir(), reason=f"no RHD samples in {RHD}")

SHAPES = dict(
    bbox=(1, 4),
    bbox_score=(1,),
    keypoints=(1, 21, 2),
    keypoints_visible=(1, 21),
    keypoints_cam=(1, 21, 3),
    keypoints_cam_valid=(1, 21),
    vertices_cam=(1, 778, 3),
    has_vertices=(1,),
    mano_pose=(1, 48),
    mano_betas=(1, 10),
    has_3d=(1,),
    has_mano=(1,),
    cam_K=(1, 3, 3),
    has_cam=(1,),
    is_right=(1,),
)


@pytest.fixture(autouse=True)
def no_mano_of_the_machine(monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)


def build(name, **options):
    # Serialising collects garbage, a third of a second each time.
    options = dict(serialize_data=False) | options
    with DefaultScope.overwrite_default_scope("mmpose"):
        return DATASETS.build(dict(type=f"mamba_mm.{name}", **options))


def rhd(**options):
    return build("RHDMeshDataset", ann_file=str(RHD / "test_rhd.json"), **options)


def make_record(**labels):
    given = dict(img_path="a.jpg", img_id=1, id=2, bbox=[1, 2, 3, 4], is_right=True) | labels
    return hand_record("sample 3 of file.json", **given)


def assert_is_record(record):
    for name, shape in SHAPES.items():
        assert record[name].shape == shape, name
        assert record[name].dtype == np.float32, name


# --- metainfo ------------------------------------------------------------------------------


def test_metainfo_is_what_mmpose_has_for_hands():
    meta = parse_pose_metainfo(hand_metainfo("some_set"))
    theirs = parse_pose_metainfo(dict(from_file="configs/_base_/datasets/freihand2d.py"))
    assert meta["dataset_name"] == "some_set"
    for key in ("num_keypoints", "keypoint_id2name", "flip_indices", "skeleton_links"):
        assert meta[key] == theirs[key]
    for key in ("keypoint_colors", "skeleton_link_colors", "dataset_keypoint_weights"):
        np.testing.assert_array_equal(meta[key], theirs[key])
    assert tuple(meta["skeleton_links"]) == HAND_BONES


@pytest.mark.parametrize(
    "of", [FreiHANDMeshDataset, RHDMeshDataset, HandMeshCocoDataset], ids=lambda of: of.__name__
)
def test_mmpose_finds_the_metainfo_without_building_the_data_set(of):
    dataset = dict(type=f"mamba_mm.{of.__name__}", ann_file="nowhere")
    meta = dataset_meta_from_config(Config(dict(train_dataloader=dict(dataset=dataset))))
    assert meta["num_keypoints"] == 21
    assert meta["dataset_name"] == of.METAINFO["dataset_name"]


# --- the record ----------------------------------------------------------------------------


def test_unknown_labels_are_zeros_and_flagged():
    record = make_record()
    assert_is_record(record)
    assert record["is_right"] == record["bbox_score"] == 1
    for name in set(SHAPES) - {"is_right", "bbox", "bbox_score"}:
        assert not record[name].any(), name
    assert (record["img_path"], record["img_id"], record["id"]) == ("a.jpg", 1, 2)


def test_known_labels_are_kept_and_flagged():
    hand = make_hand(0)
    record = make_record(**hand, is_right=False)
    assert_is_record(record)
    for name, value in hand.items():
        np.testing.assert_allclose(record[name][0], value, rtol=1e-6)
    for name in ("has_3d", "has_mano", "has_cam", "has_vertices"):
        assert record[name] == 1
    assert record["keypoints_visible"].all()
    assert record["keypoints_cam_valid"].all()
    assert record["is_right"] == 0


def test_joints_that_are_not_valid_become_zero():
    hand = make_hand(0)
    weights = np.ones(21)
    weights[[4, 20]] = 0
    record = make_record(**hand, keypoints_visible=weights, keypoints_cam_valid=weights)
    for name in ("keypoints", "keypoints_cam"):
        assert not record[name][0, [4, 20]].any()
        assert record[name][0, weights > 0].all()
    nothing = make_record(**hand, keypoints_cam_valid=np.zeros(21))
    assert nothing["has_3d"] == 0


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (dict(keypoints=np.zeros((20, 2))), r"keypoints has the shape \(20, 2\), expected \(21, 2"),
        (dict(mano_pose=np.zeros((1, 48)), mano_betas=np.zeros(10)), "mano_pose has the shape"),
        (dict(mano_pose=np.zeros(48)), "come together"),
        (dict(bbox=[5, 5, 5, 9]), "empty"),
        (dict(bbox=[5, 5, 9, np.nan]), "bbox has values that are not finite"),
        (dict(keypoints=np.ones((21, 2)), keypoints_visible=np.full(21, 2.0)), "from 0 to 1"),
    ],
)
def test_records_complain_and_name_the_sample(labels, complaint):
    with pytest.raises(ValueError, match=complaint) as error:
        make_record(**labels)
    assert "sample 3 of file.json" in str(error.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda joints: joints * 1000, "probably in millimetres"),
        (lambda joints: joints / 1000, "another unit or joint order"),
        (lambda joints: joints * [1, -1, -1], "OpenGL axes"),
        (lambda joints: joints * np.nan, "no plausible hand"),
    ],
)
def test_implausible_hands_are_refused(change, complaint):
    joints = np.stack([make_hand(seed)["keypoints_cam"] for seed in range(3)])
    valid = np.ones((3, 21))
    check_plausible_hands(joints, valid, str)
    joints[1] = change(joints[1])
    with pytest.raises(ValueError, match=complaint) as error:
        check_plausible_hands(joints, valid, lambda index: f"hand {index}")
    assert str(error.value).startswith("hand 1 ")


def test_placeholders_of_invalid_joints_are_not_judged():
    joints = make_hand(0)["keypoints_cam"][None]
    valid = np.ones((1, 21))
    valid[0, :11] = 0
    joints[0, :11] = -1000
    check_plausible_hands(joints, valid, str)


# --- FreiHAND --------------------------------------------------------------------------------


def test_freihand_labels(tmp_path):
    hands = write_freihand(tmp_path, poses=3, versions=2)
    dataset = build(
        "FreiHANDMeshDataset",
        data_root=str(tmp_path),
        versions=("gs", "hom"),
        with_vertices=True,
        mano_path="toy",
        serialize_data=True,
    )
    assert [dataset[i]["img_id"] for i in range(len(dataset))] == [0, 1, 2, 3, 4, 5]
    for index in range(6):
        record, hand = dataset[index], hands[index % 3]
        assert_is_record(record)
        assert record["img_path"] == str(tmp_path / "training" / "rgb" / f"{index:08d}.jpg")
        assert record["id"] == index
        assert record["dataset_name"] == "freihand_mesh"
        np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], atol=0.01)
        for name in ("keypoints_cam", "vertices_cam", "mano_pose", "mano_betas", "cam_K"):
            np.testing.assert_allclose(record[name][0], hand[name], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(record["bbox"], [[0, 0, SIZE, SIZE]])
        for flag in ("is_right", "has_3d", "has_mano", "has_vertices", "has_cam"):
            assert record[flag] == 1
        # The absolute pose gives the mesh again, up to where it is.
        _, vertices = posed(record["mano_pose"][0], record["mano_betas"][0])
        shift = record["vertices_cam"][0].mean(0) - vertices.mean(0)
        np.testing.assert_allclose(vertices + shift, record["vertices_cam"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [(None, [3, 4, 5]), (2, [3, 4]), (-1, [5]), ([2, 0], [5, 3])],
)
def test_freihand_indices_choose_poses(tmp_path, indices, expected):
    write_freihand(tmp_path)
    options = dict(data_root=str(tmp_path), indices=indices)
    dataset = build("FreiHANDMeshDataset", versions=["hom"], **options)
    assert [dataset[i]["img_id"] for i in range(len(dataset))] == expected
    both = build("FreiHANDMeshDataset", versions=["gs", "hom"], **options)
    poses = [dataset[i]["img_id"] % 3 for i in range(len(dataset))]
    assert [both[i]["img_id"] % 3 for i in range(len(both))] == poses * 2


def test_freihand_vertices_are_read_on_request_only(tmp_path):
    write_freihand(tmp_path, names=("K", "xyz", "mano"))
    record = build("FreiHANDMeshDataset", data_root=str(tmp_path), versions=["gs"])[0]
    assert_is_record(record)
    assert record["has_vertices"] == 0
    with pytest.raises(FileNotFoundError, match=r"training_verts\.json"):
        build("FreiHANDMeshDataset", data_root=str(tmp_path), versions=["gs"], with_vertices=True)


def test_freihand_without_mano_has_no_parameters(tmp_path, monkeypatch):
    write_freihand(tmp_path)
    options = dict(data_root=str(tmp_path), versions=["gs"])
    record = build("FreiHANDMeshDataset", **options)[0]
    assert record["has_mano"] == 0
    assert not record["mano_pose"].any()
    assert record["has_3d"] == 1
    with pytest.raises(FileNotFoundError):
        build("FreiHANDMeshDataset", mano_path=str(tmp_path / "MANO_RIGHT.pkl"), **options)
    monkeypatch.setenv("MAMBA_MM_MANO", "toy")
    assert build("FreiHANDMeshDataset", **options)[0]["has_mano"] == 1


def test_freihand_needs_the_mean_pose_of_right_hands(tmp_path, monkeypatch):
    write_freihand(tmp_path)
    left = dataclasses.replace(resolve_mano("toy"), side="left")
    monkeypatch.setattr(freihand, "resolve_mano", lambda path: left)
    with pytest.raises(ValueError, match=r"a left hand.*MANO_RIGHT"):
        build("FreiHANDMeshDataset", data_root=str(tmp_path), versions=["gs"], mano_path="x")


def test_freihand_boxes_around_keypoints(tmp_path):
    (hand,) = write_freihand(tmp_path, poses=1, versions=1)
    options = dict(data_root=str(tmp_path), versions=["gs"])
    record = build("FreiHANDMeshDataset", bbox="keypoints", **options)[0]
    expected = [*hand["keypoints"].min(0), *hand["keypoints"].max(0)]
    np.testing.assert_allclose(record["bbox"][0], expected, atol=0.01)


@pytest.mark.parametrize("names", [(), ("K",), ("K", "xyz")])
def test_freihand_evaluation_may_lack_labels(tmp_path, names):
    write_freihand(tmp_path, versions=1, split="evaluation", names=names)
    options = dict(data_root=str(tmp_path), split="evaluation", with_vertices=True)
    dataset = build("FreiHANDMeshDataset", test_mode=True, mano_path="toy", **options)
    assert len(dataset) == 3
    record = dataset[2]
    assert_is_record(record)
    assert record["has_cam"] == ("K" in names)
    assert record["has_3d"] == record["keypoints_visible"].mean() == ("xyz" in names)
    assert record["has_mano"] == record["has_vertices"] == 0
    if "xyz" not in names:
        with pytest.raises(ValueError, match="use bbox='image'"):
            build("FreiHANDMeshDataset", bbox="keypoints", **options)


def test_freihand_cache(tmp_path):
    write_freihand(tmp_path)
    options = dict(data_root=str(tmp_path), versions=["gs"], cache=True)
    plain = build("FreiHANDMeshDataset", **options | dict(cache=False))[1]
    assert not list(tmp_path.glob("*.npz"))
    build("FreiHANDMeshDataset", **options)
    assert {p.name for p in tmp_path.iterdir() if p.suffix != ".json"} == {
        "training",
        "training_mamba_mm.npz",
    }

    # Other content with the same size and time: only a cache answers with the old one.
    path = tmp_path / "training_K.json"
    text, status = path.read_text(), path.stat()
    path.write_text(text.replace("480.0", "490.0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    cached = build("FreiHANDMeshDataset", **options)[1]
    for name in SHAPES:
        np.testing.assert_array_equal(cached[name], plain[name])

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert build("FreiHANDMeshDataset", **options)[1]["cam_K"][0, 0, 0] == 490

    # What is added later leaves the rest in the cache.
    build("FreiHANDMeshDataset", with_vertices=True, **options)
    with np.load(tmp_path / "training_mamba_mm.npz") as stored:
        assert set(stored) == {"stamp", "K", "xyz", "verts", "mano"}
    path.unlink()
    path.write_text(text)
    build("FreiHANDMeshDataset", **options)
    with np.load(tmp_path / "training_mamba_mm.npz") as stored:
        assert "verts" in stored
        assert stored["K"][0, 0, 0] == 480


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_an_unreadable_cache_is_replaced(tmp_path, content):
    write_freihand(tmp_path)
    (tmp_path / "training_mamba_mm.npz").write_bytes(content)
    options = dict(data_root=str(tmp_path), versions=["gs"], cache=True)
    assert build("FreiHANDMeshDataset", **options)[0]["has_3d"] == 1
    assert np.load(tmp_path / "training_mamba_mm.npz")["K"].shape == (3, 3, 3)


def cut_off(path):
    path.write_text(path.read_text()[:-40])


def one_less(path):
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))


def transposed(path):
    path.write_text(json.dumps([entry[:-1] for entry in json.loads(path.read_text())]))


def in_mm(path):
    path.write_text(json.dumps((np.array(json.loads(path.read_text())) * 1000).tolist()))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut_off, "is the download complete"),
        (one_less, "do not belong together"),
        (transposed, r"entry 0 has the shape \(20, 3\), expected \(21, 3\)"),
        (in_mm, r"entry 0 of .*training_xyz\.json is no plausible hand.* millimetres"),
        (lambda path: path.write_text("[]"), "is an empty list"),
    ],
)
def test_damaged_freihand_files(tmp_path, damage, complaint):
    write_freihand(tmp_path)
    damage(tmp_path / "training_xyz.json")
    with pytest.raises(ValueError, match=complaint):
        build("FreiHANDMeshDataset", data_root=str(tmp_path), versions=["gs"])


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        (dict(split="test"), ValueError, "unknown split 'test'; known: training, evaluation"),
        (dict(versions=["green"]), ValueError, "unknown version 'green'; known: gs, hom"),
        (dict(versions="gs"), ValueError, "versions is a list"),
        (dict(bbox="tight"), ValueError, "unknown bbox 'tight'"),
        (dict(indices=[3]), ValueError, "among the 3 poses"),
        (dict(), FileNotFoundError, r"00000006\.jpg is not there.*versions=\('gs',\)"),
        (dict(data_root="/nowhere"), FileNotFoundError, "official release"),
        (dict(split="evaluation"), FileNotFoundError, "no image in"),
        (dict(bbox_file="x.json"), TypeError, "bbox_file"),
    ],
)
def test_freihand_complaints(tmp_path, options, error, complaint):
    write_freihand(tmp_path)
    with pytest.raises(error, match=complaint):
        build("FreiHANDMeshDataset", **dict(data_root=str(tmp_path)) | options)


# --- COCO style ------------------------------------------------------------------------------


def test_rhd_order():
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    theirs = ["wrist", *(f"{finger}{number}" for finger in fingers for number in (4, 3, 2, 1))]
    assert tuple(theirs[i] for i in RHD_TO_OPENPOSE) == OPENPOSE_NAMES


@needs_rhd
def test_rhd_joints_and_units():
    dataset = rhd(data_prefix=dict(img=str(RHD)))
    assert len(dataset) == 3
    raw = json.loads((RHD / "test_rhd.json").read_text())
    for record, annotation in zip(dataset, raw["annotations"], strict=True):
        assert_is_record(record)
        assert (RHD / record["img_path"]).is_file()
        assert record["is_right"] == (annotation["hand_type"] == "right")
        projected = pixels(record["keypoints_cam"][0], record["cam_K"][0])
        np.testing.assert_allclose(record["keypoints"][0], projected, atol=0.1)
        joints = record["keypoints_cam"][0]
        bones = np.array([np.linalg.norm(joints[b] - joints[a]) for a, b in HAND_BONES])
        bones = bones.reshape(5, 4)
        assert (bones[:, 0] > bones[:, 3]).all()
        assert (bones[1:, 0] > bones[1:, 1:].max(1)).all()
        assert ((bones > 0.01) & (bones < 0.12)).all()
        assert record["has_mano"] == record["has_vertices"] == 0


@needs_rhd
def test_rhd_in_the_wrong_unit_or_order():
    with pytest.raises(ValueError, match=r"annotation 111 of .*test_rhd\.json.*millimetres"):
        rhd(unit="m")
    with pytest.raises(ValueError, match="joint_map must name 21 different joints"):
        rhd(joint_map=[0] * 21)
    with pytest.raises(ValueError, match="has 21 joints, but joint_map asks for joint 41"):
        rhd(joint_map=[*range(20), 41])
    with pytest.raises(ValueError, match="unknown unit 'cm'; known: m, mm"):
        rhd(unit="cm")


def test_coco_style_with_everything(tmp_path):
    right = make_hand(0)
    left = make_hand(1)
    write_coco(tmp_path / "hands.json", [right, left], ["right", "left"])
    dataset = build(
        "HandMeshCocoDataset",
        ann_file="hands.json",
        data_root=str(tmp_path),
        serialize_data=True,
    )
    for record, hand, is_right in zip(dataset, [right, left], [1, 0], strict=True):
        assert_is_record(record)
        assert record["is_right"] == is_right
        assert record["img_path"] == str(tmp_path / "black.jpg")
        for name, value in hand.items():
            np.testing.assert_allclose(record[name][0], value, rtol=1e-5, atol=1e-6)
        assert record["keypoints_visible"].max() == 1
        for flag in ("has_3d", "has_mano", "has_vertices", "has_cam"):
            assert record[flag] == 1


def test_coco_style_with_2d_only_and_with_invalid_joints(tmp_path):
    hand = make_hand(0)
    none = dict.fromkeys(("joint_cam", "vertices_cam", "mano_pose", "mano_betas"))
    write_coco(tmp_path / "hands.json", [hand], ["right"], **none)
    dataset = build("HandMeshCocoDataset", ann_file=str(tmp_path / "hands.json"))
    record = dataset[0]
    assert_is_record(record)
    assert record["keypoints_visible"].all()
    # Zeros that nobody needs would fill the memory.
    assert "vertices_cam" not in dataset.data_list[0]
    assert record["has_3d"] == record["has_mano"] == record["has_vertices"] == 0

    joints = hand["keypoints_cam"].copy()
    joints[5] = 1.0
    valid = np.ones((21, 1), int)
    valid[5] = 0
    write_coco(
        tmp_path / "hands.json",
        [hand],
        ["right"],
        joint_cam=joints.tolist(),
        joint_valid=valid.tolist(),
    )
    record = build("HandMeshCocoDataset", ann_file=str(tmp_path / "hands.json"))[0]
    assert not record["keypoints_cam"][0, 5].any()
    np.testing.assert_array_equal(record["keypoints_cam_valid"][0], valid[:, 0])


def test_coco_style_reorders_3d_with_2d(tmp_path):
    hand = make_hand(0)
    order = np.random.default_rng(0).permutation(21)
    shuffled = {**hand, "keypoints": np.empty((21, 2)), "keypoints_cam": np.empty((21, 3))}
    shuffled["keypoints"][order] = hand["keypoints"]
    shuffled["keypoints_cam"][order] = hand["keypoints_cam"]
    valid = np.ones(21)
    valid[order[3]] = 0
    write_coco(tmp_path / "h.json", [shuffled], ["right"], joint_valid=valid.tolist())
    record = build(
        "HandMeshCocoDataset", ann_file=str(tmp_path / "h.json"), joint_map=order.tolist()
    )[0]
    np.testing.assert_allclose(record["keypoints"][0], hand["keypoints"], rtol=1e-5)
    assert record["keypoints_cam_valid"][0].argmin() == 3
    hand["keypoints_cam"][3] = 0
    np.testing.assert_allclose(record["keypoints_cam"][0], hand["keypoints_cam"], rtol=1e-5)


def test_coco_style_in_millimetres_with_a_camera_for_each_hand(tmp_path):
    hand = make_hand(0)
    in_mm = {key: (hand[key] * 1000).tolist() for key in ("keypoints_cam", "vertices_cam")}
    write_coco(
        tmp_path / "hands.json",
        [hand],
        ["right"],
        joint_cam=in_mm["keypoints_cam"],
        vertices_cam=in_mm["vertices_cam"],
        cam_param=dict(focal=[500, 510], princpt=[90, 80]),
    )
    record = build("HandMeshCocoDataset", ann_file=str(tmp_path / "hands.json"), unit="mm")[0]
    for name in in_mm:
        np.testing.assert_allclose(record[name][0], hand[name], rtol=1e-5)
    np.testing.assert_array_equal(record["cam_K"][0], [[500, 0, 90], [0, 510, 80], [0, 0, 1]])


@pytest.mark.parametrize("extra", [dict(iscrowd=1), dict(keypoints=[0] * 63)])
def test_coco_style_skips_what_mmpose_skips(tmp_path, extra):
    path = tmp_path / "hands.json"
    write_coco(path, [make_hand(0)] * 2, ["right"] * 2)
    content = json.loads(path.read_text())
    content["annotations"][0] |= extra
    path.write_text(json.dumps(content))
    (record,) = build("HandMeshCocoDataset", ann_file=str(path))
    assert record["id"] == 1

    content["annotations"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no usable annotation"):
        build("HandMeshCocoDataset", ann_file=str(path))


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (dict(hand_type="interacting"), "hand_type is 'interacting', expected 'right' or 'left'"),
        (dict(cam_param=dict(focal=[1, 1])), r"cam_param has \['focal'\]"),
    ],
)
def test_coco_style_complaints(tmp_path, extra, complaint):
    write_coco(tmp_path / "hands.json", [make_hand(0)], ["right"], **extra)
    with pytest.raises(ValueError, match=complaint):
        build("HandMeshCocoDataset", ann_file=str(tmp_path / "hands.json"))


@needs_rhd
def test_all_sets_have_the_same_keys(tmp_path):
    write_freihand(tmp_path, versions=1)
    write_coco(tmp_path / "hands.json", [mirrored(make_hand(0))], ["left"])
    records = [
        build("FreiHANDMeshDataset", data_root=str(tmp_path), versions=["gs"])[0],
        build("HandMeshCocoDataset", ann_file=str(tmp_path / "hands.json"))[0],
        rhd()[0],
    ]
    for record in records:
        assert record.keys() == records[0].keys()
        assert_is_record(record)
