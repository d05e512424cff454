"""The demo as a command, with random weights."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmpose")
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.registry import MODELS
from training_runs import DATA_DIR

from mamba_mm.apis import inferencers

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"


@pytest.fixture(scope="module")
def demo():
    return runpy.run_path(str(ROOT / "demo" / "hand_mesh_demo.py"))["main"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(Config.fromfile(CONFIG).model)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return path


@pytest.fixture
def run(demo, weights, tmp_path, capsys):
    """Run it on an input; return the exit status, what it printed, and what it complained of."""

    def run(given, *arguments, config=CONFIG, checkpoint=weights):
        command = [str(given), str(config), str(checkpoint), "--out-dir", str(tmp_path / "out")]
        status = demo([*command, "--device", "cpu", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def picture(path, value=90):
    assert cv2.imwrite(str(path), np.full((60, 80, 3), value, np.uint8))
    return path


def names_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_given_boxes(run, tmp_path):
    path = picture(tmp_path / "a.png")
    boxes = ["--box", 10, 10, 40, 50, "left", "--box", 40, 10, 70, 50, "right"]
    status, out, _ = run(
        path, *boxes, "--obj", "--cam-K", 90, 92, 40, 30, "--vertices", "--padding", 2
    )
    assert status == 0
    assert f"{path}: 2 hands (left, right)\nresults: {tmp_path / 'out'}\n" in out
    assert len(names_in(tmp_path / "out")) == 5
    content = json.loads((tmp_path / "out" / "predictions" / "a.json").read_text())
    left, _ = content["pictures"][0]["hands"]
    assert left["camera"]["focal_length"] == 91
    # Of a crop of twice the 40 pixels that the box is high.
    assert left["crop_camera"]["focal_length"] == pytest.approx(5000 / 256 * 80)
    assert np.shape(left["vertices"]) == (778, 3)
    assert content["weights"].endswith("random.pth")


def test_a_folder_and_a_file_of_boxes_with_a_picture_without_hands(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "in" / name)
    images = [dict(id=0, file_name="a.jpg"), dict(id=1, file_name="b.jpg")]
    hand = dict(image_id=1, bbox=[10, 10, 30, 40])
    content = dict(images=images, annotations=[hand])
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    boxes = ["--boxes", tmp_path / "boxes.json", "--side", "left", "--no-json"]
    augmented = ["--tta", "--tta-scales", "1", "--tta-rotations", "0", "15", "--padding", "1.5"]
    status, out, _ = run(tmp_path / "in", *boxes, *augmented, "--panels", "mesh")
    assert status == 0
    assert "a.jpg: no hand found\n" in out
    assert "b.jpg: 1 hand (left)\n" in out
    assert names_in(tmp_path / "out") == ["visualizations/a.jpg", "visualizations/b.jpg"]


def test_a_video(run, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (80, 60))
    for value in (30, 90, 200):
        writer.write(np.full((60, 80, 3), value, np.uint8))
    writer.release()
    limits = ["--whole-image", "--side", "right", "--max-frames", 2, "--panels", "mesh"]
    status, out, _ = run(tmp_path / "v.mp4", *limits, "--focal-length", 90)
    assert status == 0
    assert f"{tmp_path / 'v.mp4'}: 2 pictures, 2 hands\n" in out
    assert names_in(tmp_path / "out") == ["predictions/v.json", "visualizations/v.mp4"]


def test_a_picture_whose_name_begins_like_a_camera(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "webcam_photo.png")
    status, out, _ = run("webcam_photo.png", "--whole-image", "--side", "right", "--no-pictures")
    assert status == 0
    assert "webcam_photo.png: 1 hand (right)\n" in out


def test_networks_that_find_the_hands(run, tmp_path, monkeypatch):
    asked = []

    class WholeBody(inferencers.HandBoxes):
        def __init__(self, *arguments):
            asked.append(arguments)

        def __call__(self, frame):
            return [inferencers.HandBox((10, 10, 40, 50), "left")]

    monkeypatch.setattr(inferencers, "WholeBodyHands", WholeBody)
    people = ["--person-detector", "p.py", "--person-detector-weights", "p.pth"]
    status, out, _ = run(
        *(picture(tmp_path / "a.png"), "--wholebody", "w.py", "--wholebody-weights", "w.pth"),
        *people,
    )
    assert status == 0
    assert "1 hand (left)" in out
    assert asked == [("w.py", "w.pth", "cpu", "p.py", "p.pth")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--whole-image"], "known which hand a box shows"),
        (["--boxes", "none.json"], "no file of boxes none.json"),
        (["--detector", "hand", "--detector-weights", "none.pth"], "no file of weights none.pth"),
        (["--box", "1", "2", "3", "2", "left"], "is empty"),
        (["--whole-image", "--side", "left", "--tta-scales", "0.9"], "scales need 1"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, message):
    status, _, err = run(picture(tmp_path / "a.png"), *arguments)
    assert status == 1
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_files_that_are_not_there(run, tmp_path):
    given = ["--whole-image", "--side", "left"]
    path = picture(tmp_path / "a.png")
    (tmp_path / "v.mp4").write_bytes(b"no video")
    for settings, message in (
        (dict(given=tmp_path / "none.jpg"), "no file or folder"),
        (dict(given=tmp_path / "v.mp4"), "cannot be read as a video"),
        (dict(given=path, config="none.py"), "no config none.py"),
        (dict(given=path, checkpoint="none.pth"), "no checkpoint none.pth"),
    ):
        status, _, err = run(settings.pop("given"), *given, **settings)
        assert status == 1
        assert message in err


def test_a_camera_that_is_not_there(run, monkeypatch):
    class NoCamera:
        def __init__(self, number):
            assert number == 7

        def isOpened(self):
            return False

    monkeypatch.setattr(cv2, "VideoCapture", NoCamera)
    status, _, err = run("webcam:7", "--whole-image", "--side", "left")
    assert status == 1
    assert "camera 7 is not available" in err


@pytest.mark.parametrize(("given", "expected"), [("a.png", 130), ("webcam", 0)])
def test_interrupted(run, tmp_path, monkeypatch, given, expected):
    """A camera is always ended like that."""

    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(inferencers.HandMeshInferencer, "__call__", interrupt)
    picture(tmp_path / "a.png")
    given = tmp_path / given if given == "a.png" else given
    status, _, err = run(given, "--whole-image", "--side", "left")
    assert status == expected
    assert ("interrupted" in err) == (expected != 0)


def test_one_way_to_say_where_the_hands_are(demo, capsys):
    for arguments in ([], ["--whole-image", "--boxes", "b.json"]):
        with pytest.raises(SystemExit):
            demo(["a.png", "c.py", "w.pth", *arguments])
    with pytest.raises(SystemExit) as done:
        demo(["--help"])
    assert done.value.code == 0
    assert "--wholebody wholebody" in capsys.readouterr().out


def test_real_photographs(run, tmp_path):
    annotations = DATA_DIR / "coco" / "test_coco_wholebody.json"
    if not annotations.is_file():
        pytest.skip(f"there is no {annotations}")
    boxes = ["--boxes", annotations, "--padding", "1.5", "--panels", "mesh"]
    status, out, _ = run(DATA_DIR / "coco", *boxes)
    assert status == 0
    assert "000000196141.jpg: 3 hands (right, left, left)" in out
    assert out.count(" hand") == 4
    for path in (tmp_path / "out" / "predictions").iterdir():
        (shown,) = json.loads(path.read_text())["pictures"]
        # Even random hands are drawn where the boxes are.
        for hand in shown["hands"]:
            middle = np.mean(np.reshape(hand["bbox"], (2, 2)), axis=0)
            extent = np.ptp(np.reshape(hand["bbox"], (2, 2)), axis=0).max()
            assert np.abs(np.mean(hand["keypoints"], axis=0) - middle).max() < extent
        drawn = cv2.imread(str(tmp_path / "out" / "visualizations" / f"{path.stem}.jpg"))
        assert drawn is not None
