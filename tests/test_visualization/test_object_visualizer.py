"""Pictures of objects: keypoints, meshes and boxes where the poses say."""

import numpy as np
import pytest
from mmengine.structures import InstanceData

pytest.importorskip("mmpose")
pytest.importorskip("trimesh")

from mmpose.structures import PoseDataSample

from mamba_mm.datasets.toy_objects.bop import write_models
from mamba_mm.datasets.toy_objects.scenes import UPRIGHT
from mamba_mm.visualization import ObjectPoseLocalVisualizer

CAM_K = np.array([[300.0, 0, 70], [0, 300, 50], [0, 0, 1]])
HEIGHT, WIDTH = 100, 140
TRUE, FOUND = np.array([-0.03, 0, 0.5]), np.array([0.05, 0.01, 0.5])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set") / "models"
    write_models(folder)
    return folder


def object_sample():
    """A brick left of the middle, predicted right of it."""
    corner = np.array([[[10.0, 10], [20, 10], [30, 20], [40, 10], [10, 60], [20, 60], [30, 60]]])
    truth = InstanceData(
        keypoints=np.concatenate([corner, [[[130.0, 90]]]], axis=1),
        object_rotation=UPRIGHT[None],
        object_translation=TRUE[None],
        object_label=np.array([0]),
        cam_K=CAM_K[None],
    )
    found = InstanceData(
        keypoints=truth.keypoints + 3,
        pnp_rotation=UPRIGHT[None],
        pnp_translation=FOUND[None],
        fit_rotation=UPRIGHT[None],
        fit_translation=TRUE[None],
        object_label=np.array([0]),
    )
    return PoseDataSample(gt_instances=truth, pred_instances=found)


def panels(visualizer, sample, **settings):
    """Rows of three panels, as large as the image."""
    picture = visualizer.draw_objects(np.zeros((HEIGHT, WIDTH, 3), np.uint8), sample, **settings)
    rows = (picture.shape[0] + 4) // (HEIGHT + 4)
    return [
        [
            picture[r * (HEIGHT + 4) :, c * (WIDTH + 4) :][:HEIGHT, :WIDTH].astype(int)
            for c in range(3)
        ]
        for r in range(rows)
    ]


def visualizer_of(models, name, **settings):
    return ObjectPoseLocalVisualizer(
        name=name, models=models, panel_height=HEIGHT, mesh_alpha=1.0, **settings
    )


def middle_of(mask):
    return np.argwhere(mask).mean(axis=0)[::-1]


def test_meshes_and_boxes_are_where_the_poses_are(models):
    rows = panels(visualizer_of(models, "objects"), object_sample())
    for row, place in zip(rows, (TRUE, FOUND), strict=True):
        inside = row[1][25:].max(axis=2) > 60  # below the caption
        expected = 300 * place[:2] / place[2] + CAM_K[:2, 2]
        assert np.abs(middle_of(inside)[0] - expected[0]) < 2
        assert inside.sum() == pytest.approx(60 * 39, rel=0.25)  # 100 x 65 mm
    green, blue = (
        (rows[1][2][25:] == np.array(colour)).all(axis=2)
        for colour in ((140, 205, 150), (130, 170, 235))
    )
    assert middle_of(green)[0] < 60 < 90 < middle_of(blue)[0]
    assert not (rows[0][2][25:] == np.array((130, 170, 235))).all(axis=2).any()


def test_keypoints_are_drawn_and_rows_can_be_left_out(models):
    drawn = visualizer_of(models, "keypoints")
    (row,) = panels(drawn, object_sample(), draw_pred=False)
    assert row[0][88:93, 128:133].max() > 200
    (row,) = panels(drawn, object_sample(), draw_gt=False)
    assert row[0][91:96, 131:136].max() > 200


def test_the_other_pose_can_be_drawn(models):
    rows = panels(visualizer_of(models, "fit", pose="fit"), object_sample())
    places = [middle_of(row[1][25:].max(axis=2) > 60) for row in rows]
    np.testing.assert_allclose(places[0], places[1], atol=1)
    with pytest.raises(ValueError, match="unknown pose 'icp'; known: pnp, fit"):
        visualizer_of(models, "icp", pose="icp")


def test_without_models_or_poses_keypoints_remain(models, tmp_path):
    sample = object_sample()
    rows = panels(visualizer_of(None, "none"), sample)
    assert (rows[0][1][40:] == 245).all()
    sample.pred_instances.pnp_translation = np.full((1, 3), np.nan)
    sample.pred_instances.keypoints = np.full((1, 8, 2), np.nan)
    rows = panels(visualizer_of(models, "diverged"), sample)
    assert (rows[1][1][40:] == 245).all()


def test_where_the_camera_was_assumed_the_prediction_is_drawn_through_it(models):
    sample = object_sample()
    sample.gt_instances.has_cam = np.zeros(1, np.float32)
    sample.gt_instances.cam_K = np.eye(3)[None]
    sample.pred_instances.focal_length = np.array([150.0])
    sample.pred_instances.principal_point = CAM_K[None, :2, 2]
    rows = panels(visualizer_of(models, "assumed"), sample)
    assert (rows[0][1][40:] == 245).all()  # a label without a camera has no place in the picture
    inside = rows[1][1][25:].max(axis=2) > 60
    expected = 150 * FOUND[:2] / FOUND[2] + CAM_K[:2, 2]
    assert np.abs(middle_of(inside)[0] - expected[0]) < 2


def test_a_sample_of_a_hand_is_drawn_as_a_hand(models, sample, tmp_path):
    drawn = visualizer_of(models, "hands", mano_path="toy")
    image = np.zeros((120, 160, 3), np.uint8)
    out = tmp_path / "hand.png"
    hand = drawn.add_datasample("a", image, sample, out_file=str(out), kpt_thr=0.3)
    assert out.is_file()
    assert hand.shape[1] == 2 * (160 + 4) + 120  # the panel from the side is square
    obj = drawn.add_datasample(
        "b", np.zeros((HEIGHT, WIDTH, 3), np.uint8), object_sample(), out_file=str(out)
    )
    assert obj.shape == (2 * HEIGHT + 4, 3 * WIDTH + 8, 3)
