"""Objects with poses: symmetries, keypoints of a surface, and BOP's layout."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trimesh")
pytest.importorskip("scipy")

from object_pose_samples import (
    CAM_K,
    HALF_TURN,
    POSES,
    WEDGE,
    WEDGE_FACES,
    bop_content,
    write_bop,
)

from mamba_mm.datasets.object_pose.keypoint_file import read_keypoints
from mamba_mm.datasets.object_pose.keypoint_selection import (
    box_corners,
    coverage,
    select_keypoints,
    surface_samples,
)
from mamba_mm.datasets.object_pose.models import read_mesh_file, read_models
from mamba_mm.datasets.object_pose.symmetries import symmetry_transforms

TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "select_object_keypoints.py"


def select(*arguments):
    return runpy.run_path(str(TOOL))["main"]([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = write_bop(tmp_path_factory.mktemp("bop") / "set")
    assert select(folder / "models", folder / "models" / "keypoints.json", "--samples", 300) == 0
    return folder


@pytest.fixture(scope="module")
def wedge(root):
    return read_models(root / "models")[5]


# --- Symmetries ------------------------------------------------------------------------------


def test_an_object_without_symmetries_has_the_identity():
    np.testing.assert_array_equal(symmetry_transforms({}), np.eye(4)[None])


def test_symmetries_are_in_metres_and_combined():
    info = dict(
        symmetries_discrete=[HALF_TURN],
        symmetries_continuous=[dict(axis=[0, 0, 2], offset=[10, 20, 5])],
    )
    found = symmetry_transforms(info, steps=4)
    assert found.shape == (8, 4, 4)
    np.testing.assert_array_equal(found[0], np.eye(4))
    # A quarter of a turn about the axis through (10, 20).
    point = np.array([0.011, 0.020, 0.3, 1])
    np.testing.assert_allclose(found[1] @ point, [0.010, 0.021, 0.3, 1], atol=1e-12)
    half = np.array(HALF_TURN).reshape(4, 4)
    np.testing.assert_allclose(found[4][:3, 3], half[:3, 3] / 1000)
    np.testing.assert_allclose(found[5], found[1] @ found[4], atol=1e-12)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (dict(symmetries_discrete=[[1.0] * 12]), "12 numbers, expected 16"),
        (dict(symmetries_discrete=[np.diag([1, 1, -1, 1]).ravel()]), "mirrors"),
        (dict(symmetries_discrete=[np.diag([1, 2, 1, 1]).ravel()]), "not a rotation matrix"),
        (dict(symmetries_continuous=[dict(axis=[0, 0, 0])]), "an axis with a direction"),
        (dict(symmetries_continuous=[dict(axis=[0, 1])]), "an axis with a direction"),
    ],
)
def test_what_is_no_symmetry_is_refused(info, message):
    with pytest.raises(ValueError, match=message):
        symmetry_transforms(info)
    with pytest.raises(ValueError, match="at least 2 steps"):
        symmetry_transforms({}, steps=1)


# --- Models ----------------------------------------------------------------------------------


def test_models_are_read_in_metres(root, wedge):
    assert (wedge.object_id, wedge.name, wedge.is_symmetric) == (5, "wedge", False)
    np.testing.assert_allclose(wedge.vertices, WEDGE / 1000)
    assert wedge.faces.tolist() == WEDGE_FACES
    assert wedge.diameter == pytest.approx(np.hypot(np.hypot(80, 50), 30) / 1000)
    other = read_models(root / "models", [9])[9]
    assert (other.name, other.is_symmetric, len(other.symmetries)) == ("obj_000009", True, 2)


def test_a_single_mesh_is_read_in_either_unit(root, tmp_path):
    path = root / "models" / "obj_000005.ply"
    millimetres, metres = (read_mesh_file(path, unit) for unit in ("mm", "m"))
    np.testing.assert_allclose(metres.vertices, 1000 * millimetres.vertices)
    assert metres.diameter == pytest.approx(1000 * millimetres.diameter)
    obj = tmp_path / "wedge.obj"
    lines = [f"v {x} {y} {z}" for x, y, z in WEDGE]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in WEDGE_FACES]
    obj.write_text("\n".join(lines))
    np.testing.assert_allclose(read_mesh_file(obj).vertices, millimetres.vertices)
    with pytest.raises(ValueError, match="unknown unit 'cm'"):
        read_mesh_file(path, "cm")
    with pytest.raises(FileNotFoundError, match="no mesh"):
        read_mesh_file(tmp_path / "none.ply")


def test_models_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of models in BOP layout"):
        read_models(tmp_path)
    content = bop_content()
    content["models_info"]["5"]["diameter"] /= 1000
    folder = write_bop(tmp_path / "set", content) / "models"
    with pytest.raises(ValueError, match=r"object 5 has the diameter .* both must be in mil"):
        read_models(folder)
    with pytest.raises(ValueError, match=r"no objects \[7\]; it has \[5, 9\]"):
        read_models(folder, [7])
    content["models_info"]["9"]["symmetries_discrete"] = [[1.0]]
    (folder / "models_info.json").write_text(json.dumps(content["models_info"]))
    with pytest.raises(ValueError, match="object 9: symmetries_discrete has an entry of 1 numb"):
        read_models(folder, [9])


# --- Keypoints -------------------------------------------------------------------------------


def test_samples_are_even_over_the_area_and_repeat(wedge):
    points = surface_samples(wedge, 4000)
    np.testing.assert_array_equal(points, surface_samples(wedge, 4000))
    # The two triangles of 80 x 50 mm have 40 cm^2 together, the sides the rest.
    on_triangles = np.isin(np.round(points[:, 2], 6), [0, 0.03]).mean()
    sides = 30 * (80 + 50 + np.hypot(80, 50))
    assert on_triangles == pytest.approx(4000 / (4000 + sides), abs=0.03)


def test_chosen_points_lie_on_the_surface_and_cover_it_best(wedge):
    chosen = select_keypoints(wedge, samples=600)
    np.testing.assert_array_equal(chosen, select_keypoints(wedge, samples=600))
    import trimesh

    mesh = trimesh.Trimesh(wedge.vertices, wedge.faces)
    # (trimesh's own closest point needs an index that is not installed.)
    planes = np.einsum(
        "fi,pfi->pf", mesh.face_normals, chosen[:, None] - mesh.triangles[:, 0][None]
    )
    assert np.abs(planes).min(axis=1).max() < 1e-9
    assert planes.max() < 1e-9
    ours = coverage(wedge, chosen)
    farthest = coverage(wedge, select_keypoints(wedge, samples=600, method="farthest"))
    corners = coverage(wedge, box_corners(wedge.vertices))
    assert ours.mean < 0.95 * farthest.mean < corners.mean
    assert ours.lever > 0.05


def test_the_coverage_is_measured_in_diameters(wedge):
    everything = coverage(wedge, surface_samples(wedge, 2000, seed=1))
    assert everything.mean == everything.largest == 0
    # A point off the surface by one diameter; and points of one plane have no lever.
    line = np.array([[0, 0, z] for z in (0.0, 0.01, 0.02, 0.03)])
    assert coverage(wedge, line).lever == pytest.approx(0, abs=1e-12)
    square = coverage(wedge, np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0]]))
    assert square.lever == pytest.approx(0, abs=1e-12)
    cross = np.concatenate([np.eye(3), -np.eye(3)]) * wedge.diameter
    assert coverage(wedge, cross).lever == pytest.approx(3**-0.5)


def test_keypoints_follow_a_shortest_path(wedge):
    from itertools import permutations

    chosen = select_keypoints(wedge, 6, samples=200)

    def length(points):
        return np.linalg.norm(np.diff(points, axis=0), axis=1).sum()

    shortest = min(length(chosen[list(order)]) for order in permutations(range(6)))
    assert length(chosen) == pytest.approx(shortest)
    assert chosen[0, 2] >= chosen[-1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(method="best"), "unknown method 'best'; known: medoids, farthest"),
        (dict(count=3), "count must be from 4"),
        (dict(count=13), "to 12"),
        (dict(count=8, samples=7), "at most samples=7"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(wedge, settings, message):
    with pytest.raises(ValueError, match=message):
        select_keypoints(wedge, **settings)


def test_the_tool_writes_what_the_reader_reads(root, wedge, tmp_path, capsys):
    entries = read_keypoints(root / "models" / "keypoints.json")
    assert sorted(entries) == [5, 9]
    assert entries[5].keypoints.shape == (8, 3)
    assert entries[5].sha256 == wedge.sha256
    assert (entries[5].name, entries[5].symmetries, entries[9].symmetries) == ("wedge", 1, 2)
    assert entries[5].diameter == pytest.approx(wedge.diameter)
    assert entries[5].coverage == coverage(wedge, entries[5].keypoints).as_dict()
    out = tmp_path / "one.json"
    mesh = root / "models" / "obj_000005.ply"
    assert select(mesh, out, "--samples", 100, "--count", 4, "--method", "farthest") == 0
    (entry,) = read_keypoints(out).values()
    assert (entry.mesh, entry.method, len(entry.keypoints)) == ("obj_000005.ply", "farthest", 4)
    printed = capsys.readouterr().out
    assert printed.count("| corners of the box |") == 1
    assert select(tmp_path / "missing.ply", out) == 1
    assert capsys.readouterr().err.startswith("error: there is no mesh")


def test_unusable_keypoint_files_are_refused(root, tmp_path):
    path = tmp_path / "keypoints.json"
    with pytest.raises(FileNotFoundError, match=r"choose them with .*select_object_keypoints\.py"):
        read_keypoints(path)
    content = json.loads((root / "models" / "keypoints.json").read_text())
    path.write_text(json.dumps(content | dict(unit="mm")))
    with pytest.raises(ValueError, match="'unit': 'mm'"):
        read_keypoints(path)
    content["objects"]["5"]["keypoints"] = [[0, 1], [2, 3]]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="keypoints of object 5 must be"):
        read_keypoints(path)
    del content["objects"]["5"]["diameter"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"object 5 has .*, expected .*'diameter'"):
        read_keypoints(path)


# --- The data set ----------------------------------------------------------------------------


def dataset(root, **settings):
    pytest.importorskip("mmpose")
    from mamba_mm.datasets.object_pose.bop import BOPObjectDataset

    return BOPObjectDataset(data_root=str(root), **settings)


def test_records_are_in_metres_and_project_to_their_pixels(root):
    data = dataset(root)
    assert len(data) == 2  # the hidden wedge is left out
    points = read_keypoints(root / "models" / "keypoints.json")
    for index, (number, label, image) in enumerate(((5, 0, 3), (9, 1, 12))):
        record = data.get_data_info(index)
        rotation, translation = POSES[index]
        expected = points[number].keypoints @ rotation.T + np.array(translation) / 1000
        np.testing.assert_allclose(record["keypoints_cam"], expected[None], rtol=1e-5)
        rays = expected @ CAM_K.T
        np.testing.assert_allclose(record["keypoints"][0], rays[:, :2] / rays[:, 2:], rtol=1e-5)
        assert record["object_label"].tolist() == [label]
        assert (record["img_id"], record["id"]) == (image, index)
        assert record["img_path"].endswith(f"rgb/{image:06d}.png")
        assert record["symmetries"].shape == (1, 1 + label, 4, 4)
        np.testing.assert_allclose(record["object_rotation"][0], rotation, atol=1e-6)
        assert record["keypoints"].dtype == record["cam_K"].dtype == np.float32
        assert record["dataset_name"] == "object_pose"
    np.testing.assert_array_equal(data.get_data_info(0)["bbox"], [[10, 20, 70, 70]])
    assert data.metainfo["num_keypoints"] == 8


def test_classes_boxes_and_visibility_can_be_chosen(root):
    data = dataset(root, object_ids=[9, 5], bbox="whole", min_visible_fraction=0.0)
    assert [data.get_data_info(i)["object_label"][0] for i in range(len(data))] == [1, 0, 1]
    np.testing.assert_array_equal(data.get_data_info(0)["bbox"], [[1, 2, 91, 82]])
    assert len(dataset(root, object_ids=[9])) == 1
    # Nothing of the hidden wedge is in sight, whatever the limit.
    assert len(dataset(root, min_visible_fraction=0.0)) == 2
    with pytest.raises(ValueError, match=r"visible to 0\.95 or more"):
        dataset(root, min_visible_fraction=0.95)
    with pytest.raises(ValueError, match="unknown bbox 'tight'; known: visible, whole"):
        dataset(root, bbox="tight")
    with pytest.raises(ValueError, match=r"min_visible_fraction is 0\.\.1, got 2"):
        dataset(root, min_visible_fraction=2)
    with pytest.raises(ValueError, match=r"no keypoints of the objects \[6\]"):
        dataset(root, object_ids=[6])


def change(part, image, number=0, **fields):
    def apply(content):
        entry = content[part][image]
        (entry[number] if isinstance(entry, list) else entry).update(fields)

    return apply


def drop(part, image):
    return lambda content: content[part].pop(image)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change("scene_gt", "3", cam_R_m2c=[1.0] * 8), "cam_R_m2c has 8 numbers, expected 9"),
        (change("scene_gt", "3", cam_R_m2c=[1.0] * 9), "not a rotation matrix"),
        (change("scene_gt", "3", cam_R_m2c=[1, 0, 0, 0, 1, 0, 0, 0, -1]), "mirrors"),
        (change("scene_gt", "3", cam_t_m2c=[0, 0, -600.0]), "behind the camera"),
        (change("scene_gt", "3", cam_t_m2c=[0, 0, 0.6]), "0.0006 m away.* in millimetres"),
        (change("scene_gt", "3", cam_t_m2c=[0, 0]), r"translation has the shape \(2,\)"),
        (change("scene_gt", "3", cam_t_m2c=[0, float("nan"), 600]), "not finite"),
        (change("scene_camera", "3", cam_K=[0.0] * 9), "cam_K must be a pinhole camera"),
        (change("scene_camera", "3", cam_K=[]), "cam_K has 0 numbers"),
        (change("scene_gt_info", "3", visib_fract=1.5), "visib_fract is 1.5, expected 0..1"),
        (change("scene_gt_info", "3", visib_fract=None), "visib_fract is None"),
        (change("scene_gt_info", "3", bbox_visib=[1, 2]), r"bbox_visib is \[1, 2\], expected left"),
        (drop("scene_camera", "3"), "scene_camera.json has no image 3"),
        (drop("scene_gt_info", "12"), "scene_gt_info.json has no image 12"),
        (lambda content: content["scene_gt_info"]["12"].pop(), "image 12 has 1 objects"),
        (lambda content: content["models_info"]["5"].update(diameter=120.0), "choose them again"),
        (drop("models_info", "9"), "has no object 9"),
    ],
)
def test_bad_fields_are_named(root, tmp_path, damage, message):
    content = bop_content()
    damage(content)
    folder = write_bop(tmp_path / "set", content)
    keypoints = (root / "models" / "keypoints.json").read_text()
    (folder / "models" / "keypoints.json").write_text(keypoints)
    with pytest.raises(ValueError, match=message):
        dataset(folder)


def test_missing_files_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no scenes"):
        dataset(root, split="val")
    folder = write_bop(tmp_path / "set", ending="jpg")
    with pytest.raises(FileNotFoundError, match="select_object_keypoints"):
        dataset(folder)
    keypoints = (root / "models" / "keypoints.json").read_text()
    (folder / "models" / "keypoints.json").write_text(keypoints)
    assert dataset(folder).get_data_info(0)["img_path"].endswith("000003.jpg")
    scene = folder / "train" / "000001"
    (scene / "rgb" / "000003.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image .*000003"):
        dataset(folder)
    (scene / "scene_camera.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"scene_camera\.json is missing"):
        dataset(folder)


def test_gray_images_are_found(root, tmp_path):
    folder = write_bop(tmp_path / "set")
    (folder / "train" / "000001" / "rgb").rename(folder / "train" / "000001" / "gray")
    keypoints = (root / "models" / "keypoints.json").read_text()
    (folder / "models" / "keypoints.json").write_text(keypoints)
    assert "/gray/" in dataset(folder).get_data_info(0)["img_path"]


def test_the_set_is_built_by_its_name_in_a_config(root):
    pytest.importorskip("mmpose")
    from mmengine.registry import DATASETS, DefaultScope

    with DefaultScope.overwrite_default_scope("mmpose"):
        data = DATASETS.build(dict(type="mamba_mm.BOPObjectDataset", data_root=str(root)))
    assert len(data) == 2
