"""ADD, ADD-S and what else is measured of 6-D poses, by hand."""

import shutil

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("trimesh")

from mamba_mm.datasets.object_pose.keypoint_file import write_keypoints
from mamba_mm.datasets.object_pose.keypoint_selection import keypoints_of
from mamba_mm.datasets.object_pose.models import read_models
from mamba_mm.evaluation import HandMeshMetric, ObjectPoseMetric, SceneHandMeshMetric
from mamba_mm.evaluation.functional.object_pose import (
    add_error,
    adds_error,
    projection_error,
    rotation_error,
    transformed,
    translation_error,
)

CAM_K = np.array([[500.0, 0, 110], [0, 500, 130], [0, 0, 1]])
SQUARE = np.array([[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
IDENTITY = np.eye(3)
QUARTER = Rotation.from_euler("z", 90, degrees=True).as_matrix()


def motion(rotation, shift=(0, 0, 0)):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, shift
    return matrix


# --- Functions -------------------------------------------------------------------------------


def test_add_is_the_mean_distance_of_the_same_points():
    assert add_error(SQUARE + np.array([0.3, 0, 0.4]), SQUARE) == pytest.approx(0.5)
    moved = SQUARE.copy()
    moved[0, 2] = 1.0
    assert add_error(moved, SQUARE) == pytest.approx(0.25)


def test_a_square_turned_by_a_quarter_has_an_add_and_no_adds():
    turned = transformed(SQUARE, QUARTER, np.zeros(3))
    assert add_error(turned, SQUARE) == pytest.approx(2.0)
    assert adds_error(turned, SQUARE) == pytest.approx(0, abs=1e-12)


def test_points_of_the_true_pose_look_for_the_nearest_found_one():
    true, found = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 0, 0], [0, 0, 0]])
    assert adds_error(found, true) == pytest.approx(0.5)
    assert adds_error(true, found) == 0


def test_a_can_turned_about_its_axis():
    """ADD is large, ADD-S about zero, and with its symmetries the rotation is no error."""
    from mamba_mm.datasets.toy_objects import toy_object

    can = toy_object("can").vertices
    turn = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    turned = can @ turn.T
    assert add_error(turned, can) > 0.01
    assert adds_error(turned, can) < 1e-9
    symmetries = np.stack(
        [motion(Rotation.from_euler("z", angle, degrees=True).as_matrix()) for angle in (0, 45)]
    )
    assert rotation_error(turn, np.eye(3)) == pytest.approx(45)
    assert rotation_error(turn, np.eye(3), symmetries) == pytest.approx(0, abs=1e-5)


def test_rotation_errors_are_angles():
    half = Rotation.from_euler("x", 180, degrees=True).as_matrix()
    assert rotation_error(half, np.eye(3)) == pytest.approx(180)
    base = Rotation.random(random_state=0).as_matrix()
    turn = Rotation.from_rotvec(np.radians(7) * np.array([0, 0.6, 0.8])).as_matrix()
    assert rotation_error(turn @ base, base) == pytest.approx(7)
    # A symmetry turns the object before the pose does.
    assert rotation_error(base @ QUARTER, base, np.stack([np.eye(4), motion(QUARTER)])) < 1e-4
    assert rotation_error(QUARTER @ base, base, np.stack([np.eye(4), motion(QUARTER)])) > 1


def test_translation_errors_know_symmetries_beside_the_origin():
    half = Rotation.from_euler("z", 180, degrees=True).as_matrix()
    symmetries = np.stack([np.eye(4), motion(half, (0.2, 0, 0))])
    true = (QUARTER, np.array([0.0, 0, 1]))
    assert translation_error((QUARTER, np.array([0, 0.2, 1])), true) == pytest.approx(0.2)
    found = (QUARTER @ half, np.array([0, 0.2, 1.1]))
    assert translation_error(found, true, symmetries) == pytest.approx(0.1)


def test_projections_are_in_pixels():
    true = SQUARE * 0.1 + [0, 0, 1]
    assert projection_error(true + np.array([0.01, 0, 0]), true, CAM_K) == pytest.approx(5.0)
    assert projection_error(true * 2, true, CAM_K) == pytest.approx(0)
    assert projection_error(true - [0, 0, 1], true, CAM_K) == float("inf")


# --- The metric ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from mamba_mm.datasets.toy_objects.bop import write_models

    folder = tmp_path_factory.mktemp("set") / "models"
    write_models(folder)
    return folder


def sample(label, turn=IDENTITY, shift=(0, 0, 0), **prediction):
    rotation, translation = QUARTER, np.array([0.02, 0.01, 0.6])
    truth = dict(
        object_rotation=rotation[None],
        object_translation=translation[None],
        object_label=np.array([label]),
        cam_K=CAM_K[None],
    )
    found = dict(
        pnp_rotation=(rotation @ turn)[None],
        pnp_translation=(translation + shift)[None],
        fit_rotation=rotation[None],
        fit_translation=translation[None],
    )
    return dict(gt_instances=truth, pred_instances={**found, **prediction}, img_path="a.jpg")


def measured(models, samples, **settings):
    metric = ObjectPoseMetric(models, **settings)
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_a_shift_is_found_in_every_figure(models):
    found = measured(models, [sample(2, shift=(0.006, 0, 0.008))])
    assert found["object/ADD"] == pytest.approx(10)
    assert found["object/translation"] == pytest.approx(10)
    assert found["object/rotation"] == pytest.approx(0, abs=1e-4)
    assert found["object/ADD-S"] < 10
    assert found["object/ADD(-S)@0.1d"] == found["object/ADD@0.1d"] == 1  # the mug has 116 mm
    assert measured(models, [sample(2, shift=(0.012, 0, 0))])["object/ADD@0.1d"] == 0
    assert 3 < found["object/Proj2D"] < 7


def test_symmetric_objects_are_measured_by_adds(models):
    turn = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    can, mug = (measured(models, [sample(label, turn)]) for label in (1, 2))
    assert can["object/ADD@0.1d"] == mug["object/ADD@0.1d"] == 0
    assert can["object/ADD(-S)@0.1d"] == can["object/ADD-S@0.1d"] == 1
    assert mug["object/ADD(-S)@0.1d"] == 0
    assert can["object/rotation"] == pytest.approx(0, abs=1e-3)
    assert mug["object/rotation"] == pytest.approx(45)
    # However little it is turned about its axis.
    turn = Rotation.from_euler("z", 7.5, degrees=True).as_matrix()
    assert measured(models, [sample(1, turn)])["object/rotation"] <= 0.5 + 1e-3
    # A brick is symmetric to half a turn, not to a quarter.
    brick = measured(models, [sample(0, QUARTER @ QUARTER)])
    assert (brick["object/ADD-S"], brick["object/rotation"]) == pytest.approx((0, 0), abs=1e-3)
    assert measured(models, [sample(0, QUARTER)])["object/rotation"] == pytest.approx(90)


def test_classes_count_alike_and_are_reported_where_asked(models):
    bad = sample(3, shift=(0, 0, 0.1))
    found = measured(models, [sample(2), sample(2), sample(2), bad], per_class=True)
    assert found["object/ADD@0.1d"] == 0.5
    assert found["object/ADD@0.1d/mug"] == 1
    assert found["object/ADD@0.1d/bracket"] == 0
    assert found["object/ADD/bracket"] == pytest.approx(100)


def test_either_pose_and_the_order_of_classes_can_be_chosen(models):
    shifted = sample(0, shift=(0.02, 0, 0))
    found = measured(models, [shifted], pose="fit", metrics=["ADD"], prefix="fit")
    assert found == {"fit/ADD": pytest.approx(0)}
    found = measured(models, [sample(0)], object_ids=[4, 1], per_class=True, metrics=["ADD"])
    assert "object/ADD/bracket" in found


def test_without_ids_the_labels_are_those_of_the_objects_with_keypoints(models, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    chosen = keypoints_of(read_models(models, [3])[3], "obj_000003.ply", 4, samples=50)
    write_keypoints(folder / "keypoints.json", {3: chosen})
    found = measured(folder, [sample(0)], per_class=True, metrics=["ADD"])
    assert "object/ADD/mug" in found


def test_other_samples_are_skipped_by_either_metric(models):
    hand = dict(gt_instances=dict(has_3d=np.zeros(1)), pred_instances={})
    assert measured(models, [hand, sample(2)], metrics=["ADD"])["object/ADD"] == pytest.approx(0)
    with pytest.raises(ValueError, match="none of 1 samples has the pose"):
        measured(models, [hand])

    joints = np.random.default_rng(0).normal(0, 0.05, (1, 21, 3))
    hand = dict(
        gt_instances=dict(keypoints_cam=joints + np.array([0, 0, 0.5]), has_3d=np.ones(1)),
        pred_instances=dict(keypoints_3d=joints),
    )
    metric = SceneHandMeshMetric(metrics=["MPJPE"])
    metric.process(None, [sample(2), hand, sample(1)])
    assert len(metric.results) == 3
    assert metric.evaluate(3) == {"mesh/MPJPE": pytest.approx(0, abs=1e-6)}
    with pytest.raises((KeyError, ValueError)):
        HandMeshMetric(metrics=["MPJPE"]).process(None, [sample(2)])
    with pytest.raises(ValueError, match="writes no submission"):
        SceneHandMeshMetric(outfile_prefix="x")


def test_what_cannot_be_measured_is_refused(models, tmp_path):
    with pytest.raises(ValueError, match="unknown pose 'icp'"):
        ObjectPoseMetric(models, pose="icp")
    with pytest.raises(ValueError, match=r"unknown metrics \['VSD'\]"):
        ObjectPoseMetric(models, metrics=["VSD"])
    with pytest.raises(FileNotFoundError, match="no folder of models"):
        measured(tmp_path, [sample(0)])
    with pytest.raises(ValueError, match=r"a\.jpg is of class 4, .* has 4 models"):
        measured(models, [sample(4)])
    with pytest.raises(ValueError, match=r"pose pnp of a\.jpg is not finite"):
        measured(models, [sample(0, shift=(np.nan, 0, 0))])
    broken = sample(0)
    del broken["pred_instances"]["pnp_rotation"]
    with pytest.raises(KeyError, match="has no pnp_rotation"):
        measured(models, [broken])
