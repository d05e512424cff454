"""ImageNet configs through MMPretrain's own runner."""

import numpy as np
import pytest
from shrunken_configs import check_training, shrunken
from training_runs import CONFIGS

pytest.importorskip("mmpretrain")
cv2 = pytest.importorskip("cv2")

# Classes, widths of the head's input, images and their resized short sides.
SMALLER = {1000: 2, 768: 256, 192: 64, 224: 48, 256: 56}


def write_images(folder):
    """Eight noisy images of two colours, in a folder a class."""
    random = np.random.RandomState(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(4):
            image = random.randint(0, 120, (48, 64, 3)).astype(np.uint8)
            image[..., label] += 120
            cv2.imwrite(str(folder / f"class{label}" / f"{i}.png"), image)


def classifier(name, data):
    """A shipped config on the images of a folder."""
    cfg = shrunken(CONFIGS / "mmpretrain" / name, SMALLER)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        pipeline = loader.dataset.pipeline
        loader.dataset = dict(type="CustomDataset", data_root=str(data), pipeline=pipeline)
    cfg.train_dataloader.batch_size = 4
    cfg.val_evaluator.topk = cfg.test_evaluator.topk = (1,)
    return cfg


@pytest.mark.parametrize(
    "name",
    [
        "vmamba/vmamba-tiny-s1l8_8xb128_in1k.py",
        pytest.param("vim/vim-tiny_8xb128_in1k.py", marks=pytest.mark.slow),
    ],
)
def test_train_evaluate_and_resume(name, tmp_path):
    data = tmp_path / "data"
    write_images(data)
    cfg = classifier(name, data)
    check_training(cfg, tmp_path, "accuracy/top1")
