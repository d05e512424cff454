import numpy as np
import pytest

pytest.importorskip("mmpose")
import torch
from mmengine.structures import InstanceData

from mamba_mm.rendering import project_to_pixels
from mamba_mm.visualization.hand_obj import write_hand_objs
from mamba_mm.visualization.hand_panels import Enlargement, SideView, mesh_over, stacked
from mamba_mm.visualization.hand_scene import Hand, Pinhole, labelled_hands, predicted_hands

CAMERA = Pinhole(np.array([100.0, 120.0]), np.array([20.0, 15.0]))
SQUARE = np.array([[-0.1, -0.1, 1.0], [0.1, -0.1, 1], [0.1, 0.1, 1], [-0.1, 0.1, 1]])
FACES = np.array([[0, 2, 1], [0, 3, 2]])


def hand(vertices=SQUARE, camera=CAMERA):
    return Hand(np.zeros((21, 3)), np.ones(21, bool), vertices, camera, True)


class TestScene:
    def test_the_camera_of_the_crop_goes_first(self, sample):
        found = sample.pred_instances
        (one,) = predicted_hands(found)
        np.testing.assert_allclose(
            one.vertices, found.vertices[0] + found.crop_camera_translation[0]
        )
        np.testing.assert_allclose(
            one.joints, found.keypoints_3d[0] + found.crop_camera_translation
        )
        np.testing.assert_array_equal(one.camera.focal_length, [3000, 3000])
        np.testing.assert_array_equal(one.camera.principal_point, [90, 50])

    def test_else_that_of_the_image_and_else_none(self, sample):
        found = sample.pred_instances
        del found.crop_camera_translation
        (one,) = predicted_hands(found)
        np.testing.assert_allclose(one.joints, found.keypoints_3d[0] + found.cam_translation)
        np.testing.assert_array_equal(one.camera.focal_length, [1, 1])
        del found.cam_translation
        (one,) = predicted_hands(found)
        assert one.camera is None
        np.testing.assert_array_equal(one.joints, found.keypoints_3d[0])

    def test_tensors_are_read_too(self, sample):
        fields = {k: torch.as_tensor(v) for k, v in sample.pred_instances.items()}
        (one,), (same,) = map(predicted_hands, (InstanceData(**fields), sample.pred_instances))
        np.testing.assert_allclose(one.vertices, same.vertices)

    @pytest.mark.parametrize("field", ["keypoints_3d", "vertices"])
    def test_what_is_not_finite_is_no_hand(self, sample, field):
        sample.pred_instances[field][0, 3, 1] = np.nan
        assert predicted_hands(sample.pred_instances) == []

    def test_joints_in_the_image_alone_are_no_hand_in_space(self, sample):
        del sample.pred_instances.keypoints_3d, sample.gt_instances.keypoints_cam
        assert predicted_hands(sample.pred_instances) == []
        assert labelled_hands(sample.gt_instances) == []

    def test_labels(self, sample):
        truth = sample.gt_instances
        truth.keypoints_cam_valid[0, 4] = 0
        truth.is_right[:] = 0
        (one,) = labelled_hands(truth)
        np.testing.assert_array_equal(one.joints, truth.keypoints_cam[0])
        np.testing.assert_array_equal(one.vertices, truth.vertices_cam[0])
        np.testing.assert_array_equal(one.camera.focal_length, [300, 300])
        np.testing.assert_array_equal(one.camera.principal_point, [70, 50])
        assert np.flatnonzero(~one.joints_known).tolist() == [4]
        assert not one.is_right

    def test_flags_say_what_there_is(self, sample):
        truth = sample.gt_instances
        truth.has_vertices[:] = truth.has_cam[:] = 0
        (one,) = labelled_hands(truth)
        assert one.vertices is None
        assert one.camera is None
        truth.has_3d[:] = 0
        assert labelled_hands(truth) == []


class TestEnlargement:
    def test_points_stay_where_they_are_in_the_picture(self):
        picture = np.zeros((11, 15, 3), np.uint8)
        picture[4, 7] = 255
        large = Enlargement(3.0).image(picture)
        assert large.shape == (33, 45, 3)
        row, column = np.argwhere(large[..., 0] > 200).mean(0)
        place = Enlargement(3.0).pixels(np.array([7.0, 4.0]))
        np.testing.assert_allclose(place, [column, row], atol=1e-6)

    def test_its_camera_sees_the_same(self):
        enlargement = Enlargement(2.5)
        before = project_to_pixels(SQUARE, CAMERA.focal_length, CAMERA.principal_point)
        large = enlargement.camera(CAMERA)
        after = project_to_pixels(SQUARE, large.focal_length, large.principal_point)
        np.testing.assert_allclose(after[:, :2], enlargement.pixels(before[:, :2]))

    def test_one_leaves_the_image(self):
        picture = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
        same = Enlargement(1.0).image(picture)
        np.testing.assert_array_equal(same, picture)
        assert same is not picture


class TestMeshOver:
    IMAGE = np.full((40, 50, 3), 200, np.uint8)

    def test_it_covers_what_the_camera_sees_of_it(self):
        picture = mesh_over(self.IMAGE, SQUARE, FACES, CAMERA, (10, 60, 30), 1.0)
        rows, columns = np.nonzero((picture != 200).any(-1))
        # 20 +- 10 and 15 +- 12, where pixels on an edge go to the right of it and below.
        assert (columns.min(), columns.max()) == (10, 29)
        assert (rows.min(), rows.max()) == (3, 26)
        assert (self.IMAGE == 200).all()
        assert picture[15, 20].argmax() == 1  # in its colour

    def test_alpha_mixes(self):
        solid = mesh_over(self.IMAGE, SQUARE, FACES, CAMERA, (10, 60, 30), 1.0)
        half = mesh_over(self.IMAGE, SQUARE, FACES, CAMERA, (10, 60, 30), 0.5)
        none = mesh_over(self.IMAGE, SQUARE, FACES, CAMERA, (10, 60, 30), 0.0)
        np.testing.assert_allclose(half, (solid.astype(float) + 200) / 2, atol=1)
        np.testing.assert_array_equal(none, self.IMAGE)


class TestSideView:
    def test_it_looks_from_the_right_of_the_camera(self):
        points = np.array(
            [[0.0, 0, 0.5], [0, 0, 0.7], [0, 0.1, 0.6], [0.05, 0, 0.6], [-0.05, 0, 0.6]]
        )
        one = hand(points)
        view = SideView.fitting([one], 101)
        near, far, low, right, left = view.pixels(points, one)
        assert near[0] == pytest.approx(50 - 0.4 * 101)  # it fills 80 percent
        assert far[0] == pytest.approx(50 + 0.4 * 101)
        assert low[1] > near[1] == far[1]
        assert right[2] < left[2]  # nearer to the viewer

    def test_all_hands_have_one_scale(self):
        small, large = hand(SQUARE), hand(SQUARE * [3, 3, 1])
        view = SideView.fitting([small, large], 200)
        heights = [np.ptp(view.pixels(one.vertices, one)[:, 1]) for one in (small, large)]
        assert heights == pytest.approx([160 / 3, 160])

    def test_without_a_mesh_the_known_joints_count(self):
        joints = np.zeros((21, 3))
        joints[1:5, 1] = 0.1
        joints[20] = 99
        known = np.ones(21, bool)
        known[20] = False
        assert SideView.fitting([Hand(joints, known, None, None, True)], 50).metres == 0.1
        assert SideView.fitting([], 50).metres > 0

    def test_the_mesh_is_drawn(self):
        one = hand(SQUARE[:, [2, 1, 0]] * [1, 1, 1])
        picture = SideView.fitting([one], 60).mesh(one, FACES, (200, 20, 20))
        red = (picture[..., 0].astype(int) - picture[..., 1]) > 20
        assert 0.8**2 * 0.9 < red.mean() < 0.8**2 * 1.1


def test_rows_of_different_sizes_are_stacked():
    first = [np.full((10, 20, 3), 1, np.uint8), np.full((10, 5, 3), 2, np.uint8)]
    second = [np.full((6, 12, 3), 3, np.uint8)]
    picture = stacked([first, second])
    assert picture.shape == (10 + 4 + 6, 20 + 4 + 5, 3)
    assert (picture[:10, :20] == 1).all()
    assert (picture[:10, 24:] == 2).all()
    assert (picture[14:, :12] == 3).all()
    assert (picture[14:, 12:] == 255).all()
    assert (picture[10:14] == 255).all()


def test_obj_files_are_upright_and_relative_to_the_wrist(tmp_path):
    joints = np.full((21, 3), 0.5)
    hands = [
        Hand(joints, np.ones(21, bool), vertices, None, right)
        for vertices, right in ((SQUARE, True), (None, True), (SQUARE, False))
    ]
    faces = {True: FACES, False: FACES[:, [0, 2, 1]]}
    files = write_hand_objs(tmp_path / "a.b.obj", hands, faces.get)
    assert files == [tmp_path / "a.b.obj", tmp_path / "a.b_1.obj"]
    lines = [file.read_text().splitlines() for file in files]
    assert lines[0][0] == "v -0.600000 0.600000 -0.500000"
    assert [one[-1] for one in lines] == ["f 1//1 4//4 3//3", "f 1//1 3//3 4//4"]
    assert write_hand_objs(tmp_path / "c.obj", hands, lambda is_right: None) == []
