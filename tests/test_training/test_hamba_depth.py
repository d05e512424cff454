"""Hamba with depth as a fourth channel, through MMPose's own runner."""

import pytest
import torch
from training_runs import CONFIGS, run_script

pytest.importorskip("mmpose")
pytest.importorskip("cv2")

from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands

HAMBA = CONFIGS / "mmpose" / "hamba"
COLOURS = HAMBA / "hamba_vmamba-nano_toy-hands-128x96.py"
DEPTH = HAMBA / "hamba_vmamba-nano_toy-hands-rgbd-128x96.py"
SHORT = ("train_dataloader.batch_size=4", "default_hooks.logger.interval=1")
SHORT += ("train_cfg.max_epochs=1", "train_cfg.val_interval=1")


@pytest.mark.slow
def test_depth_is_learnt_from_where_the_colours_ended(tmp_path):
    """From a whole checkpoint without depth, by ``load_from``; training moves the new weights."""
    data = tmp_path / "data"
    write_toy_hands(data, ToyHandsConfig(8, 4, image_size=96), report=lambda line: None)
    config = tmp_path / "rgbd.py"
    config.write_text(
        f"_base_ = {str(DEPTH)!r}\n"
        "model = dict(backbone=dict(_delete_=True, type='mamba_mm.ExtendedInputBackbone',\n"
        "    backbone=dict(type='mamba_mm.VMamba', arch=dict(base='nano', norm='bn'),\n"
        "        out_indices=(2,))))\n"
    )
    colours, depth = tmp_path / "colours", tmp_path / "depth"
    for path, work, *options in (
        (COLOURS, colours),
        (config, depth, f"load_from={colours / 'epoch_1.pth'}"),
    ):
        log = run_script(
            *("train", path, "--work-dir", work, "--cfg-options", *SHORT, *options),
            MAMBA_MM_HANDS_DATA=data,
        )
        assert "mesh/PA-MPVPE" in log
        assert "do not match" not in log
    before, after = (
        torch.load(work / "epoch_1.pth", weights_only=False)["state_dict"]
        for work in (colours, depth)
    )
    assert before.keys() == after.keys()
    weight = "backbone.patch_embed.0.weight"
    assert (before[weight].shape[1], after[weight].shape[1]) == (3, 4)
    moved = (after[weight][:, :3] - before[weight]).abs().mean()
    assert 0 < after[weight][:, 3].abs().mean() < 5 * moved
