"""Vim through MMPretrain's own runner, by the commands that a user types."""

import numpy as np
import pytest
from training_runs import ROOT, run_script

pytest.importorskip("mmpretrain")
cv2 = pytest.importorskip("cv2")

CONFIG = """
_base_ = "{root}/configs/_base_/vim/in1k.py"
model = dict(
    backbone=dict(arch="nano", img_size=(48, 64), drop_path_rate=0.1),
    head=dict(num_classes=2, in_channels=64, loss=dict(num_classes=2)),
    train_cfg=None,
)
data_preprocessor = dict(num_classes=2)
train_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
train_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CustomDataset", data_root="{data}", pipeline=train_pipeline),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", data_root="{data}", pipeline=train_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator
param_scheduler = []
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""


def write_images(folder):
    """Eight noisy images of two colours, in a folder a class."""
    random = np.random.RandomState(0)
    for label in range(2):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(4):
            image = random.randint(0, 120, (48, 64, 3)).astype(np.uint8)
            image[..., label] += 120
            cv2.imwrite(str(folder / f"class{label}" / f"{i}.png"), image)


def prepare(folder):
    """Images and a config below a folder; return the config and the work folder."""
    data, config = folder / "data", folder / "config.py"
    write_images(data)
    config.write_text(CONFIG.format(root=ROOT, data=data))
    return config, folder / "work"


def test_train_and_validate(tmp_path):
    config, work = prepare(tmp_path)
    log = run_script("train", config, "--work-dir", work)
    assert "Epoch(train) [1][2/2]" in log
    assert "accuracy/top1" in log
    assert (work / "epoch_1.pth").is_file()


@pytest.mark.slow
def test_resume_and_test(tmp_path):
    config, work = prepare(tmp_path)
    run_script("train", config, "--work-dir", work)
    resumed = run_script(
        *("train", config, "--work-dir", work, "--resume"),
        *("--cfg-options", "train_cfg.max_epochs=2"),
    )
    assert "Epoch(train) [1]" not in resumed
    assert "Epoch(train) [2][2/2]" in resumed
    tested = run_script("test", config, work / "epoch_2.pth", "--work-dir", work)
    assert "accuracy/top1" in tested
