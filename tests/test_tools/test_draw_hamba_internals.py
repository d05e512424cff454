"""Pictures of Hamba's tokens and adjacency, of a tiny set and of a photograph."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")
from untrained_hands import write_untrained

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "analysis_tools" / "draw_hamba_internals.py"
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Random weights, and a set of two images."""
    return write_untrained(tmp_path, CONFIG, monkeypatch)


def test_a_set_and_a_photograph(tool, checkpoint, tmp_path, capsys, monkeypatch):
    crops = []
    plain = tool["write_sampled_tokens"]

    def keep(path, crop, points, *rest):
        crops.append(crop)
        assert points.shape == (21, 2)
        plain(path, crop, points, *rest)

    monkeypatch.setitem(tool["draw"].__globals__, "write_sampled_tokens", keep)
    folder = tmp_path / "pictures"
    arguments = [str(CONFIG), str(checkpoint), str(folder)]
    assert tool["main"]([*arguments, "--images", "5", "--first", "1"]) == 0
    tokens, adjacency = (Path(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert tokens.name.startswith("00001_")
    assert tokens.name.endswith("_tokens.png")
    assert adjacency.name.endswith("_adjacency.png")
    assert sorted(folder.iterdir()) == sorted([tokens, adjacency])

    photograph = tmp_path / "photo.png"
    cv2.imwrite(str(photograph), np.full((128, 96, 3), (250, 100, 20), np.uint8))
    assert tool["main"]([*arguments, "--photographs", str(photograph)]) == 0
    assert (folder / "photo_tokens.png").is_file()
    # Red first, as Matplotlib takes it.
    np.testing.assert_array_equal(crops[-1][64, 48], (20, 100, 250))

    assert tool["main"]([*arguments, "--first", "2"]) == 1
    assert "error: the set has no image number 2, only 2" in capsys.readouterr().err
    assert tool["main"]([*arguments, "--photographs", "none.png"]) == 1
    assert "none.png is not there" in capsys.readouterr().err


def test_another_model_is_refused(tool, checkpoint, tmp_path, capsys):
    other = CONFIG.with_name("mano_vmamba-nano_toy-hands-128x96.py")
    assert tool["main"]([str(other), str(checkpoint), str(tmp_path)]) == 1
    assert "has no token sampler" in capsys.readouterr().err
    missing = tmp_path / "none.pth"
    assert tool["main"]([str(CONFIG), str(missing), str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: there is no file {missing}\n"
