"""COCO configs through MMDetection's own runner, on drawn shapes."""

import pytest
from shrunken_configs import check_training, shrunken
from training_runs import CONFIGS

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")

CLASSES = ("disc", "square", "triangle", "star", "cross", "ring")

# Classes; widths of VMamba and Vim, necks and heads; boxes that a stage takes; image sizes.
SMALLER = (
    {80: len(CLASSES)}
    | {96: 32, 192: 64, 384: 128, 768: 256, 256: 32}
    | {512: 32, 2000: 50, 1000: 50, 30000: 50}
    | {640: 64, 800: 64, 1024: 96, 1280: 128, 1333: 96}
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    from mamba_mm.datasets.shapes import ShapesConfig, write_shapes_coco

    folder = tmp_path_factory.mktemp("data") / "shapes"
    drawn = ShapesConfig(train_images=4, val_images=2, height=64, width=80)
    write_shapes_coco(folder, drawn, report=lambda line: None)
    return folder


def innermost(dataset):
    """The data set itself, not what repeats it."""
    return innermost(dataset.dataset) if "dataset" in dataset else dataset


def detector(name, shapes):
    """A shipped config on drawn shapes, that reports whatever it finds."""
    cfg = shrunken(CONFIGS / "mmdet" / name, SMALLER)
    loaders = (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
    for loader, split in zip(loaders, ("train", "val", "val"), strict=True):
        innermost(loader.dataset).update(
            metainfo=dict(classes=CLASSES),
            data_root=str(shapes),
            ann_file=f"annotations/instances_{split}.json",
            data_prefix=dict(img=f"images/{split}"),
        )
    annotations = str(shapes / "annotations" / "instances_val.json")
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = annotations
    cfg.model.test_cfg.get("rcnn", cfg.model.test_cfg).score_thr = 0.0
    return cfg


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("vmamba/mask-rcnn_vmamba-t_fpn_1x_coco.py", "coco/segm_mAP"),
        pytest.param(
            "vmamba/rtmdet_vmamba-t_8xb32-300e_coco.py", "coco/bbox_mAP", marks=pytest.mark.slow
        ),
        pytest.param(
            "vmamba/rtmdet-ins_vmamba-t_8xb32-300e_coco.py", "coco/segm_mAP", marks=pytest.mark.slow
        ),
        pytest.param(
            *("vim/cascade-mask-rcnn_vim-t_simple-fpn_lsj-100e_coco.py", "coco/segm_mAP"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_train_evaluate_and_resume(name, metric, shapes, tmp_path):
    cfg = detector(name, shapes)
    cfg.train_cfg.pop("dynamic_intervals", None)
    check_training(cfg, tmp_path, metric, by_epoch="Epoch" in cfg.train_cfg.type)
