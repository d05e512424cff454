import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

cv2 = pytest.importorskip("cv2")

TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "estimate_depth.py"


class RedIsNear(torch.nn.Module):
    def forward(self, images):
        return images[:, 0]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("estimate_depth", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path):
    photos, maps = tmp_path / "rgb", tmp_path / "depth"
    (photos / "left").mkdir(parents=True)
    for name in ("1.png", "left/2.JPG"):
        image = np.zeros((8, 8, 3), np.uint8)
        image[:, 4:, 2] = 200
        cv2.imwrite(str(photos / name), image)
    (photos / "notes.txt").write_text("no photo")
    torch.jit.save(torch.jit.script(RedIsNear()), tmp_path / "network.pt")
    return photos, maps, ["--network", str(tmp_path / "network.pt"), "--size", "16", "16"]


def test_maps_are_written_where_the_transform_finds_them(tool, folders, capsys):
    from mamba_mm.datasets.transforms import LoadDepth

    photos, maps, options = folders
    assert tool.main([str(photos), str(maps), *options]) == 0
    assert "2 maps written, 0 were there" in capsys.readouterr().out
    assert sorted(p.relative_to(maps).as_posix() for p in maps.rglob("*.png")) == [
        "1.png",
        "left/2.png",
    ]
    sample = dict(img=np.zeros((8, 8, 3), np.uint8), img_path=str(photos / "left" / "2.JPG"))
    load = LoadDepth(folders=("rgb", "depth"), kind="inverse_depth")
    nearness = load.transform(sample)["inverse_depth"]
    assert nearness.max() == 65535
    assert nearness[:, 0].max() < 1000
    assert (nearness[:, 7] > 64000).all()

    # The maps that are there stay.
    cv2.imwrite(str(maps / "1.png"), np.zeros((2, 2), np.uint16))
    assert tool.main([str(photos), str(maps), *options]) == 0
    assert "0 maps written, 2 were there" in capsys.readouterr().out
    assert cv2.imread(str(maps / "1.png")).shape == (2, 2, 3)


def test_unknown_depth_stays_unknown(tool):
    png = tool.as_png(np.array([[0, -1, np.nan, np.inf], [1e-9, 1, 2, 4]]))
    assert png.dtype == np.uint16
    np.testing.assert_array_equal(png, [[0, 0, 0, 0], [1, 16384, 32768, 65535]])
    assert not tool.as_png(np.zeros((2, 2))).any()


def test_what_is_wrong_is_said_in_one_line(tool, folders, tmp_path, capsys):
    photos, maps, options = folders
    assert tool.main([str(tmp_path / "nowhere"), str(maps), *options]) == 1
    assert capsys.readouterr().err.startswith("error: no photo (.jpg,")
    assert tool.main([str(photos), str(maps), "--network", str(photos / "1.png")]) == 1
    assert "is no TorchScript" in capsys.readouterr().err
    (photos / "0.jpg").write_text("no photo")
    assert tool.main([str(photos), str(maps), *options]) == 1
    assert "0.jpg cannot be read as a photo" in capsys.readouterr().err
    assert not maps.exists()
