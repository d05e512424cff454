"""VM-UNet learns, through the very commands that a user types."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmseg")
cv2 = pytest.importorskip("cv2")

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "mmseg" / "vm_unet"
DATA_DIR = Path(os.environ.get("MAMBA_MM_DATA_DIR", ROOT.parent / "shared" / "data"))

# Threads that wait busily are twenty times slower as soon as another process wants a core.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}

pytestmark = pytest.mark.slow


def run_tool(name, *arguments, **environment):
    """Run ``tools/NAME.py`` as a process; return what it printed."""
    command = [sys.executable, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | WAITING | {key: str(value) for key, value in environment.items()},
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


def train_and_test(config, folder, **environment):
    """Train, then test the last checkpoint.

    Returns:
        Its metrics, what the test printed, and the pictures.
    """
    run_tool("train", config, "--work-dir", folder / "train", **environment)
    checkpoint = (folder / "train" / "last_checkpoint").read_text().strip()
    pictures = folder / "pictures"
    printed = run_tool(
        *("test", config, checkpoint, "--work-dir", folder / "test", "--show-dir", pictures),
        **environment,
    )
    (metrics,) = (folder / "test").glob("*/*.json")
    return json.loads(metrics.read_text()), printed, sorted(pictures.rglob("*.png"))


@pytest.mark.skipif(
    not (DATA_DIR / "coco" / "semantic_person").is_dir(),
    reason=f"no person masks in {DATA_DIR}/coco/semantic_person; set MAMBA_MM_DATA_DIR",
)
@pytest.mark.parametrize(
    "name", ["vm-unet-nano_coco-4-photos-160x160", "vm-unet_coco-4-photos-128x128"]
)
def test_the_persons_of_four_photographs_are_learnt_by_heart(name, tmp_path):
    """Over 0.8 IoU, on average over the photographs and of all their pixels together."""
    metrics, printed, pictures = train_and_test(
        CONFIGS / f"{name}.py", tmp_path, MAMBA_MM_DATA_DIR=DATA_DIR
    )
    assert metrics["case/IoU_person"] > 80
    (row,) = re.findall(r"\| +person +\| +([\d.]+) ", printed)  # of IoUMetric's table
    assert float(row) > 80
    assert len(pictures) == 4
    shapes = {cv2.imread(str(path)).shape for path in pictures}
    assert all(width >= 1000 for _, width, _ in shapes)  # ground truth and prediction, abreast


@pytest.mark.parametrize(("kind", "classes"), [("lesions", 1), ("organs", 6)])
def test_held_out_drawings_are_segmented(kind, classes, tmp_path):
    """Dice above 0.85, of the mean and, where there is one class, of that."""
    data = tmp_path / "data"
    run_tool("dataset_converters/make_toy_medical", kind, data)
    config = CONFIGS / f"vm-unet-nano_toy-{kind}-128x128.py"
    variable = f"MAMBA_MM_TOY_{kind.upper()}"
    metrics, _, pictures = train_and_test(config, tmp_path, **{variable: data})
    assert metrics["case/mDice"] > 85
    assert len([name for name in metrics if name.startswith("case/Dice_")]) == classes
    assert len(pictures) > 10
