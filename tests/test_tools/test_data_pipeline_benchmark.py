"""The benchmark of the data pipeline: where times are kept, and what is said of them."""

import runpy
import time
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.registry import DefaultScope

from mamba_mm.measuring.interleaved import Timing
from mamba_mm.measuring.transform_times import RECORD, TransformTimes

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "benchmarks" / "data_pipeline.py"
CONFIG = ROOT / "configs" / "mmpose" / "hamba" / "mano_vmamba-nano_toy-hands-128x96.py"


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(TOOL))


class Wait:
    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, results):
        time.sleep(self.seconds)
        return results


class Rest(Wait):
    pass


class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(number=i) for i in range(4)]

    def get_data_info(self, idx):
        time.sleep(0.004)
        return super().get_data_info(idx)


class TestTransformTimes:
    def test_each_step_has_its_time(self):
        dataset = Numbers(pipeline=[Wait(0.01), Rest(0.03), Wait(0.02)])
        times = TransformTimes(dataset)
        assert dataset[1]["number"] == 1
        assert dataset[2]["number"] == 2
        assert list(times.seconds) == [RECORD, "Wait", "Rest", "Wait 2"]
        found = np.array(list(times.seconds.values()))
        assert (found >= 2 * np.array([0.004, 0.01, 0.03, 0.02])).all()
        times.reset()
        assert set(times.seconds.values()) == {0.0}

    def test_combined_sets_are_taken_apart(self):
        parts = [Numbers(pipeline=[Wait(0.01)]), Numbers(pipeline=[Wait(0.01), Rest(0.02)])]
        both = ConcatDataset(parts, lazy_init=False)
        times = TransformTimes(both)
        assert [both[i]["number"] for i in (0, 5)] == [0, 1]
        assert list(times.seconds) == [RECORD, "Wait", "Rest"]
        assert times.seconds["Wait"] >= 0.02
        assert 0.02 <= times.seconds["Rest"] < times.seconds["Rest"] + times.seconds["Wait"]
        assert times.seconds[RECORD] >= 0.008


def test_batches_go_round_and_shares_add_up(tool):
    batches = tool["Batches"](Numbers(pipeline=[Wait(0.01)]), 3, list, seed=0)
    seen = []
    for _ in range(4):
        batches.make()
        seen += [sample["number"] for sample in batches.last]
    assert sorted(seen[:4]) == [0, 1, 2, 3]
    assert seen == seen[:4] * 3
    for shares in batches.shares:
        assert list(shares) == [RECORD, "Wait", "collating and all else"]
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["Wait"] > shares[RECORD] > 0.1


class TestVerdict:
    @staticmethod
    def timings(batch, step):
        return dict(batch=Timing(batch), step=Timing(step))

    def test_enough_workers(self, tool):
        text = tool["verdict"](self.timings([3.0, 2.0, 4.0], [1.0, 1.0, 1.0]), 8, 4)
        assert "pipeline in one process 2.7, training step 8.0" in text
        assert "takes 3 (2.5 to 3.5) of the time of a step" in text
        assert "a quarter to spare: 4. The config has 4: the data pipeline is not" in text

    def test_too_few(self, tool):
        text = tool["verdict"](self.timings([8.0] * 2, [2.0] * 2), 8, 4)
        assert text.endswith("The config has 4: the training waits for data; set num_workers=5")

    def test_in_the_training_process(self, tool):
        text = tool["verdict"](self.timings([0.1] * 2, [1.0] * 2), 8, 0)
        assert "needed, with a quarter to spare: 1" in text
        assert text.endswith("makes every step 10% longer.")

    def test_ratios_are_those_of_turns_side_by_side(self, tool):
        """A machine that gets slower changes both."""
        text = tool["verdict"](self.timings([1.0, 10.0, 100.0], [2.0, 20.0, 200.0]), 8, 1)
        assert "takes 0.5 (0.5 to 0.5)" in text


@pytest.fixture(scope="module")
def toy_hands(tmp_path_factory):
    pytest.importorskip("mmpose")
    from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands

    data = tmp_path_factory.mktemp("hands")
    config = ToyHandsConfig(train_images=4, val_images=1, image_size=96)
    write_toy_hands(data, config, report=lambda line: None)
    return data


def test_a_config_from_end_to_end(tool, toy_hands, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAMBA_MM_HANDS_DATA", str(toy_hands))
    out = tmp_path / "report.md"
    with DefaultScope.overwrite_default_scope("mmpose"):
        arguments = [str(CONFIG), "--batch", "2", "--rounds", "2", "--out", str(out)]
        options = ["--cfg-options", "train_dataloader.num_workers=3"]
        status = tool["main"]([*arguments, *options])
    assert status == 0
    printed = capsys.readouterr().out
    assert out.read_text() in printed
    lines = out.read_text().splitlines()
    assert lines[0].endswith("batches of 2, 2 turns")
    names = [line.split("|")[1].strip() for line in lines if line.startswith("|")][2:]
    assert names[:3] == ["the record", "LoadImage", "GetBBoxCenterScale"]
    assert names[-3:] == ["GenerateTarget", "PackPoseInputs", "collating and all else"]
    assert "The config has 3: the data pipeline is not the bottleneck." in lines[-1]


def test_the_pipeline_alone_and_no_pipeline(tool, toy_hands, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MAMBA_MM_HANDS_DATA", str(toy_hands))
    with DefaultScope.overwrite_default_scope("mmpose"):
        assert tool["main"]([str(CONFIG), "--batch", "2", "--rounds", "2", "--no-step"]) == 0
    assert "training step" not in capsys.readouterr().out
    (tmp_path / "empty.py").write_text("model = dict()\n")
    assert tool["main"]([str(tmp_path / "empty.py")]) == 1
    assert "has no train_dataloader" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool["main"]([str(CONFIG), "--rounds", "1"])
