"""Hamba through MMPose's own runner, by the commands that a user types."""

import pytest
from training_runs import CONFIGS, DATA_DIR, run_script, run_tool, sooner, train_and_test

pytest.importorskip("mmpose")
cv2 = pytest.importorskip("cv2")

HAMBA = CONFIGS / "mmpose" / "hamba"
TOY_CONFIG = HAMBA / "hamba_vmamba-nano_toy-hands-128x96.py"


def test_train_and_compare_with_the_mean_pose(tmp_path):
    data, work = tmp_path / "data", tmp_path / "work"
    images = ("--train-images", 8, "--val-images", 4, "--image-size", 96)
    run_tool("dataset_converters/make_toy_hands", data, *images)
    log = run_script(
        *("train", TOY_CONFIG, "--work-dir", work),
        *("--cfg-options", "train_dataloader.batch_size=4", "default_hooks.logger.interval=1"),
        *("train_cfg.max_epochs=1", "train_cfg.val_interval=1"),
        MAMBA_MM_HANDS_DATA=data,
    )
    assert "Epoch(train) [1][2/2]" in log
    assert "mesh/PA-MPVPE" in log

    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text(log)
    table = run_tool(
        *("analysis_tools/mean_pose_errors", TOY_CONFIG, "--evaluation", evaluation),
        MAMBA_MM_HANDS_DATA=data,
    )
    assert "| the mean hand of the training set |" in table
    assert table.count("below)") == 4


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA_DIR / "rhd" / "test_rhd.json").is_file(),
    reason=f"no images of RHD in {DATA_DIR}/rhd; set MAMBA_MM_DATA_DIR",
)
def test_three_hands_of_rhd_are_learnt_by_heart(tmp_path):
    """Joints within 6 mm of the truth relative to the wrist, and within 4 pixels of 320.

    After 200 iterations they are within 4 mm and 2.2 pixels, after the config's 300 within 3.3.
    """
    config = HAMBA / "hamba_vmamba-nano_rhd-3-photos-128x96.py"
    metrics, _, pictures = train_and_test(
        config, tmp_path, *sooner(250), run=run_script, MAMBA_MM_DATA_DIR=DATA_DIR
    )
    assert metrics["mesh/MPJPE"] < 6
    assert metrics["EPE"] < 4
    assert len(pictures) == 3
