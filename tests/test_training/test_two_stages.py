"""Hamba's two stages through MMPose's own runner, from the shipped configs."""

import os

import pytest
import torch
from processes import in_group
from training_runs import CONFIGS, run_script, run_tool

pytest.importorskip("mmpose")
pytest.importorskip("cv2")

HAMBA = CONFIGS / "mmpose" / "hamba"
FIRST = HAMBA / "hamba-jr_vmamba-nano_toy-hands-128x96.py"
SECOND = HAMBA / "hamba-stage2_vmamba-nano_toy-hands-128x96.py"
# Two iterations an epoch, of a narrower head.
SMALL = {
    "train_dataloader.batch_size": 4,
    "train_cfg.val_interval": 1,
    "default_hooks.logger.interval": 1,
    "model.head.embed_dims": 32,
    "model.head.jr.depth": 1,
}


def options(**others):
    return [f"{key}={value}" for key, value in (SMALL | others).items()]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hands")
    images = ("--train-images", 8, "--val-images", 4, "--image-size", 96)
    run_tool("dataset_converters/make_toy_hands", folder / "data", *images)
    return folder / "data"


@pytest.fixture(scope="module")
def first_stage(data, tmp_path_factory):
    """The checkpoint of the first stage, and what its training printed."""
    work = tmp_path_factory.mktemp("first")
    log = run_script(
        *("train", FIRST, "--work-dir", work),
        *("--cfg-options", *options(**{"train_cfg.max_epochs": 1})),
        MAMBA_MM_HANDS_DATA=data,
    )
    return work / "epoch_1.pth", log


def second_stage(work, data, epochs, *arguments, **others):
    return run_script(
        *("train", SECOND, "--work-dir", work, *arguments),
        *("--cfg-options", *options(**{"train_cfg.max_epochs": epochs}, **others)),
        MAMBA_MM_HANDS_DATA=data,
    )


def steps_of(checkpoint):
    """How many steps each optimiser has made, by its name."""
    return {
        name: {int(state["step"]) for state in optimiser["state"].values()}
        for name, optimiser in checkpoint["optimizer"].items()
    }


@pytest.mark.slow
def test_the_second_stage_goes_on_from_the_first_and_resumes(first_stage, data, tmp_path):
    checkpoint, log = first_stage
    assert "mesh/PA-MPJPE" in log
    assert "loss_jr" not in log
    before = torch.load(checkpoint, weights_only=False)["state_dict"]

    log = second_stage(tmp_path, data, 1, load_from=checkpoint)
    assert f"All {len(before)} tensors of the checkpoint are in the model" in log
    assert "head.ts.* (9), head.gss.* (52), head.gss_norm.* (2), " in log
    assert "head.read_out.* (8), prior.* (47)" in log
    assert "loss_jr_kpt3d" in log
    assert "discriminator/loss_real" in log
    assert "generator.lr" in log
    assert "discriminator.lr" in log
    assert "mesh/PA-MPVPE" in log
    after = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    assert steps_of(after) == dict(generator={2}, discriminator={2})
    # A few steps with a rate that warms up: the regressor is still nearly that of the first stage.
    weights = after["ema_state_dict"]
    for name in ("head.jr.norm.weight", "head.reduction.0.weight", "backbone.patch_embed.0.weight"):
        torch.testing.assert_close(weights[f"module.{name}"], before[name], rtol=0.01, atol=1e-3)
        assert not torch.equal(weights[f"module.{name}"], before[name])

    log = second_stage(tmp_path, data, 2, "--resume")
    assert "keep their initial values: none" in log
    assert "Epoch(train) [2][2/2]" in log
    assert "Epoch(train) [1]" not in log
    resumed = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    assert steps_of(resumed) == dict(generator={4}, discriminator={4})
    assert resumed["state_dict"]["prior.draws"] == 4


@pytest.mark.slow
def test_nothing_starts_from_nothing(data, tmp_path):
    with pytest.raises(AssertionError, match="Say which with load_from"):
        second_stage(tmp_path, data, 1, "--resume")


def train_second_stage(rank, folder, checkpoint, data):
    """What ``tools/train.py --launcher pytorch`` does, in a process that has joined another."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    os.environ |= dict(MAMBA_MM_HANDS_DATA=str(data), LOCAL_RANK=str(rank))
    config = Config.fromfile(SECOND)
    config.merge_from_dict(SMALL | {"train_cfg.max_epochs": 1})
    config.merge_from_dict(
        dict(work_dir=str(folder / "work"), launcher="pytorch", load_from=str(checkpoint))
    )
    config.train_dataloader.batch_size = 2
    runner = Runner.from_cfg(config)
    runner.train()
    weights = {name: p.detach() for name, p in runner.model.module.named_parameters()}
    draws = runner.model.module.prior.draw(3)[1]
    torch.save((type(runner.model).__name__, weights, draws), folder / f"{rank}.pth")


@pytest.mark.slow
@pytest.mark.skipif(torch.accelerator.is_available(), reason="about machines without a GPU")
def test_the_second_stage_in_two_processes(first_stage, data, tmp_path):
    checkpoint, _ = first_stage
    in_group(train_second_stage, tmp_path, checkpoint, data)
    (name, first, draws), (_, second, other_draws) = (
        torch.load(tmp_path / f"{rank}.pth") for rank in range(2)
    )
    assert name == "AdversarialDistributedDataParallel"
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not (draws == other_draws).any()
    saved = torch.load(tmp_path / "work" / "epoch_1.pth", weights_only=False)
    assert steps_of(saved) == dict(generator={2}, discriminator={2})
    assert not any("module." in name for name in saved["state_dict"])
