"""VM-UNet learns four photographs, through the very commands that a user types."""

import re

import pytest
from training_runs import CONFIGS, DATA_DIR, train_and_test

pytest.importorskip("mmseg")
cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.slow


@pytest.mark.skipif(
    not (DATA_DIR / "coco" / "semantic_person").is_dir(),
    reason=f"no person masks in {DATA_DIR}/coco/semantic_person; set MAMBA_MM_DATA_DIR",
)
def test_the_persons_of_four_photographs_are_learnt_by_heart(tmp_path):
    """Over 0.8 IoU, on average over the photographs and of all their pixels together."""
    config = CONFIGS / "mmseg" / "vm_unet" / "vm-unet-nano_coco-4-photos-160x160.py"
    metrics, printed, pictures = train_and_test(config, tmp_path, MAMBA_MM_DATA_DIR=DATA_DIR)
    assert metrics["case/IoU_person"] > 80
    (row,) = re.findall(r"\| +person +\| +([\d.]+) ", printed)  # of IoUMetric's table
    assert float(row) > 80
    assert len(pictures) == 4
    shapes = {cv2.imread(str(path)).shape for path in pictures}
    assert all(width >= 1000 for _, width, _ in shapes)  # ground truth and prediction, abreast
