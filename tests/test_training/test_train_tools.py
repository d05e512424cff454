"""Training and evaluation through the very commands that a user types."""

import json

import pytest
from training_runs import CONFIGS, DATA_DIR, run_tool

pytest.importorskip("mmdet")
pytest.importorskip("mmcv.ops")

SHAPES_CONFIG = CONFIGS / "mmdet" / "vmamba" / "rtmdet-ins_vmamba-nano_fpn_shapes.py"
PHOTOS_CONFIG = CONFIGS / "mmdet" / "vmamba" / "rtmdet-ins_vmamba-nano_fpn_coco-4-photos.py"

# A person whose box is smaller than that, in the photograph's pixels, is three pixels of
# the coarsest map that a region is read from; the model need not find it.
LEAST_PERSON_AREA = 64 * 64


def logged_losses(work_dir):
    (scalars,) = work_dir.glob("*/vis_data/scalars.json")
    lines = map(json.loads, scalars.read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


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

    second = run_tool(
        *("train", SHAPES_CONFIG, "--work-dir", work, "--resume", *small),
        "train_cfg.max_epochs=2",
        MAMBA_MM_DEMO_DATA=data,
    )
    assert "Epoch(train) [1]" not in second
    assert "Epoch(train) [2][2/2]" in second
    assert "coco/bbox_mAP" in second

    evaluated = run_tool(
        *("test", SHAPES_CONFIG, work / "epoch_2.pth", "--work-dir", work, *small),
        MAMBA_MM_DEMO_DATA=data,
    )
    assert "coco/bbox_mAP" in evaluated
    assert "coco/segm_mAP" in evaluated


def found_persons(image_annotations, sample):
    """Return the persons that a confident detection overlaps by half, each one once."""
    from mmdet.structures.bbox import bbox_overlaps
    from torch import tensor

    confident = sample.pred_instances[sample.pred_instances.scores >= 0.5]
    free = set(range(len(confident)))
    found = []
    for annotation in image_annotations:
        x, y, width, height = annotation["bbox"]
        overlaps = bbox_overlaps(tensor([[x, y, x + width, y + height]]), confident.bboxes)[0]
        best = max(free, key=lambda i: overlaps[i], default=None)
        if best is not None and overlaps[best] >= 0.5:
            free.remove(best)
            found.append(annotation["id"])
    return found, len(free)


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA_DIR / "coco" / "test_coco.json").is_file(),
    reason=f"no photographs in {DATA_DIR}/coco; set MAMBA_MM_DATA_DIR",
)
def test_four_photographs_are_learnt_by_heart(tmp_path):
    """The loss falls by 60 %, and all but the tiny persons are found, with few others."""
    from mmdet.apis import inference_detector, init_detector
    from pycocotools.coco import COCO

    run_tool("train", PHOTOS_CONFIG, "--work-dir", tmp_path, MAMBA_MM_DATA_DIR=DATA_DIR)

    losses = logged_losses(tmp_path)
    assert losses[-1] <= 0.4 * losses[0]

    checkpoint = (tmp_path / "last_checkpoint").read_text().strip()
    model = init_detector(str(PHOTOS_CONFIG), checkpoint, device="cpu")
    coco = COCO(str(DATA_DIR / "coco" / "test_coco.json"))
    wanted, found, surplus = set(), set(), 0
    for image_id, image in coco.imgs.items():
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        wanted |= {a["id"] for a in annotations if a["bbox"][2] * a["bbox"][3] >= LEAST_PERSON_AREA}
        sample = inference_detector(model, str(DATA_DIR / "coco" / image["file_name"]))
        found_here, others = found_persons(annotations, sample)
        found |= set(found_here)
        surplus += others
    assert len(wanted) == 11
    assert wanted <= found
    assert surplus <= 3
