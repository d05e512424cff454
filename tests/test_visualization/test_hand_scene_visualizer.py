import numpy as np
import pytest
from mmengine.structures import InstanceData

pytest.importorskip("mmpose")
from mmpose.structures import PoseDataSample

from mamba_mm.visualization import HandSceneVisualizer
from mamba_mm.visualization.hand_scene import predicted_hands, predicted_scene
from mamba_mm.visualization.hand_scene_visualizer import COLOURS

GREY = np.full((120, 160, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def visualizer():
    return HandSceneVisualizer("scenes", mano_path="toy", mesh_alpha=1.0, panel_height=120)


@pytest.fixture
def scene(sample):
    """Two hands at the same place, the second one a left one; the first 10 cm nearer."""
    one = sample.pred_instances

    def make(depths=(0.6, 0.7), shift=0.0):
        hands = [one.clone(), one.clone()]
        for hand, depth in zip(hands, depths, strict=True):
            hand.cam_translation = np.array([[0, 0, depth]])
            hand.focal_length = np.array([300.0])
        hands[1].is_right = np.zeros(1)
        hands[1].vertices = hands[1].vertices * [-1, 1, 1]
        hands[1].crop_principal_point = hands[1].crop_principal_point + np.array([shift, 0])
        result = PoseDataSample(metainfo=dict(img_path="a.jpg"))
        result.pred_instances = InstanceData.cat(hands)
        return result

    return make


def share_of(picture, is_right):
    """Share of the drawn pixels that have the hue of hands of this side."""
    drawn = picture[(picture.max(-1).astype(int) - picture.min(-1)) > 12].astype(int)
    bluish = drawn[:, 2] > drawn[:, 0]
    return np.mean(bluish == is_right) if len(drawn) else 0.0


def test_nearer_hands_hide_farther_ones(visualizer, scene):
    right_first = visualizer.draw(GREY, scene((0.5, 0.9)), ["mesh"])
    left_first = visualizer.draw(GREY, scene((0.9, 0.5)), ["mesh"])
    assert share_of(right_first, True) > 0.6
    assert share_of(left_first, False) > 0.6
    # Both silhouettes together are the same, whichever is in front.
    np.testing.assert_array_equal((right_first != 128).any(-1), (left_first != 128).any(-1))


def test_the_order_of_the_instances_does_not_matter(visualizer, scene):
    sample = scene((0.5, 0.9))
    picture = visualizer.draw(GREY, sample, ["mesh"])
    sample.pred_instances = InstanceData.cat([sample.pred_instances[1], sample.pred_instances[0]])
    np.testing.assert_array_equal(picture, visualizer.draw(GREY, sample, ["mesh"]))


def test_each_hand_lies_where_the_network_saw_it(visualizer, scene):
    """In the middle of its own crop, not where the camera of the image has it."""
    picture = visualizer.draw(GREY, scene(shift=-60), ["mesh"]).astype(int)
    coloured = picture.max(-1) - picture.min(-1) > 12
    bluish = picture[..., 2] > picture[..., 0]
    columns = np.arange(160)
    right = (coloured & bluish).sum(0) @ columns / (coloured & bluish).sum()
    left = (coloured & ~bluish).sum(0) @ columns / (coloured & ~bluish).sum()
    assert right - left > 40


def test_colours_of_the_sides():
    assert COLOURS[True][2] > COLOURS[True][0]
    assert COLOURS[False][2] < COLOURS[False][0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_layout_is_the_same_with_any_number_of_hands(visualizer, scene, count):
    sample = scene()
    sample.pred_instances = (
        sample.pred_instances[:count]
        if count
        else InstanceData(**{name: value[:0] for name, value in sample.pred_instances.items()})
    )
    picture = visualizer.draw(GREY, sample)
    assert picture.shape == (120, 160 + 4 + 160 + 4 + 120, 3)
    joints, mesh, side = picture[:, :160], picture[:, 164:324], picture[:, 328:]
    drawn = [bool((panel != ground).any()) for panel, ground in ((mesh, 128), (side, 245))]
    assert drawn == [count > 0] * 2
    # Without a hand the first panel says so.
    assert (joints != 128).any()
    # Two hands share the square.
    assert (side[:, 60:] != 245).any() == (count > 0)


def test_panels_in_the_order_of_the_caller(visualizer, scene):
    both = visualizer.draw(GREY, scene(), ["side", "mesh"])
    np.testing.assert_array_equal(both[:, :120], visualizer.draw(GREY, scene(), ["side"]))
    np.testing.assert_array_equal(both[:, 124:], visualizer.draw(GREY, scene(), ["mesh"]))


@pytest.mark.parametrize("panels", [[], ["mesh", "back"]])
def test_unknown_panels(visualizer, scene, panels):
    with pytest.raises(ValueError, match="panels are some of joints, mesh, side, got"):
        visualizer.draw(GREY, scene(), panels)


def test_small_photographs_are_enlarged(visualizer, scene):
    picture = visualizer.draw(GREY[:60, :80].copy(), scene(), ["mesh"])
    assert picture.shape == (120, 160, 3)


def test_without_a_hand_model_there_are_joints_only(scene, monkeypatch):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)
    picture = HandSceneVisualizer("no model", panel_height=120).draw(GREY, scene())
    assert (picture[:, 164:324] == 128).all()
    assert (picture[:, :160] != 128).any()


def test_joints_of_small_hands_are_small(visualizer, scene):
    sample = scene()
    large = (visualizer.draw(GREY, sample, ["joints"]) != 128).any(-1).sum()
    radius = visualizer.radius
    sample.pred_instances.bboxes[:, 2:] = sample.pred_instances.bboxes[:, :2] + 10
    small = (visualizer.draw(GREY, sample, ["joints"]) != 128).any(-1).sum()
    assert small < large
    assert visualizer.radius == radius


def test_hands_that_are_not_finite_are_left_out_of_the_scene(scene):
    instances = scene().pred_instances
    instances.vertices[0, 3] = np.nan
    (left,) = predicted_scene(instances)
    assert left.index == 1
    assert not left.hand.is_right


def test_the_scene_is_in_the_frame_of_the_image(scene):
    instances = scene((0.6, 0.7)).pred_instances
    near, far = predicted_scene(instances)
    np.testing.assert_allclose(
        near.vertices_in_image, instances.vertices[0] + [0, 0, 0.6], atol=1e-9
    )
    np.testing.assert_allclose(
        far.vertices_in_image, instances.vertices[1] + [0, 0, 0.7], atol=1e-9
    )
    np.testing.assert_allclose(near.hand.vertices, predicted_hands(instances)[0].vertices)
