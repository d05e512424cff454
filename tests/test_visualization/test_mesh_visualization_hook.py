from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from torch import nn

pytest.importorskip("mmpose")
from mmengine.registry import HOOKS, DefaultScope
from mmengine.visualization import Visualizer

from mamba_mm.engine.mesh_visualization_hook import MeshVisualizationHook
from mamba_mm.visualization import HandMeshLocalVisualizer


@pytest.fixture
def image_path(tmp_path):
    path = tmp_path / "images" / "hand.png"
    path.parent.mkdir()
    image = np.zeros((120, 160, 3), np.uint8)
    image[..., 2] = 77  # red, in OpenCV's order
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def outputs(sample, image_path):
    sample.set_metainfo(dict(img_path=str(image_path)))
    return [sample] * 3


@pytest.fixture
def visualizer(monkeypatch, request):
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)
    return HandMeshLocalVisualizer.get_instance(request.node.name)


@pytest.fixture
def calls(visualizer, monkeypatch):
    """What the visualizer is asked to draw."""
    asked = []
    monkeypatch.setattr(
        visualizer,
        "add_datasample",
        lambda *arguments, **options: asked.append((arguments, options)),
    )
    return asked


@pytest.fixture
def runner(tmp_path, layer):
    evaluator = SimpleNamespace(dataset_meta={"keypoint_colors": [(1, 2, 3)] * 21})
    return SimpleNamespace(
        iter=40,
        model=nn.Sequential(layer),
        timestamp="now",
        work_dir=str(tmp_path / "work"),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
    )


def test_it_is_found_by_name(visualizer):
    with DefaultScope.overwrite_default_scope("mmpose"):
        hook = HOOKS.build(dict(type="mamba_mm.MeshVisualizationHook", enable=True, interval=3))
    assert isinstance(hook, MeshVisualizationHook)


def test_it_draws_nothing_unless_enabled(calls, runner, outputs):
    hook = MeshVisualizationHook(interval=1)
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, None, outputs)
    assert calls == []


@pytest.mark.parametrize("phase", ["val", "test"])
def test_one_sample_of_so_many_in_both_loops(phase, calls, runner, outputs):
    hook = MeshVisualizationHook(enable=True, interval=2, kpt_thr=0.7)
    for _ in range(2):
        getattr(hook, f"before_{phase}_epoch")(runner)
        for index in range(2):
            getattr(hook, f"after_{phase}_iter")(runner, index, None, outputs)
    names = [arguments[0] for arguments, _ in calls]
    assert names == [f"{phase}_{number:06d}" for number in (0, 2, 4)] * 2
    (_, image, sample), options = calls[0]
    assert sample is outputs[0]
    np.testing.assert_array_equal(image[5, 5], [77, 0, 0])
    assert options == dict(
        draw_gt=True, show=False, wait_time=0.0, out_file=None, kpt_thr=0.7, step=40
    )


def test_it_hands_over_the_hand_model_and_the_colours(visualizer, calls, runner, layer):
    MeshVisualizationHook(enable=True).before_test_epoch(runner)
    np.testing.assert_array_equal(visualizer.faces_of(True), layer.faces_closed)
    assert visualizer.kpt_color == [(1, 2, 3)] * 21


def test_a_network_without_hand_model_is_drawn_too(visualizer, runner, outputs, tmp_path):
    runner.model = nn.Linear(1, 1)
    hook = MeshVisualizationHook(enable=True, out_dir="pictures", write_obj=True)
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs)
    (file,) = (tmp_path / "work" / "now" / "pictures").iterdir()
    assert file.suffix == ".jpg"


def test_files_of_a_test(visualizer, runner, outputs, tmp_path):
    hook = MeshVisualizationHook(enable=True, interval=2, out_dir="pictures", write_obj=True)
    hook.before_test_epoch(runner)
    for index in range(2):
        hook.after_test_iter(runner, index, None, outputs)
    folder = tmp_path / "work" / "now" / "pictures"
    assert sorted(file.name for file in folder.iterdir()) == [
        f"test_{number:06d}_hand{suffix}"
        for number in (0, 2, 4)
        for suffix in (".jpg", ".obj", "_gt.obj")
    ]
    picture = cv2.imread(str(folder / "test_000000_hand.jpg"))
    assert picture.shape[0] == 2 * 384 + 4
    vertices = (folder / "test_000000_hand.obj").read_text().count("\nv ") + 1
    assert vertices == 778


def test_files_of_a_validation_are_kept_apart_by_iteration(visualizer, runner, outputs, tmp_path):
    hook = MeshVisualizationHook(
        enable=True, out_dir=str(tmp_path / "elsewhere"), draw_gt=False, write_obj=True
    )
    for runner.iter in (10, 20):
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, None, outputs)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("elsewhere/*/*")) == [
        f"elsewhere/iter_{number}/val_000000_hand{suffix}"
        for number in (10, 20)
        for suffix in (".jpg", ".obj")
    ]


def test_windows_are_named_after_the_image(calls, runner, outputs):
    hook = MeshVisualizationHook(enable=True, show=True, wait_time=2.0)
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs)
    ((arguments, options),) = calls
    assert arguments[0] == "test_000000_hand"
    assert options["show"]
    assert options["wait_time"] == 2.0


def test_only_the_first_process_draws(calls, runner, outputs, monkeypatch):
    monkeypatch.setattr("mamba_mm.engine.mesh_visualization_hook.is_main_process", lambda: False)
    hook = MeshVisualizationHook(enable=True)
    hook.before_test_epoch(runner)
    hook.after_test_iter(runner, 0, None, outputs)
    assert calls == []


def test_a_broken_image_is_named(visualizer, runner, outputs, image_path):
    image_path.write_bytes(b"text")
    hook = MeshVisualizationHook(enable=True)
    hook.before_test_epoch(runner)
    with pytest.raises(ValueError, match=r"hand.png is not an image"):
        hook.after_test_iter(runner, 0, None, outputs)


def test_settings_are_checked(request):
    with pytest.raises(ValueError, match="interval is 1 or more"):
        MeshVisualizationHook(interval=0)
    with pytest.raises(ValueError, match="write_obj=True needs out_dir"):
        MeshVisualizationHook(write_obj=True)
    Visualizer.get_instance(request.node.name)
    with pytest.raises(TypeError, match="is a Visualizer, which does not draw meshes"):
        MeshVisualizationHook(enable=True)
