"""Ablations as a command, with a script that only pretends to train, and for once with MMPose's."""

import csv
import json
import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmpose")
pytest.importorskip("matplotlib")

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "analysis_tools"))

import ablate_hamba
from ablate_hamba import DATA_VARIABLE, RECIPE, main

from mamba_mm.ablation.variants import METRICS, VARIANTS

WORSE = {"full": 0.0, "no-gcn": 2.0, "no-mamba": 1.0}


class Pretender:
    """Logs a training's scalars as MMEngine would, unless the training is to fail.

    An error is 10 plus the seed plus what the variant is worse by, or infinite if it diverges.
    """

    def __init__(self, fails=(), diverges=()):
        self.fails, self.diverges, self.done, self.commands = fails, diverges, [], []

    def __call__(self, command, log):
        variant = log.parent.parent.name
        seed = int(command[command.index("--cfg-options") + 1].split("=")[1])
        self.done.append((variant, seed))
        self.commands.append(command)
        log.write_text(f"printed by {variant}\n")
        if (variant, seed) in self.fails:
            return 1
        value = 10.0 + seed + WORSE.get(variant, 0.0)
        if (variant, seed) in self.diverges:
            value = math.inf
        scalars = log.parent / "20260101_000000" / "vis_data" / "scalars.json"
        scalars.parent.mkdir(parents=True)
        lines = [dict(loss=3.0, time=0.5, iter=20, step=20)]
        lines.append({f"mesh/{metric}": value for metric in METRICS} | {"step": 1})
        scalars.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return 0


@pytest.fixture
def pictures(monkeypatch):
    """Where pictures were asked for; drawing itself takes long, and has tests of its own."""
    asked = []
    monkeypatch.setattr(ablate_hamba, "write_plot", lambda path, ablation: asked.append(path))
    return asked


@pytest.fixture
def ablate(tmp_path, monkeypatch, pictures):
    """Run the command on a tiny set of images, without building the models."""
    monkeypatch.setattr(ablate_hamba, "parameters_of", lambda config: 1234567)
    monkeypatch.setattr(ablate_hamba, "mean_hand_errors", lambda config: {"PA-MPJPE": 20.0})
    monkeypatch.setenv(DATA_VARIABLE, "set by the command")

    def run(launch, *arguments, images=1):
        return main(
            [
                *("--data", str(tmp_path / "data"), "--work-dir", str(tmp_path / "work")),
                *("--train-images", str(images), "--val-images", "1"),
                *map(str, arguments),
            ],
            launch,
        )

    return run


def differences(tmp_path):
    """Of the error, by variant: our mean difference, and the paper's."""
    with (tmp_path / "work/ablation.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "PA-MPJPE"]
    sources = ("ours, drawn hands", "paper, FreiHAND")
    return [
        {row["variant"]: row["difference"] for row in rows if row["source"] == source}
        for source in sources
    ]


def test_variants_are_trained_seed_by_seed_and_reported(ablate, pictures, tmp_path, capsys):
    script = Pretender()
    assert ablate(script, "--variants", "no-gcn", "no-mamba", "--seeds", 1, 4) == 0

    assert script.done == [
        *(("full", 1), ("no-gcn", 1), ("no-mamba", 1)),
        *(("full", 4), ("no-gcn", 4), ("no-mamba", 4)),
    ]
    assert (tmp_path / "data/annotations/toy_hands_val.json").is_file()
    assert pictures == [tmp_path / "work/ablation.png"]  # once, at the end
    ours, paper = differences(tmp_path)
    assert ours == {"full": "0.0", "no-gcn": "2.0", "no-mamba": "1.0"}
    assert paper == {"full": "0.0", "no-gcn": "0.7", "no-mamba": "0.7"}
    text = (tmp_path / "work/ablation.md").read_text()
    assert ("| no-gcn | 1 234 567 | 2 | 14.50 ± 2.12 | +2.00 ± 0.00 | worse | 7.3 | +0.7 |") in text
    printed = capsys.readouterr().out
    assert text in printed
    assert "no-gcn, seed 1: PA-MPJPE 13.000\n" in printed

    # Again, with a seed and a variant more: what is done stays.
    again = Pretender()
    assert ablate(again, "--variants", "no-gcn", "one-block", "--seeds", 1, 4, 5) == 0
    assert again.done == [
        *(("one-block", 1), ("one-block", 4)),
        *(("full", 5), ("no-gcn", 5), ("one-block", 5)),
    ]
    assert "9 trainings, 4 of them done before" in capsys.readouterr().out
    assert list(differences(tmp_path)[0]) == ["full", "no-gcn", "one-block"]


def test_the_commands_are_those_of_a_user(ablate):
    script = Pretender()
    options = ["optim_wrapper.optimizer.lr=0.5", "model.head.gss.use_gcn=True"]
    flags = ("--seeds", 4, "--epochs", 6, "--cfg-options", *options)
    assert ablate(script, "--variants", "no-gcn", *flags) == 0

    common = [
        *("train_cfg.max_epochs=6", "param_scheduler.1.T_max=6", "train_cfg.val_interval=6"),
        *options,
    ]
    full, no_gcn = script.commands
    assert full[1].endswith("tools/train.py")
    assert full[2] == str(RECIPE)
    assert "--resume" not in full
    assert full[full.index("--cfg-options") + 1 :] == ["randomness.seed=4", *common]
    # What the variant takes away does not come back by an option for all.
    assert no_gcn[-1] == "model.head.gss.use_gcn=False"


def test_a_variant_of_ones_own(ablate, tmp_path):
    script = Pretender()
    add = ("--add", "deep", "model.head.gss.ssm_depth=2", "--add", "wide", "model.head.x=1")
    assert ablate(script, "--variants", "--seeds", 0, *add) == 0
    assert script.done == [("full", 0), ("deep", 0), ("wide", 0)]
    assert script.commands[1][-1] == "model.head.gss.ssm_depth=2"
    recipe = json.loads((tmp_path / "work/deep/seed-0/recipe.json").read_text())
    assert recipe["model.head.gss.ssm_depth"] == "2"


def test_a_failed_training_is_named_and_the_others_are_kept(ablate, tmp_path, capsys):
    script = Pretender(fails=[("no-gcn", 0), ("full", 1)])
    assert ablate(script, "--variants", "no-gcn", "--seeds", 0, 1, 2) == 1

    assert len(script.done) == 6
    printed = capsys.readouterr().out
    assert f"failed. The end of {tmp_path}/work/no-gcn/seed-0/train.log:\nprinted by" in printed
    text = (tmp_path / "work/ablation.md").read_text()
    for name in ("no-gcn, seed 0", "full, seed 1"):
        assert f"{name}: the training failed, see its train.log." in text
    content = json.loads((tmp_path / "work/ablation.json").read_text())
    assert content["failed"] == ["no-gcn, seed 0", "full, seed 1"]
    full, no_gcn = content["variants"]
    assert list(full["ours, drawn hands"]) == ["0", "2"]
    assert no_gcn["minus_full"]["PA-MPJPE"]["by_seed"] == {"2": 2.0}

    # The same command tries those again that failed, and no other.
    again = Pretender()
    assert ablate(again, "--variants", "no-gcn", "--seeds", 0, 1, 2) == 0
    assert again.done == [("no-gcn", 0), ("full", 1)]
    assert "failed" not in (tmp_path / "work/ablation.md").read_text()


def test_a_metric_that_is_not_finite_counts_as_a_failure(ablate, tmp_path, capsys):
    script = Pretender(diverges=[("no-gcn", 1)])
    assert ablate(script, "--variants", "no-gcn", "--seeds", 0, 1) == 1
    assert "a metric is not finite: PA-MPJPE inf" in capsys.readouterr().out
    content = json.loads((tmp_path / "work/ablation.json").read_text())
    assert content["failed"] == ["no-gcn, seed 1"]
    assert content["variants"][1]["minus_full"]["PA-MPJPE"]["by_seed"] == {"0": 2.0}


def test_two_calls_do_not_train_in_one_folder(ablate, capsys):
    script, flags = Pretender(), ("--variants", "--seeds", 0)

    def meanwhile(command, log):
        assert ablate(script, *flags) == 2
        return script(command, log)

    assert ablate(meanwhile, *flags) == 0
    assert "another call still trains in" in capsys.readouterr().err
    assert script.done == [("full", 0)]


def test_an_interrupted_call_has_reported_what_was_done(ablate, tmp_path, capsys):
    script = Pretender()

    def interrupted(command, log):
        if len(script.done) == 3:
            raise KeyboardInterrupt
        return script(command, log)

    assert ablate(interrupted, "--variants", "no-gcn", "--seeds", 0, 1) == 130
    assert "the same command goes on" in capsys.readouterr().err
    variants = json.loads((tmp_path / "work/ablation.json").read_text())["variants"]
    assert [list(v["ours, drawn hands"]) for v in variants] == [["0", "1"], ["0"]]

    # The training that was cut short is done again from its start.
    assert ablate(script, "--variants", "no-gcn", "--seeds", 0, 1) == 0
    assert script.done[3:] == [("no-gcn", 1)]
    assert "--resume" not in script.commands[3]


def test_without_a_run_of_the_full_model_there_is_no_report(ablate, tmp_path):
    assert ablate(Pretender(fails=[("full", 0)]), "--variants", "no-gcn", "--seeds", 0) == 1
    assert not (tmp_path / "work/ablation.md").exists()


def test_other_images_or_another_recipe_need_another_folder(ablate, tmp_path, capsys):
    flags = ("--variants", "--seeds", 0)
    assert ablate(Pretender(), *flags) == 0
    assert ablate(Pretender(), *flags, "--epochs", 2) == 2
    assert "train_cfg.max_epochs: 3 / 2" in capsys.readouterr().err
    assert ablate(Pretender(), *flags, images=2) == 2
    assert "name another folder with --data" in capsys.readouterr().err
    (tmp_path / "data").rename(tmp_path / "moved")
    assert ablate(Pretender(), *flags, images=2) == 2
    assert '"train_images":1' in capsys.readouterr().err


def test_a_recipe_that_is_edited_meanwhile_stops_it(ablate, tmp_path, capsys):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"_base_ = {str(RECIPE)!r}\noptim_wrapper = dict(optimizer=dict(lr=1e-3))\n")
    script = Pretender()

    def edited(command, log):
        recipe.write_text(recipe.read_text().replace("1e-3", "1e-2"))
        return script(command, log)

    flags = ("--recipe", recipe, "--variants", "no-gcn", "--seeds", 0)
    assert ablate(edited, *flags) == 2
    assert script.done == [("full", 0)]
    assert "optim_wrapper.optimizer.lr: 0.001 / 0.01" in capsys.readouterr().err


def test_data_of_another_kind_gives_our_columns_another_name(ablate, tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "default_scope = 'mmpose'\ntrain_cfg = dict(max_iters=5)\n"
        "model = dict(head=dict(type='mamba_mm.HambaHead'))\n"
        "train_dataloader = dict(dataset=dict(type='mamba_mm.FreiHANDMeshDataset'))\n"
    )
    assert ablate(Pretender(), "--recipe", recipe, "--variants", "--seeds", 0) == 0
    assert not (tmp_path / "data").exists()
    text = (tmp_path / "work/ablation.md").read_text()
    assert "ours, mamba_mm.FreiHANDMeshDataset: PA-MPJPE, mm" in text
    assert "drawn hands" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "no-gcm"], "there is no variant 'no-gcm'; known: full"),
        (["--seeds", 1, 1], "seed 1 was given twice"),
        (["--jobs", 0], "at least 1 training"),
        (["--epochs", 0], "got 0"),
        (["--cfg-options", "lr"], "NAME=VALUE, got 'lr'"),
        (["--recipe", "nowhere.py"], "there is no config nowhere.py"),
        (["--recipe", RECIPE.with_name("mano_vmamba-nano_toy-hands-128x96.py")], "MANOHead"),
        (["--add", "mine"], "needs options"),
        (["--add", "a", "x=1", "--add", "a", "y=1"], "variant a was given twice"),
        (["--add", "same", "max_epochs=3"], "same changes nothing in this recipe"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(ablate, capsys, arguments, message):
    script = Pretender()
    assert ablate(script, *arguments) == 2
    assert message in capsys.readouterr().err
    assert script.done == []


def test_the_list(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [variant.name for variant in VARIANTS]


@pytest.mark.slow
def test_two_variants_and_two_seeds_through_mmpose(tmp_path, monkeypatch):
    """Real trainings of eight images each, which a second call does not repeat."""
    from training_runs import run_script

    monkeypatch.setenv(DATA_VARIABLE, "set by the command")
    trained = []

    def launch(command, log):
        trained.append(log.parent)
        log.write_text(run_script("train", *command[2:]))
        return 0

    def run():
        return main(
            [
                *("--variants", "no-graph-guided-bi-scan", "--seeds", "0", "1", "--epochs", "1"),
                *("--data", str(tmp_path / "data"), "--work-dir", str(tmp_path / "work")),
                *("--train-images", "8", "--val-images", "4"),
                *("--cfg-options", "default_hooks.logger.interval=1"),
            ],
            launch,
        )

    assert run() == 0
    assert run() == 0
    assert len(trained) == 4
    assert {path.name for path in (tmp_path / "work").iterdir()} == {
        *("full", "no-graph-guided-bi-scan"),
        *(".lock", "ablation.md", "ablation.csv", "ablation.json", "ablation.png"),
    }
    assert not list((tmp_path / "work").rglob("*.pth"))
    content = json.loads((tmp_path / "work/ablation.json").read_text())
    full, other = content["variants"]
    assert full["parameters"] - other["parameters"] == 347_856  # as by hand, in test_ablated_models
    assert 5 < content["mean_hand"]["PA-MPJPE"] < 40
    errors = [run["PA-MPJPE"] for v in (full, other) for run in v["ours, drawn hands"].values()]
    assert len(set(errors)) == 4
    assert all(5 < error < 100 for error in errors)
    # The first loss of the regressor, which both have: the same start and the same batch.
    logs = [next(folder.glob("*/vis_data/scalars.json")).read_text() for folder in trained]
    first = [json.loads(log.splitlines()[0])["loss_jr_kpt3d"] for log in logs]
    seed_0, other_0, seed_1, other_1 = first
    assert (seed_0, seed_1) == (other_0, other_1)
    assert seed_0 != seed_1
