"""VM-UNet learns drawn lesions and organs, through the very commands that a user types."""

import pytest
from training_runs import CONFIGS, run_tool, train_and_test

pytest.importorskip("mmseg")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("kind", "classes"), [("lesions", 1), ("organs", 6)])
def test_held_out_drawings_are_segmented(kind, classes, tmp_path):
    """Dice above 0.85, of the mean and, where there is one class, of that."""
    data = tmp_path / "data"
    run_tool("dataset_converters/make_toy_medical", kind, data)
    config = CONFIGS / "mmseg" / "vm_unet" / f"vm-unet-nano_toy-{kind}-128x128.py"
    variable = f"MAMBA_MM_TOY_{kind.upper()}"
    metrics, _, pictures = train_and_test(config, tmp_path, **{variable: data})
    assert metrics["case/mDice"] > 85
    assert len([name for name in metrics if name.startswith("case/Dice_")]) == classes
    assert len(pictures) > 10
