"""Alignment, F-score, PCK and prediction files against numbers worked out by hand."""

import json
import zipfile

import numpy as np
import pytest

from mamba_mm.evaluation.functional import (
    fscore,
    mean_error,
    nearest_distances,
    pck,
    pck_auc,
    pck_curve,
    procrustes_freihand,
    read_submission,
    similarity_align,
    similarity_transform,
    submission_order,
    write_submission,
)
from mamba_mm.evaluation.functional.hand_comparison import HandComparison, PredictedHand

NAN = np.nan


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def gt(rng):
    return rng.normal(scale=0.05, size=(21, 3)) + np.array([0.1, -0.05, 0.6])


def random_rotation(rng):
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def error_mm(pred, gt):
    return 1000 * np.linalg.norm(pred - gt, axis=1).mean()


BOTH = pytest.mark.parametrize("align", [similarity_align, procrustes_freihand])


@BOTH
def test_a_similarity_transform_of_the_prediction_changes_nothing(align, rng, gt):
    pred = gt + rng.normal(scale=0.005, size=gt.shape)
    moved = 3.0 * pred @ random_rotation(rng).T + rng.normal(size=3)
    # FreiHAND's epsilon is relative to the size of the hand.
    tolerance = 1e-9 if align is similarity_align else 1e-7
    np.testing.assert_allclose(align(moved, gt), align(pred, gt), rtol=0, atol=tolerance)
    assert error_mm(align(pred, gt), gt) > 1


def test_the_transform_is_the_one_that_was_applied(rng, gt):
    rotation = random_rotation(rng)
    pred = (gt - [0.3, 0.2, 0.1]) @ rotation * 0.5
    found = similarity_transform(pred, gt)
    assert found.scale == pytest.approx(2.0)
    np.testing.assert_allclose(found.matrix, rotation, atol=1e-12)
    np.testing.assert_allclose(found.apply(pred), gt, atol=1e-12)


def test_a_reflected_prediction_is_wrong_unless_reflections_are_allowed(gt):
    mirrored = gt * [-1, 1, 1]
    assert error_mm(similarity_align(mirrored, gt), gt) > 20
    assert error_mm(procrustes_freihand(mirrored, gt), gt) < 1e-3


def test_both_alignments_agree_near_the_truth(rng, gt):
    pred = gt @ random_rotation(rng).T + rng.normal(scale=0.005, size=gt.shape)
    difference = similarity_align(pred, gt) - procrustes_freihand(pred, gt)
    assert 0 < np.abs(difference).max() < 1e-7


def test_the_rotation_is_proper_where_the_best_matrix_is_not(gt):
    found = similarity_transform(gt * [-1, 1, 1], gt)
    assert np.linalg.det(found.matrix) == pytest.approx(1)
    # Least squares for the rotation found: a slightly other scale is worse.
    pred = gt * [-1, 1, 1]
    errors = [
        np.sum((found._replace(scale=found.scale * factor).apply(pred) - gt) ** 2)
        for factor in (0.99, 1, 1.01)
    ]
    assert errors[1] < min(errors[0], errors[2])


@BOTH
def test_coinciding_predictions_go_to_the_mean(align, gt):
    aligned = align(np.full_like(gt, 0.25), gt)
    np.testing.assert_allclose(aligned, np.tile(gt.mean(0), (21, 1)), atol=1e-7)


@BOTH
def test_points_that_are_not_valid_have_no_influence(align, rng, gt):
    pred = gt + rng.normal(scale=0.005, size=gt.shape)
    valid = rng.random(21) < 0.6
    spoilt, other = pred.copy(), gt.copy()
    spoilt[~valid], other[~valid] = NAN, 7.0
    np.testing.assert_array_equal(align(spoilt, other, valid)[valid], align(pred[valid], gt[valid]))


def test_float32_is_aligned_in_float64(rng, gt):
    pred = (gt + 5).astype(np.float32)
    assert similarity_align(pred, gt.astype(np.float32)).dtype == np.float64


def test_what_cannot_be_aligned_is_refused(gt):
    with pytest.raises(ValueError, match=r"\(21, 3\) with \(20, 3\)"):
        similarity_align(gt, gt[:20])
    with pytest.raises(ValueError, match="no valid point"):
        similarity_align(gt, gt, np.zeros(21, bool))


def on_a_line(*places):
    return np.array([[place, 0.0, 0.0] for place in places])


def test_fscore_by_hand():
    gt, pred = on_a_line(0, 10, 20), on_a_line(1, 12, 40)
    to_pred, to_gt = nearest_distances(gt, pred)
    np.testing.assert_array_equal(to_pred, [1, 2, 8])
    np.testing.assert_array_equal(to_gt, [1, 2, 20])
    assert fscore(pred, gt, (5, 15)) == pytest.approx([2 / 3, 0.8])
    assert fscore(gt, pred, (5, 15)) == pytest.approx([2 / 3, 0.8])


def test_differences_of_float32_are_not_rounded_to_float32():
    first, second = (on_a_line(place).astype(np.float32) for place in (1, 1e-8))
    assert nearest_distances(first, second)[0][0] != 1


def test_fscore_of_identical_and_of_distant_sets(gt):
    assert fscore(gt, gt, (1e-9,)) == [1.0]
    assert fscore(gt + 10, gt, (5,)) == [0.0]
    assert fscore(gt[:4], gt, (1e-9,)) == pytest.approx([2 * (4 / 21) / (1 + 4 / 21)])


def test_a_distance_on_the_threshold_is_counted_by_pck_and_not_by_the_fscore():
    assert fscore(on_a_line(0, 5), on_a_line(0), (5,)) == pytest.approx([2 / 3])
    assert fscore(on_a_line(0), on_a_line(0, 5), (5,)) == pytest.approx([2 / 3])
    assert pck(np.array([[5.0]]), 5) == 1.0
    # Not the float32 that the threshold would be rounded to.
    threshold = 50 * 10 / 99
    just_above = np.nextafter(np.float32(threshold), np.float32(9))
    assert pck(np.array([[just_above]]), threshold) == 0.0


@pytest.mark.parametrize(
    ("distance", "area"), [(0, 1.0), (25, 0.5), (50, 0.5 / 99), (50.001, 0.0), (np.inf, 0.0)]
)
def test_auc_by_hand(distance, area):
    assert pck_auc(np.full((3, 21), float(distance))) == pytest.approx(area, abs=1e-15)


def test_the_curve_has_both_ends_of_its_range():
    thresholds, values = pck_curve(np.array([[0.0, 10.0], [20.0, NAN]]), (10, 30), 3)
    np.testing.assert_array_equal(thresholds, [10, 20, 30])
    np.testing.assert_array_equal(values, [(0.5 + 1) / 2, 1, 1])
    assert pck_auc(np.array([[0.0, 10.0], [20.0, NAN]]), (10, 30), 3) == (0.875 + 1) / 2


def test_means_are_over_samples_then_over_points():
    distances = np.array([[1.0, 10.0, NAN], [3.0, NAN, NAN]])
    assert mean_error(distances) == (2 + 10) / 2  # not (1 + 3 + 10) / 3; no third point
    assert pck(distances, 1) == (0.5 + 0) / 2
    assert np.isnan(mean_error(np.full((2, 3), NAN)))
    assert mean_error(np.array([[1.0, np.inf]])) == np.inf


def test_comparison_needs_three_joints_to_align_and_a_wrist_to_be_relative(gt):
    few, no_wrist = np.zeros(21, bool), np.ones(21, bool)
    few[[0, 5]] = True
    no_wrist[0] = False
    hand = PredictedHand(gt + 0.001, gt + 0.001)
    two = HandComparison(hand, gt, few)
    assert np.isnan(two.joints_aligned()).all()
    np.testing.assert_array_equal(np.isnan(two.joints_wrist()), ~few)
    relative = HandComparison(hand, gt, no_wrist)
    assert np.isnan(relative.joints_wrist()).all()
    assert np.isnan(relative.vertices_wrist(gt)).all()
    np.testing.assert_array_equal(np.isnan(relative.joints_aligned()), ~no_wrist)


@pytest.mark.parametrize("submission", ["freihand", "ho3d"])
def test_prediction_files_come_back_exactly(submission, rng, tmp_path):
    joints, vertices = rng.normal(size=(4, 21, 3)), rng.normal(size=(4, 778, 3)).astype(np.float32)
    path = tmp_path / "new" / "run.3.json"
    archive = write_submission(path, joints, vertices, submission)
    assert archive == tmp_path / "new" / "run.3.zip"
    assert sorted(path.parent.iterdir()) == [path, archive]
    read_joints, read_vertices = read_submission(path, submission)
    np.testing.assert_array_equal(read_joints, joints)
    np.testing.assert_array_equal(np.stack(read_vertices), vertices)
    with zipfile.ZipFile(archive) as zipped:
        assert zipped.namelist() == ["pred.json"]
        assert zipped.read("pred.json") == path.read_bytes()


def test_a_prediction_file_is_written_whole_or_not_at_all(rng, tmp_path):
    joints, vertices = rng.normal(size=(3, 21, 3)), rng.normal(size=(3, 778, 3))
    path = tmp_path / "pred.json"
    write_submission(path, joints, vertices, "ho3d")
    before = path.read_bytes()
    spoilt = vertices.copy()
    spoilt[2, 5, 1] = np.nan
    for bad_joints, bad_vertices, message in (
        (joints, spoilt, "not finite"),
        (joints, vertices[:2], "of the same samples, got 3 and 2"),
        (joints[:, :20], vertices, r"the shape \(21, 3\), got \(20, 3\)"),
        (joints, vertices[..., :2], r"the shape \(vertices, 3\), got \(778, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            write_submission(path, bad_joints, bad_vertices, "ho3d")
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pred.json", "pred.zip"]


@pytest.mark.parametrize("content", [{}, [[]], [[], [], []], [[[[0, 0, 0]]], []]])
def test_other_files_are_no_prediction_files(content, tmp_path):
    (tmp_path / "pred.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"pred\.json is no prediction file"):
        read_submission(tmp_path / "pred.json", "ho3d")


def test_samples_are_put_in_the_order_of_the_list():
    assert submission_order([2, 0, 1], 3) == [1, 2, 0]
    for places, message in (
        ([0, 1, 1, 2], r"1 of its samples are there more than once \(id 1\)"),
        ([0, 2], r"1 of its samples are missing \(id 1\)"),
        ([0, 1, 2, 3, -1], r"2 of its samples are not in a list of 3 \(id -1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            submission_order(places, 3)
    with pytest.raises(ValueError, match=r"8 of .* are missing \(id 1, 2, 3, 4, 5, \.\.\.\)"):
        submission_order([0], 9)


def test_freihand_takes_our_order_and_frame(rng, tmp_path):
    joints, vertices = rng.normal(size=(2, 21, 3)), rng.normal(size=(2, 778, 3))
    write_submission(tmp_path / "pred.json", joints, vertices, "freihand")
    assert json.loads((tmp_path / "pred.json").read_text()) == [joints.tolist(), vertices.tolist()]


def test_ho3d_takes_mano_order_and_the_opengl_frame(tmp_path):
    joints = np.arange(21.0)[None, :, None] + [0.25, 0.5, 0.75]
    write_submission(tmp_path / "pred.json", joints, joints, "ho3d")
    written, vertices = json.loads((tmp_path / "pred.json").read_text())
    mano_names_in_openpose = [
        0,
        5,
        6,
        7,
        9,
        10,
        11,
        17,
        18,
        19,
        13,
        14,
        15,
        1,
        2,
        3,
        4,
        8,
        12,
        16,
        20,
    ]
    assert written[0] == [[i + 0.25, -i - 0.5, -i - 0.75] for i in mano_names_in_openpose]
    assert vertices[0] == [[i + 0.25, -i - 0.5, -i - 0.75] for i in range(21)]
