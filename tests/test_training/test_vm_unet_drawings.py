"""VM-UNet learns drawn lesions and organs, through the very commands that a user types."""

import pytest
from training_runs import CONFIGS, run_tool, train_and_test

pytest.importorskip("mmseg")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "classes", "epochs"), [("lesions", 1, 3), ("organs", 6, 4)])
def test_held_out_drawings_are_segmented(kind, classes, epochs, tmp_path):
    """Dice above 0.85 on average; of one class after three of the four epochs."""
    data = tmp_path / "data"
    run_tool("dataset_converters/make_toy_medical", kind, data)
    config = CONFIGS / "mmseg" / "vm_unet" / f"vm-unet-nano_toy-{kind}-128x128.py"
    variable = f"MAMBA_MM_TOY_{kind.upper()}"
    schedule = ("max_epochs", "train_cfg.max_epochs", "train_cfg.val_interval")
    metrics, _, pictures = train_and_test(
        *(config, tmp_path, "--cfg-options", f"param_scheduler.1.T_max={epochs}"),
        *(f"{name}={epochs}" for name in schedule),
        **{variable: data},
    )
    assert metrics["case/mDice"] > 85
    assert len([name for name in metrics if name.startswith("case/Dice_")]) == classes
    assert len(pictures) > 10
