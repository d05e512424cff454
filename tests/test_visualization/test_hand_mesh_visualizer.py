import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmpose.registry import VISUALIZERS

from mamba_mm.rendering import project_to_pixels
from mamba_mm.visualization import HandMeshLocalVisualizer

HEIGHT, WIDTH, GAP = 120, 160, 4
IMAGE = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
JOINTS = slice(0, WIDTH)
MESH = slice(WIDTH + GAP, 2 * WIDTH + GAP)
SIDE = slice(2 * (WIDTH + GAP), None)
TRUTH, PREDICTION = slice(0, HEIGHT), slice(HEIGHT + GAP, None)


@pytest.fixture(autouse=True)
def no_mano(monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)


def draw(sample, mano_path="toy", panel_height=HEIGHT, **options):
    visualizer = HandMeshLocalVisualizer(
        "test", mano_path=mano_path, panel_height=panel_height, mesh_alpha=1.0
    )
    return visualizer.add_datasample("hand", IMAGE, sample, **options)


def silhouette(panel):
    """Where something is drawn on the image, without the line of text above."""
    drawn = (panel != 30).any(-1)
    drawn[:20] = False
    return drawn


def expected(points, camera, faces):
    """The area that the mesh has in the picture, drawn by OpenCV, which adds the edge."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels = project_to_pixels(points, *camera)[:, :2]
    for face in np.rint(pixels[faces] * 16).astype(np.int32):
        cv2.fillConvexPoly(picture, face, 1, shift=4)
    return picture.astype(bool)


def overlap(first, second):
    return (first & second).sum() / (first | second).sum()


def test_it_is_built_by_mmpose_and_is_the_current_visualizer():
    with DefaultScope.overwrite_default_scope("mmpose"):
        built = VISUALIZERS.build(
            dict(type="mamba_mm.HandMeshLocalVisualizer", name="of_the_registry")
        )
    assert isinstance(built, HandMeshLocalVisualizer)
    assert Visualizer.get_current_instance() is built


def test_a_row_for_the_truth_and_one_for_the_prediction(sample):
    picture = draw(sample)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * HEIGHT + GAP, 2 * (WIDTH + GAP) + HEIGHT, 3)
    one = (HEIGHT, *picture.shape[1:])
    np.testing.assert_array_equal(draw(sample, draw_pred=False), picture[TRUTH])
    alone = draw(sample, draw_gt=False)
    assert alone.shape == one
    np.testing.assert_array_equal(alone[:, MESH], picture[PREDICTION, MESH])
    np.testing.assert_array_equal(draw(sample, draw_gt=False, draw_pred=False), IMAGE)


def test_meshes_lie_where_their_cameras_see_them(sample, layer):
    picture = draw(sample)
    truth, found = sample.gt_instances, sample.pred_instances
    labelled = expected(truth.vertices_cam[0], (300.0, [70, 50]), layer.faces_closed)
    predicted = expected(
        found.vertices[0] + found.crop_camera_translation[0],
        (3000.0, [90, 50]),
        layer.faces_closed,
    )
    assert overlap(silhouette(picture[TRUTH, MESH]), labelled) > 0.88
    assert overlap(silhouette(picture[PREDICTION, MESH]), predicted) > 0.88
    assert overlap(labelled, predicted) < 0.7


def test_joints_lie_where_they_are(sample):
    sample.gt_instances.keypoints_visible[0, 8] = 0
    picture = draw(sample)
    for row, instances in ((TRUTH, sample.gt_instances), (PREDICTION, sample.pred_instances)):
        panel = picture[row, JOINTS]
        for index, (x, y) in enumerate(np.rint(instances.keypoints[0]).astype(int)):
            hidden = row is TRUTH and index == 8
            assert (panel[y, x] != 30).any() != hidden, index


def test_joints_that_are_not_finite_are_left_out(sample):
    sample.pred_instances.keypoints[0, 5] = np.nan
    sample.pred_instances.keypoints_3d[0, 5] = np.nan
    picture = draw(sample)
    x, y = np.rint(sample.pred_instances.keypoints[0, 12]).astype(int)
    assert (picture[PREDICTION, JOINTS][y, x] != 30).any()


def test_fingers_have_the_colours_of_the_data_set_or_else_of_mmposes_hands(sample):
    visualizer = HandMeshLocalVisualizer("test", panel_height=HEIGHT)
    x, y = np.rint(sample.gt_instances.keypoints[0, 16]).astype(int)
    default = visualizer.add_datasample("hand", IMAGE, sample)[y, x]
    np.testing.assert_array_equal(default, [255, 51, 51])  # the ring finger
    visualizer.set_dataset_meta(
        {
            "keypoint_colors": [(1, 2, 3)] * 21,
            "skeleton_links": [(0, 1)],
            "skeleton_link_colors": [(1, 2, 3)],
        }
    )
    np.testing.assert_array_equal(visualizer.add_datasample("hand", IMAGE, sample)[y, x], [1, 2, 3])


def test_left_hands_are_turned_over(sample, layer):
    visualizer = HandMeshLocalVisualizer("test", mano_path="toy")
    np.testing.assert_array_equal(visualizer.faces_of(True), layer.faces_closed)
    np.testing.assert_array_equal(visualizer.faces_of(False), layer.faces_closed[:, [0, 2, 1]])


def test_small_images_are_enlarged_with_everything_in_them(sample):
    small, large = draw(sample), draw(sample, panel_height=3 * HEIGHT, draw_bbox=True)
    assert large.shape[0] == 6 * HEIGHT + GAP
    wide = slice(3 * WIDTH + GAP, 6 * WIDTH + GAP)
    shrunk = silhouette(large[: 3 * HEIGHT, wide])[1::3, 1::3]
    assert overlap(silhouette(small[TRUTH, MESH]), shrunk) > 0.95
    left, top, right, bottom = ((sample.gt_instances.bboxes[0] + 0.5) * 3 - 0.5).astype(int)
    for x, y in ((left, 3 * 50), (right, 3 * 50), (3 * 50, top), (3 * 50, bottom)):
        np.testing.assert_array_equal(large[y, x], [0, 255, 0])


def test_a_large_image_keeps_its_size(sample):
    assert draw(sample, panel_height=50).shape == draw(sample).shape


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "mamba_mm.visualization.hand_mesh_visualizer.print_log",
        lambda text, logger: lines.append(text),
    )
    return lines


def test_without_a_hand_model_there_are_joints_and_one_line_in_the_log(sample, log):
    visualizer = HandMeshLocalVisualizer("test", panel_height=HEIGHT)
    for _ in range(2):
        picture = visualizer.add_datasample("hand", IMAGE, sample)
    assert len(log) == 1
    assert "draws joints only" in log[0]
    assert "https://mano.is.tue.mpg.de" in log[0]
    assert (picture[30:HEIGHT, MESH] == 245).all()
    assert visualizer.faces_of(True) is None
    side = picture[TRUTH, SIDE]
    np.testing.assert_array_equal(side[HEIGHT - 1, 0], [90, 90, 90])
    # The joints from the side, the colour of the ring finger among them.
    assert (side == [255, 51, 51]).all(-1).any()


def test_the_hand_model_of_the_environment_is_found(sample, log, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_MANO", "toy")
    np.testing.assert_array_equal(draw(sample, mano_path=None), draw(sample))
    assert log == []


def test_a_hand_model_that_is_asked_for_must_be_there():
    with pytest.raises(FileNotFoundError):
        HandMeshLocalVisualizer("test", mano_path="nowhere/MANO_RIGHT.pkl")


def test_without_camera_the_hand_is_seen_from_the_side_only(sample):
    with_camera = draw(sample)
    sample.gt_instances.has_cam[:] = 0
    picture = draw(sample)
    assert (picture[30:HEIGHT, MESH] == 245).all()
    np.testing.assert_array_equal(picture[TRUTH, SIDE], with_camera[TRUTH, SIDE])
    assert silhouette(np.where(picture[TRUTH, SIDE] == 245, 30, 0)).mean() > 0.05


def test_without_labels_in_space_there_are_joints_in_the_image(sample):
    sample.gt_instances.has_3d[:] = 0
    picture = draw(sample)
    assert (picture[30:HEIGHT, MESH] == 245).all()
    assert (picture[30:HEIGHT, SIDE] == 245).all()
    assert silhouette(picture[TRUTH, JOINTS]).any()


def test_files_backends_and_windows(sample, tmp_path, monkeypatch):
    visualizer = HandMeshLocalVisualizer("test", mano_path="toy", panel_height=HEIGHT)
    added, shown = [], []
    monkeypatch.setattr(visualizer, "add_image", lambda *arguments: added.append(arguments))
    monkeypatch.setattr(visualizer, "show", lambda *a, **options: shown.append(options))
    picture = visualizer.add_datasample("hand", IMAGE, sample, step=7)
    ((name, image, step),) = added
    assert (name, step) == ("hand", 7)
    np.testing.assert_array_equal(image, picture)
    visualizer.add_datasample("hand", IMAGE, sample, out_file=str(tmp_path / "new" / "hand.png"))
    written = cv2.imread(str(tmp_path / "new" / "hand.png"))[..., ::-1]
    np.testing.assert_array_equal(written, picture)
    visualizer.add_datasample("hand", IMAGE, sample, show=True, wait_time=3)
    assert shown == [{"win_name": "hand", "wait_time": 3}]
    assert len(added) == 1


@pytest.mark.parametrize("settings", [{"mesh_alpha": 1.5}, {"panel_height": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        HandMeshLocalVisualizer("test", **settings)
