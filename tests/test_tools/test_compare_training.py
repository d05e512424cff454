"""Comparing trainings as a command, with a script that only pretends to train."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")
pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "analysis_tools"))

import compare_training
from compare_training import DATA_VARIABLE, READY_MADE, main

OURS, THEIRS = (path.stem for path in READY_MADE)
METRIC = "coco/bbox_mAP"


class Pretender:
    """Logs a training's scalars as MMEngine would, unless the training is to fail.

    A metric is 0.1 times the seed plus 0.25 for ours.
    """

    def __init__(self, fails=(), metric=METRIC):
        self.fails, self.metric, self.done = fails, metric, []

    def __call__(self, command, log):
        config, seed = Path(command[2]).stem, int(command[command.index("--cfg-options") + 1][-1])
        self.done.append((config, seed))
        log.write_text(f"printed by {config}\n")
        if (config, seed) in self.fails:
            return 1
        value = 0.1 * seed + 0.25 * (config == OURS)
        scalars = log.parent / "20260101_000000" / "vis_data" / "scalars.json"
        scalars.parent.mkdir(parents=True)
        lines = [dict(loss=3.0, time=0.5, iter=20, step=20), {self.metric: value, "step": 1}]
        scalars.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return 0


@pytest.fixture
def pictures(monkeypatch):
    """What was asked to be drawn; drawing itself takes long, and has tests of its own."""
    asked = []
    monkeypatch.setattr(compare_training, "write_plot", lambda *arguments: asked.append(arguments))
    return asked


@pytest.fixture
def compare(tmp_path, monkeypatch, pictures):
    """Run the command on a tiny set of images, without building the models."""
    counts = iter(range(1, 1000))
    monkeypatch.setattr(compare_training, "parameters_of", lambda config: (next(counts), 1, True))
    monkeypatch.setenv(DATA_VARIABLE, "set by the command")

    def run(launch, *arguments, images=1):
        return main(
            [
                *("--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")),
                *("--train-images", str(images), "--val-images", "1"),
                *map(str, arguments),
            ],
            launch,
        )

    return run


def test_the_ready_made_pair_is_trained_in_turns_and_reported(compare, pictures, tmp_path, capsys):
    script = Pretender()
    assert compare(script, "--seeds", 1, 2) == 0

    assert script.done == [(OURS, 1), (THEIRS, 1), (OURS, 2), (THEIRS, 2)]
    assert (tmp_path / "data/annotations/instances_val.json").is_file()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(".lock", "curves.csv", "curves.json", "summary.md"),
        *(OURS, THEIRS),
    }
    path, compared, *settings = pictures[-1]
    assert path == tmp_path / "out/curves.png"
    assert [model.name for model in compared] == ["vmamba-nano", "resnet18-w24"]
    assert settings == [METRIC, 5, 20, "epoch"]
    text = (tmp_path / "out/summary.md").read_text()
    assert "| vmamba-nano | 0.00 M | 0.00 M | 0.400 ± 0.071 | 0.400 ± 0.071 | 2 | 1.00 |" in text
    assert "| resnet18-w24 | 0.00 M | 0.00 M | 0.150 ± 0.071 |" in text
    printed = capsys.readouterr().out
    assert text in printed
    assert "\n[1/4] vmamba-nano, seed 1: coco/bbox_mAP 0.350 at epoch 1, 0 s\n[2/4] " in printed

    # Again, with a seed more: what is done stays.
    again = Pretender()
    assert compare(again, "--seeds", 1, 2, 3) == 0
    assert again.done == [(OURS, 3), (THEIRS, 3)]
    assert capsys.readouterr().out.count("done before") == 4


def test_every_epoch_is_validated_and_the_own_options_come_last(compare, tmp_path):
    commands = []

    def launch(command, log):
        commands.append(command)
        return Pretender()(command, log)

    options = ["train_cfg.val_interval=2", "optim_wrapper.optimizer.lr=0.5"]
    assert compare(launch, "--seeds", 4, "--epochs", 3, "--cfg-options", *options) == 0

    for command in commands:
        assert command[1].endswith("tools/train.py")
        assert command[command.index("--cfg-options") + 1 :] == [
            *("randomness.seed=4", "train_cfg.val_interval=1", "train_cfg.max_epochs=3"),
            *("param_scheduler.1.T_max=3", *options),
        ]
    recipe = json.loads((tmp_path / "out" / OURS / "seed-4" / "recipe.json").read_text())
    assert recipe["optim_wrapper.optimizer.lr"] == "0.5"
    assert recipe["train_cfg.val_interval"] == "2"


def test_a_failed_training_is_shown_and_the_others_go_on(compare, tmp_path, capsys):
    script = Pretender(fails=[(OURS, 0), (THEIRS, 1)])
    assert compare(script, "--seeds", 0, 1) == 1

    assert len(script.done) == 4
    printed = capsys.readouterr().out
    assert f"failed. The end of {tmp_path}/out/{OURS}/seed-0/train.log:" in printed
    assert f"printed by {OURS}" in printed
    text = (tmp_path / "out/summary.md").read_text()
    assert "| vmamba-nano | 0.00 M | 0.00 M | 0.350 |" in text  # of seed 1 alone
    for name, seed in (("vmamba-nano", 0), ("resnet18-w24", 1)):  # the very last one, too
        assert f"{name}, seed {seed}: the training failed" in text


def test_an_interrupted_call_has_reported_what_was_done(compare, tmp_path, capsys):
    script = Pretender()

    def interrupted(command, log):
        if len(script.done) == 3:
            raise KeyboardInterrupt
        return script(command, log)

    assert compare(interrupted, "--seeds", 0, 1) == 130
    assert "the same command goes on" in capsys.readouterr().err
    models = json.loads((tmp_path / "out/curves.json").read_text())["models"]
    assert [list(model["runs"]) for model in models] == [["0", "1"], ["0"]]


@pytest.fixture
def other_rate(tmp_path):
    path = tmp_path / "rtmdet-ins_other-rate_fpn_shapes.py"
    path.write_text(
        f"_base_ = {str(READY_MADE[1])!r}\noptim_wrapper = dict(optimizer=dict(lr=1e-3))\n"
    )
    return path


def test_unequal_recipes_are_refused_by_name(compare, other_rate, tmp_path, capsys):
    script = Pretender()
    assert compare(script, READY_MADE[0], other_rate) == 2

    assert script.done == []
    assert "  optim_wrapper.optimizer.lr: 0.002 / 0.001\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_edited_meanwhile_stops_the_comparison(
    compare, other_rate, tmp_path, capsys
):
    script = Pretender()

    def edited(command, log):
        other_rate.write_text(other_rate.read_text().replace("1e-3", "1e-2"))
        return script(command, log)

    assert compare(edited, other_rate, "--seeds", 0, 1) == 2
    assert len(script.done) == 1
    assert "optim_wrapper.optimizer.lr: 0.001 / 0.01" in capsys.readouterr().err
    assert (tmp_path / "out/summary.md").is_file()


def test_allowed_differences_are_in_the_summary(compare, other_rate, tmp_path):
    flags = ("--allow-differences", "--seeds", 0)
    assert compare(Pretender(), READY_MADE[0], other_rate, *flags) == 0
    text = (tmp_path / "out/summary.md").read_text()
    assert "optim_wrapper.optimizer.lr: 0.002 / 0.001" in text
    assert "were the same" not in text


def test_other_images_or_another_recipe_need_another_folder(compare, tmp_path, capsys):
    assert compare(Pretender(), "--seeds", 0) == 0
    assert compare(Pretender(), "--seeds", 0, "--epochs", 2) == 2
    assert "train_cfg.max_epochs: 7 / 2" in capsys.readouterr().err

    assert compare(Pretender(), "--seeds", 0, images=2) == 2
    assert "--data FOLDER" in capsys.readouterr().err
    (tmp_path / "data").rename(tmp_path / "moved")
    assert compare(Pretender(), "--seeds", 0, images=2) == 2
    assert '"train_images":1' in capsys.readouterr().err


def test_a_metric_that_nothing_logs_is_named_with_those_there_are(compare, capsys):
    script = Pretender(metric="coco/segm_mAP")
    assert compare(script, "--seeds", 0, 1) == 2
    assert f"no validation logged {METRIC}; --metric may be one of coco/segm_mAP" in (
        capsys.readouterr().err
    )
    assert len(script.done) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "there is no config nowhere.py"),
        (["--seeds", 1, 1], "seed 1 was given twice"),
        ([READY_MADE[0], READY_MADE[0]], "was given twice"),
        (["--cfg-options", "lr"], "NAME=VALUE, got 'lr'"),
        (["--epochs", 0], "got 0"),
        (["--smoothing", 2], "odd number"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(compare, capsys, arguments, message):
    script = Pretender()
    assert compare(script, *arguments) == 2
    assert message in capsys.readouterr().err
    assert script.done == []


def test_images_that_no_config_reads_are_not_drawn(compare, tmp_path):
    config = tmp_path / "own.py"
    config.write_text("default_scope = 'mmdet'\nmodel = dict()\ntrain_cfg = dict(max_iters=5)\n")
    assert compare(Pretender(), config, "--seeds", 0) == 0
    assert not (tmp_path / "data").exists()
