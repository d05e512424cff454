import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")
from untrained_hands import write_untrained

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "analysis_tools" / "draw_hand_meshes.py"
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Random weights; the set that the config names has a right and a left hand held out."""
    return write_untrained(tmp_path, CONFIG, monkeypatch, left_share=0.5)


def test_pictures_a_sheet_and_meshes(tool, checkpoint, tmp_path, capsys):
    folder = tmp_path / "pictures"
    arguments = [str(CONFIG), str(checkpoint), str(folder), "--images", "5", "--obj"]
    assert tool["main"]([*arguments, "--panel-height", "128"]) == 0
    meshes = sorted(path.name for path in folder.glob("*.obj"))
    assert [name[:5] for name in meshes] == ["00000", "00000", "00001", "00001"]
    assert sum(name.endswith("_gt.obj") for name in meshes) == 2
    for path in folder.glob("*.obj"):
        assert path.read_text().count("\nf ") == 1552
    first, second, sheet = (cv2.imread(str(path)) for path in sorted(folder.glob("*.jpg")))
    assert first.shape[:2] == second.shape[:2] == (2 * 128 + 4, 3 * 128 + 8)
    assert sheet.shape[:2] == (first.shape[0], 2 * first.shape[1] + 4)
    assert "sheet.jpg: ground truth above" in capsys.readouterr().out


def test_an_image_that_the_set_does_not_have(tool, checkpoint, tmp_path, capsys):
    arguments = [str(CONFIG), str(checkpoint), str(tmp_path / "pictures"), "--first", "2"]
    assert tool["main"](arguments) == 1
    assert capsys.readouterr().err.endswith("error: the set has no image number 2\n")


def test_the_sheet_takes_pictures_of_different_heights(tool, tmp_path):
    pictures = [np.full((height, 10, 3), 9, np.uint8) for height in (6, 8, 4)]
    path = tool["write_sheet"](pictures, 2, tmp_path / "sheet.png")
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 8 + 4, 2 * 10 + 4, 3)
    assert (sheet[:6, :10] == 9).all()
    assert (sheet[6:8, :10] == 255).all()
    assert (sheet[12:16, :10] == 9).all()


def test_a_missing_checkpoint_is_one_line(tool, tmp_path, capsys):
    assert tool["main"]([str(TOOL), str(tmp_path / "none.pth"), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == f"error: there is no file {tmp_path / 'none.pth'}\n"
