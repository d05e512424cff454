"""Pictures of errors, from a checkpoint and from a dump of predictions."""

import pickle
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("mmpose")
from mmengine.config import Config
from mmengine.registry import DefaultScope
from untrained_hands import write_untrained

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "analysis_tools" / "draw_hand_errors.py"
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "mano_vmamba-nano_toy-hands-128x96.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A set with a right and a left hand held out, and random weights."""
    folder = tmp_path_factory.mktemp("errors")
    with pytest.MonkeyPatch.context() as patch:
        write_untrained(folder, CONFIG, patch, left_share=0.5)
    return folder


@pytest.fixture
def data(trained, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_HANDS_DATA", str(trained / "hands"))
    monkeypatch.delenv("MAMBA_MM_MANO", raising=False)
    return trained


def test_a_checkpoint_and_a_dump_of_it_give_the_same_pictures(tool, data, tmp_path, capsys):
    folder = tmp_path / "one"
    with DefaultScope.overwrite_default_scope("mmpose"):
        status = tool["main"](
            [str(CONFIG), str(folder), "--checkpoint", str(data / "random.pth"), "--hands", "1"]
        )
    assert status == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names[1:] == ["joint_errors.png", "mean_vertices.png"]
    assert names[0].startswith("00000_")
    printed = capsys.readouterr().out.splitlines()[-3:]
    assert sorted(printed) == [str(folder / name) for name in names]
    assert all(cv2.imread(str(folder / name)).std() > 5 for name in names)

    with DefaultScope.overwrite_default_scope("mmpose"):
        args = tool["parse_args"](
            [str(CONFIG), str(folder), "--checkpoint", str(data / "random.pth")]
        )
        config = Config.fromfile(CONFIG)
        samples = [s.to_dict() for s in tool["predicted_samples"](config, args)]
    dump = tmp_path / "dump.pkl"
    dump.write_bytes(pickle.dumps(samples))
    again = tmp_path / "two"
    arguments = [str(CONFIG), str(again), "--predictions", str(dump), "--hands", "1"]
    assert tool["main"](arguments) == 0
    for name in names:
        same = np.abs(cv2.imread(str(folder / name)).astype(int) - cv2.imread(str(again / name)))
        assert same.max() == 0, name

    assert tool["main"]([*arguments, "--mano", str(tmp_path / "none.pkl")]) == 1
    assert str(tmp_path / "none.pkl") in capsys.readouterr().err

    # The worst hand instead of the first.
    args = tool["parse_args"]([*arguments, "--worst"])
    collected = tool["CollectedErrors"]()
    for sample in samples:
        collected.add(tool["errors_of"](*tool["hands_of"](sample)))
    means = [sample.vertices_aligned.mean() for sample in collected.samples]
    assert tool["chosen_hands"](collected, args) == [int(np.argmax(means))]
    args.worst = False
    assert tool["chosen_hands"](collected, args) == [0]


def test_what_cannot_be_drawn_is_one_line(tool, data, tmp_path, capsys):
    missing = [str(CONFIG), str(tmp_path), "--predictions", str(tmp_path / "none.pkl")]
    assert tool["main"](missing) == 1
    assert capsys.readouterr().err == f"error: there is no file {tmp_path / 'none.pkl'}\n"
    dump = tmp_path / "dump.pkl"
    dump.write_bytes(pickle.dumps([]))
    assert tool["main"]([str(CONFIG), str(tmp_path), "--predictions", str(dump)]) == 1
    assert "no sample of" in capsys.readouterr().err
    dump.write_bytes(pickle.dumps([dict(img_path="x")]))
    assert tool["main"]([str(CONFIG), str(tmp_path), "--predictions", str(dump)]) == 1
    assert "error: a sample has no pred_instances" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool["main"]([*missing, "--limit", "0"])
