"""VM-UNet learns drawn lesions and organs, through the very commands that a user types."""

import pytest
from training_runs import CONFIGS, FUSED, run_script, run_tool, train_and_test

pytest.importorskip("mmseg")

pytestmark = pytest.mark.slow


# Fewer epochs than the configs have. Lesions reach 88 in one, with two seeds. Organs, for which
# smaller batches make up for some, vary from 74 to 82 with the seed.
@pytest.mark.parametrize(
    ("kind", "classes", "epochs", "batch", "least_dice"),
    [("lesions", 1, 1, 8, 75), ("organs", 6, 2, 4, 60)],
)
def test_held_out_drawings_are_segmented(kind, classes, epochs, batch, least_dice, tmp_path):
    data = tmp_path / "data"
    run_tool("dataset_converters/make_toy_medical", kind, data, "--val-images", 40)
    config = CONFIGS / "mmseg" / "vm_unet" / f"vm-unet-nano_toy-{kind}-128x128.py"
    variable = f"MAMBA_MM_TOY_{kind.upper()}"
    schedule = ("max_epochs", "train_cfg.max_epochs", "train_cfg.val_interval")
    metrics, _, pictures = train_and_test(
        *(config, tmp_path, "--cfg-options", FUSED, f"param_scheduler.1.T_max={epochs}"),
        *(f"{name}={epochs}" for name in schedule),
        f"train_dataloader.batch_size={batch}",
        run=run_script,
        **{variable: data},
    )
    assert metrics["case/mDice"] > least_dice
    assert len([name for name in metrics if name.startswith("case/Dice_")]) == classes
    assert len(pictures) > 10
