"""A detector is trained and evaluated through the very commands that a user types."""

import pytest
from training_runs import CONFIGS, DATA_DIR, FUSED, run_script, run_tool, train_and_test

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")

SHAPES_CONFIG = CONFIGS / "mmdet" / "vmamba" / "rtmdet-ins_vmamba-nano_fpn_shapes.py"
PHOTOS_CONFIG = CONFIGS / "mmdet" / "vmamba" / "rtmdet-ins_vmamba-nano_fpn_coco-4-photos.py"


def test_train_resume_and_test_through_the_tools(tmp_path):
    from mamba_mm.datasets.shapes import ShapesConfig, write_shapes_coco

    data, work = tmp_path / "shapes", tmp_path / "work"
    drawn = ShapesConfig(train_images=4, val_images=2, height=64, width=64)
    write_shapes_coco(data, drawn, report=lambda line: None)
    small = (
        *("--cfg-options", "train_dataloader.batch_size=2"),
        *("train_dataloader.num_workers=0", "train_dataloader.persistent_workers=False"),
        *("val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"),
        *("test_dataloader.num_workers=0", "test_dataloader.persistent_workers=False"),
        "default_hooks.logger.interval=1",
        # After four steps no score passes the threshold, and no detection means no AP.
        "model.test_cfg.score_thr=0.0",
    )

    first = run_tool(
        *("train", SHAPES_CONFIG, "--work-dir", work, *small, "train_cfg.max_epochs=1"),
        MAMBA_MM_DEMO_DATA=data,
    )
    assert "Epoch(train) [1][2/2]" in first
    assert (work / "epoch_1.pth").is_file()

    # Once the command itself has run, what it runs will do: that is three times as fast.
    second = run_script(
        *("train", SHAPES_CONFIG, "--work-dir", work, "--resume", *small),
        "train_cfg.max_epochs=2",
        MAMBA_MM_DEMO_DATA=data,
    )
    assert "Epoch(train) [1]" not in second
    assert "Epoch(train) [2][2/2]" in second
    assert "coco/bbox_mAP" in second

    evaluated = run_script(
        *("test", SHAPES_CONFIG, work / "epoch_2.pth", "--work-dir", work, *small),
        MAMBA_MM_DEMO_DATA=data,
    )
    assert "coco/bbox_mAP" in evaluated
    assert "coco/segm_mAP" in evaluated


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA_DIR / "coco" / "test_coco.json").is_file(),
    reason=f"no photographs in {DATA_DIR}/coco; set MAMBA_MM_DATA_DIR",
)
def test_four_photographs_are_learnt_by_heart(tmp_path):
    """All fourteen persons, the tiny ones included: box AP 60 and more, AP50 85 and more."""
    metrics, _, pictures = train_and_test(
        PHOTOS_CONFIG,
        tmp_path,
        "--cfg-options",
        FUSED,
        run=run_script,
        MAMBA_MM_DATA_DIR=DATA_DIR,
    )
    assert metrics["coco/bbox_mAP"] >= 0.6
    assert metrics["coco/bbox_mAP_50"] >= 0.85
    assert metrics["coco/segm_mAP_50"] >= 0.5
    assert len(pictures) == 4
