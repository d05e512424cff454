"""Shipped configs at a size that a test can train, and the training that each must stand."""

from __future__ import annotations

from mmengine.config import Config
from training_runs import run_script


def shrunken(path, numbers):
    """Read a shipped config and replace its integers, wherever they stand, as a table says.

    Args:
        path: The config.
        numbers: What becomes of which integer, of the model's widths, of the images' sizes...

    Returns:
        The config. It trains without pretrained weights, without mixed precision, which MMEngine
        has on accelerators alone, loads its data without further processes, and of its schedule
        keeps the warm-up.
    """
    cfg = Config(_replaced(Config.fromfile(path).to_dict(), numbers))
    cfg.model.backbone.arch = "nano"
    cfg.model.backbone.init_cfg = None
    if cfg.optim_wrapper.type == "AmpOptimWrapper":
        cfg.optim_wrapper.type = "OptimWrapper"
        del cfg.optim_wrapper["loss_scale"]
    cfg.param_scheduler = [s for s in cfg.param_scheduler if s.type == "LinearLR"]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2
    cfg.default_hooks.logger.interval = 1
    return cfg


def _replaced(value, numbers):
    if isinstance(value, dict):
        return {key: _replaced(item, numbers) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, numbers) for item in value)
    return numbers.get(value, value) if type(value) is int else value


def check_training(cfg, folder, metric, by_epoch=True):
    """Train through the toolbox's script, evaluate, and go on for as long again.

    Args:
        cfg: A config with two batches an epoch.
        folder: Where the config and the work folder go.
        metric: What the evaluation must print.
        by_epoch: Whether to train for an epoch and then another, or for two iterations and two
            more, as the config's loop is.
    """
    unit, name, step = ("epochs", "epoch", 1) if by_epoch else ("iters", "iter", 2)
    cfg.train_cfg.update(val_interval=step, **{f"max_{unit}": step})
    cfg.default_hooks.checkpoint.interval = step
    config, work = folder / "config.py", folder / "work"
    cfg.dump(config)

    first = run_script("train", config, "--work-dir", work)
    assert ("Epoch(train) [1][2/2]" if by_epoch else "Iter(train) [2/2]") in first
    assert metric in first
    assert (work / f"{name}_{step}.pth").is_file()

    longer = ("--resume", "--cfg-options", f"train_cfg.max_{unit}={2 * step}")
    resumed = run_script("train", config, "--work-dir", work, *longer)
    before, after = ("[1]", "[2][2/2]") if by_epoch else ("[2/4]", "[4/4]")
    assert f"(train) {before}" not in resumed
    assert f"(train) {after}" in resumed
    assert metric in resumed
    assert (work / f"{name}_{2 * step}.pth").is_file()
