"""The comparison of trainings as a user runs it: real trainings of a real pair, tiny."""

import json
import sys
from pathlib import Path

import pytest
from training_runs import ROOT, run_script

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")
pytest.importorskip("matplotlib")

sys.path.insert(0, str(ROOT / "tools" / "analysis_tools"))

from compare_training import DATA_VARIABLE, READY_MADE, TRAIN_SCRIPT, main

from mamba_mm.measuring.repeated_training import run_logged

SMALL = (
    *("train_dataloader.batch_size=2", "default_hooks.logger.interval=1"),
    *(f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")),
    *(f"{split}_dataloader.persistent_workers=False" for split in ("train", "val", "test")),
    # After two steps no score passes the threshold, and no detection means no AP.
    "model.test_cfg.score_thr=0.0",
)


class Launcher:
    """Runs the first command as a process, as the tool does, and the others in forks."""

    def __init__(self):
        self.commands = []

    def __call__(self, command, log):
        self.commands.append(command)
        if len(self.commands) == 1:
            return run_logged(command, log)
        assert Path(command[1]) == TRAIN_SCRIPT
        log.write_text(run_script("train", *command[2:]))
        return 0


@pytest.mark.slow
def test_a_pair_is_trained_with_two_seeds_and_compared(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_VARIABLE, "set by the command")
    out, launch = tmp_path / "out", Launcher()
    arguments = [
        *("--data", str(tmp_path / "data"), "--out", str(out), "--epochs", "1"),
        *("--train-images", "4", "--val-images", "2", "--seeds", "0", "1"),
        *("--cfg-options", *SMALL),
    ]
    assert main(arguments, launch) == 0
    assert len(launch.commands) == 4

    content = json.loads((out / "curves.json").read_text())
    parameters = {model["name"]: model["parameters"] for model in content["models"]}
    assert parameters == {"vmamba-nano": 1_873_089, "resnet18-w24": 1_939_097}
    for model in content["models"]:
        assert model["over_seeds"]["loss"]["runs"] == [2, 2]
        assert model["over_seeds"]["coco/bbox_mAP"]["step"] == [1]
        first, second = (model["runs"][seed]["loss"] for seed in ("0", "1"))
        assert first != second  # the seed arrived
    assert (out / "curves.png").is_file()
    assert "were the same" in (out / "summary.md").read_text()
    for config in READY_MADE:
        assert (out / config.stem / "seed-1" / "epoch_1.pth").is_file()

    assert main(arguments, launch) == 0
    assert len(launch.commands) == 4
