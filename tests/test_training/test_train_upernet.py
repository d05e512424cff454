"""UPerNet through MMSegmentation's own runner, on drawings laid out as ADE20K."""

import numpy as np
import pytest
from training_runs import CONFIGS, run_script

pytest.importorskip("mmseg")
cv2 = pytest.importorskip("cv2")

VMAMBA = CONFIGS / "mmseg" / "vmamba" / "vmamba-t-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"
VIM = CONFIGS / "mmseg" / "vim" / "vim-t-in1k-pre_upernet_4xb8-60k_ade20k-512x512.py"

# The shipped configs with fewer channels, pixels, images and iterations.
SMALL = (
    *("model.backbone.arch=nano", "model.backbone.init_cfg=None"),
    *("model.data_preprocessor.size=(64,64)", "model.decode_head.channels=16"),
    *("train_dataloader.batch_size=2", "train_dataloader.num_workers=0"),
    *("train_dataloader.persistent_workers=False", "train_cfg.val_interval=2"),
    *("train_dataloader.dataset.pipeline.2.scale=(256,64)",),
    *("train_dataloader.dataset.pipeline.3.crop_size=(64,64)",),
    *("val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False"),
    *("val_dataloader.dataset.pipeline.1.scale=(256,64)",),
    *("default_hooks.logger.interval=1", "default_hooks.checkpoint.interval=2"),
)
SMALL_VMAMBA = (
    *SMALL,
    *("model.decode_head.in_channels=[32,64,128,256]", "model.auxiliary_head.in_channels=128"),
)
SMALL_VIM = (
    *SMALL,
    *("model.backbone.img_size=64", "model.backbone.out_indices=[0,1,2,3]"),
    *("model.neck.in_channels=64", "model.decode_head.in_channels=[64,64,64,64]"),
    *("model.auxiliary_head.in_channels=64",),
    *("model.test_cfg.crop_size=(64,64)", "model.test_cfg.stride=(43,43)"),
)


SPLITS = ("train", "val", "test")


def write_ade20k(folder):
    """Draw discs and bars in ADE20K's folders; a label is a class plus 1, and 0 is ignored."""
    random = np.random.default_rng(0)
    for split, count in (("training", 4), ("validation", 2)):
        images, labels = folder / "images" / split, folder / "annotations" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            label = np.ones((70, 90), np.uint8)
            cv2.circle(label, tuple(random.integers(20, 60, 2).tolist()), 15, 3, -1)
            cv2.rectangle(label, (5, 5), (85, 12), 150, -1)
            label[:3] = 0
            image = 40 + 60 * (label == 3)[..., None] + 150 * (label == 150)[..., None]
            noisy = image + random.integers(0, 40, (70, 90, 3))
            cv2.imwrite(str(images / f"ADE_{i}.jpg"), noisy.astype(np.uint8))
            cv2.imwrite(str(labels / f"ADE_{i}.png"), label)


def train_evaluate_and_resume(config, options, folder):
    """Two iterations and a validation, then, resumed, two more.

    Returns:
        The last checkpoint, and the options it was trained with.
    """
    write_ade20k(folder / "data")
    roots = [f"{split}_dataloader.dataset.data_root={folder / 'data'}" for split in SPLITS]
    work = folder / "work"

    first = run_script(
        *("train", config, "--work-dir", work, "--cfg-options", *options, *roots),
        "train_cfg.max_iters=2",
    )
    assert "Iter(train) [2/2]" in first
    assert "mIoU:" in first
    assert (work / "iter_2.pth").is_file()

    second = run_script(
        *("train", config, "--work-dir", work, "--resume", "--cfg-options", *options, *roots),
        "train_cfg.max_iters=4",
    )
    assert "Iter(train) [2/4]" not in second
    assert "Iter(train) [4/4]" in second
    assert "mIoU:" in second
    return work / "iter_4.pth", (*options, *roots)


def test_vmamba_trains_evaluates_and_resumes(tmp_path):
    checkpoint, _ = train_evaluate_and_resume(VMAMBA, SMALL_VMAMBA, tmp_path)
    assert checkpoint.is_file()


@pytest.mark.slow
def test_vim_trains_evaluates_by_windows_and_resumes(tmp_path):
    checkpoint, options = train_evaluate_and_resume(VIM, SMALL_VIM, tmp_path)
    # At all six scales, each with its mirror image.
    tested = run_script(
        *("test", VIM, checkpoint, "--tta", "--work-dir", tmp_path / "work"),
        *("--cfg-options", *options, "test_dataloader.num_workers=0"),
        "test_dataloader.persistent_workers=False",
    )
    assert "mIoU:" in tested
