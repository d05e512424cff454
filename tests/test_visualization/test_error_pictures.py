"""Errors of joints and vertices, as numbers, colours and plots."""

import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")

from matplotlib import colormaps

from mamba_mm.models.body_models import close_wrist
from mamba_mm.visualization.collected_errors import CollectedErrors, errors_of, hands_of
from mamba_mm.visualization.error_heat import (
    CAMERA_VIEWS,
    TEMPLATE_VIEWS,
    error_colours,
    error_views,
    write_error_heat,
)
from mamba_mm.visualization.finger_colours import finger_of, joint_colours
from mamba_mm.visualization.hand_scene import Hand
from mamba_mm.visualization.joint_error_plot import write_joint_errors

SQUARE = np.array([[-0.1, -0.1, 1.0], [0.1, -0.1, 1], [0.1, 0.1, 1], [-0.1, 0.1, 1]])
FACES = np.array([[0, 2, 1], [0, 3, 2]])


def hand(vertices, joints=None):
    joints = np.zeros((21, 3)) if joints is None else joints
    return Hand(joints, np.ones(21, bool), vertices, None, True)


class TestCollectedErrors:
    def test_known_errors(self):
        rng = np.random.default_rng(0)
        joints, vertices = rng.normal(0, 0.05, (21, 3)), rng.normal(0, 0.05, (30, 3))
        shift = np.array([1, 2, 3])
        moved, moved_vertices = joints + shift, vertices + shift
        moved[7, 0] += 0.012
        moved_vertices[4, 1] += 0.02
        errors = errors_of(hand(moved_vertices, moved), hand(vertices, joints))
        np.testing.assert_allclose(errors.joints, np.eye(21)[7] * 12, atol=1e-9)
        np.testing.assert_allclose(errors.vertices, np.eye(30)[4] * 20, atol=1e-9)
        assert errors.joints_aligned.argmax() == 7
        assert 0 < errors.joints_aligned.max() < 12
        assert errors.of_vertices(True) is errors.vertices_aligned
        assert 0 < errors.vertices_aligned.max() < 20
        assert errors.of_vertices(False) is errors.vertices

    def test_the_sample_of_a_model_and_its_dump(self, sample):
        predicted, labelled = hands_of(sample)
        np.testing.assert_array_equal(labelled.joints, sample.gt_instances.keypoints_cam[0])
        dumped = hands_of(sample.to_dict())
        np.testing.assert_array_equal(dumped[0].vertices, predicted.vertices)
        errors = errors_of(predicted, labelled)
        np.testing.assert_allclose(errors.joints, 0, atol=1e-4)
        sample.gt_instances.has_3d[:] = 0
        assert hands_of(sample) is None
        with pytest.raises(KeyError, match="no gt_instances"):
            hands_of(dict(pred_instances={}))

    def test_means_leave_out_hands_without_a_mesh(self):
        collected = CollectedErrors()
        joints = np.random.default_rng(0).normal(0, 0.05, (21, 3))
        for scale in (1.0, 3.0):
            wrong = SQUARE + scale * 0.01 * np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]])
            collected.add(errors_of(hand(wrong, joints), hand(SQUARE, joints)))
        assert collected.joints.shape == collected.joints_aligned.shape == (2, 21)
        np.testing.assert_allclose(collected.mean_of_vertices(aligned=False), [20, 0, 0, 20])
        assert collected.mean_of_vertices().max() < 20
        collected.add(errors_of(hand(None, joints), hand(SQUARE, joints)))
        np.testing.assert_allclose(collected.mean_of_vertices(aligned=False), [20, 0, 0, 20])
        assert CollectedErrors(collected.samples[2:]).mean_of_vertices() is None


class TestColours:
    def test_known_errors_have_known_colours(self):
        colours = error_colours(np.array([0, 4, 8, 80]), 8)
        expected = np.array([colormaps["turbo"](share)[:3] for share in (0.0, 0.5, 1.0, 1.0)])
        np.testing.assert_allclose(colours, expected * 255)

    @pytest.mark.parametrize(
        ("errors", "limit", "complaint"),
        [([1.0], 0, "above 0 mm"), ([np.nan], 5, "not finite"), ([1.0], np.nan, "above 0 mm")],
    )
    def test_what_cannot_be_coloured(self, errors, limit, complaint):
        with pytest.raises(ValueError, match=complaint):
            error_colours(np.array(errors), limit)

    def test_colours_are_where_the_vertices_are(self):
        """Left corners without error, right ones with all."""
        errors = np.array([0.0, 10, 10, 0])
        picture = error_views(hand(SQUARE), FACES, errors, 10, side=100)["from the camera"]
        left, right = picture[50, 12].astype(float), picture[50, 88].astype(float)
        # The hand fills 80 of 100 columns, from 9.5 on; colours are mixed between vertices.
        none, full = error_colours(np.array([0.0, 10]), 10)
        share = (12 - 9.5) / 80
        first, last = (1 - share) * none + share * full, share * none + (1 - share) * full
        # Lit from one side: the same colour up to its brightness.
        for found, expected in ((left, first), (right, last)):
            similarity = found @ expected / np.linalg.norm(found) / np.linalg.norm(expected)
            assert similarity > 0.99
        assert left @ last / np.linalg.norm(left) / np.linalg.norm(last) < 0.9

    def test_views_share_a_scale(self):
        # A plane seen from its edge is a line, as high as the plane is.
        views = error_views(hand(SQUARE), FACES, np.zeros(4), 1, CAMERA_VIEWS, side=100)
        heights = []
        for title, picture in views.items():
            rows = np.nonzero((picture != 245).any(-1))[0]
            heights.append(np.ptp(rows) if len(rows) else None)
            assert title in CAMERA_VIEWS
        assert heights[0] == pytest.approx(79, abs=1)
        assert heights[1] is None  # exactly from its edge nothing is seen

    def test_the_template_shows_back_and_palm(self, layer):
        """The thumb, at +z, is below the fingers from the back, and above them from the palm."""
        model = layer.model
        template = np.asarray(model.v_template, np.float64)
        views = error_views(
            hand(template), close_wrist(model.faces), 10.0 * (template[:, 2] > 0.05), 5,
            TEMPLATE_VIEWS, side=120,
        )  # fmt: skip
        for title, below in (("back of the hand", True), ("palm", False)):
            picture = views[title].astype(int)
            thumb = np.nonzero(picture[..., 0] - picture[..., 2] > 40)[0]
            assert (thumb.mean() > 60) == below


def test_pictures_are_written_with_a_bar(tmp_path):
    path = tmp_path / "new" / "heat.png"
    pictures = dict(one=np.zeros((40, 40, 3), np.uint8), two=np.zeros((40, 80, 3), np.uint8))
    write_error_heat(path, pictures, 5, "a title", "error in mm")
    written = cv2.imread(str(path))
    black = (written == 0).all(-1)
    # The black pictures side by side, the second twice as wide.
    row = black[black.any(1)][len(black[black.any(1)]) // 2]
    assert row.mean() > 0.5
    # The last colours of the bar, which nothing else has.
    blue, green, red = written.reshape(-1, 3).astype(int).T
    assert ((red > 100) & (green < 30) & (blue < 30)).any()


class TestJointPlot:
    def test_fingers(self):
        assert [finger_of(joint) for joint in (0, 1, 4, 5, 20)] == [
            *("wrist", "thumb", "thumb", "index", "pinky")
        ]
        colours = joint_colours(21)
        assert len(set(colours)) == 6
        assert len(set(colours[5:9])) == 1
        assert len(set(joint_colours(8))) == 1

    def test_plots(self, tmp_path, monkeypatch):
        from matplotlib.figure import Figure

        figures = []
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a)))
        rng = np.random.default_rng(0)
        errors = rng.uniform(0, 10, (50, 21))
        errors[:, 3] = 40
        errors[:, 6] = np.nan
        write_joint_errors(tmp_path / "j.png", {"MPJPE": errors, "PA-MPJPE": errors / 2}, "all")
        assert cv2.imread(str(tmp_path / "j.png")).std() > 10
        upper, lower = figures[0].axes
        labelled = np.delete(errors, 6, axis=1)
        assert upper.get_title(loc="left") == f"MPJPE {labelled.mean():.2f} mm"
        assert lower.get_title(loc="left") == f"PA-MPJPE {labelled.mean() / 2:.2f} mm"
        assert [label.get_text() for label in lower.get_xticklabels()][:3] == [
            *("wrist", "thumb1", "thumb2")
        ]
        with pytest.raises(ValueError, match="no hand has labels for MPJPE"):
            write_joint_errors(tmp_path / "x.png", {"MPJPE": errors * np.nan}, "none")
        assert not (tmp_path / "x.png").exists()
