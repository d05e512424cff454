"""Draw pictures with the ground truth on the left and a model's detections on the right.

MMDetection's own visualizer draws; small images are enlarged first, so that the labels
can be read. The images are the first ones of the config's test set.

Example:
    python tools/analysis_tools/draw_detections.py CONFIG CHECKPOINT pictures --images 8
"""

import argparse
import sys
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.registry import DATASETS, VISUALIZERS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of an MMDetection model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("folder", help="where the pictures go, as JPEG files")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="start at image I")
    parser.add_argument(
        "--score-thr", type=float, default=0.5, help="detections below are not drawn"
    )
    parser.add_argument(
        "--short-side",
        type=int,
        default=480,
        metavar="PIXELS",
        help="enlarge smaller images to about that (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def enlarged_instances(instances, factor):
    """Return boxes, masks, labels and scores for an image ``factor`` times as large.

    Args:
        instances: ``bboxes`` ``(N, 4)`` and ``labels`` ``(N,)``; perhaps ``masks`` and
            ``scores`` ``(N,)``. Masks are a bool tensor ``(N, H, W)`` or what MMDetection
            loads annotations into.
        factor: A whole number.
    """
    boxes = instances.bboxes
    result = InstanceData(bboxes=getattr(boxes, "tensor", boxes) * factor, labels=instances.labels)
    if "scores" in instances:
        result.scores = instances.scores
    if "masks" in instances:
        masks = instances.masks
        if not isinstance(masks, torch.Tensor):
            masks = masks.to_tensor(torch.bool, "cpu")
        result.masks = masks.repeat_interleave(factor, -2).repeat_interleave(factor, -1).numpy()
    return result


def enlarged(image, sample, short_side):
    """Return the image and the sample enlarged by a whole number, so that masks stay exact.

    Args:
        image: ``(H, W, 3)``, uint8.
        sample: A sample with ``gt_instances`` and ``pred_instances`` in that image's pixels.
        short_side: The least length wanted, in pixels.
    """
    height, width = image.shape[:2]
    factor = max(1, round(short_side / min(height, width)))
    result = DetDataSample(
        gt_instances=enlarged_instances(sample.gt_instances, factor),
        pred_instances=enlarged_instances(sample.pred_instances, factor),
    )
    return mmcv.imresize(image, (width * factor, height * factor), interpolation="bicubic"), result


def draw(args):
    """Draw the pictures; yield their paths."""
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    model = init_detector(config, args.checkpoint, device=args.device)
    dataset = DATASETS.build(config.test_dataloader.dataset)
    visualizer = VISUALIZERS.build(dict(type="DetLocalVisualizer", name="detections", alpha=0.4))
    visualizer.dataset_meta = dataset.metainfo
    last = min(args.first + args.images, len(dataset))
    for index in range(args.first, last):
        with torch.no_grad():
            (sample,) = model.test_step(pseudo_collate([dataset[index]]))
        sample = sample.cpu()
        image = np.ascontiguousarray(mmcv.imread(sample.img_path, channel_order="rgb"))
        image, sample_to_draw = enlarged(image, sample, args.short_side)
        path = Path(args.folder) / f"{Path(sample.img_path).stem}.jpg"
        visualizer.add_datasample(
            path.stem,
            image,
            data_sample=sample_to_draw,
            pred_score_thr=args.score_thr,
            out_file=str(path),
        )
        yield path


def main(arguments=None):
    """Draw the pictures and say where they are."""
    args = parse_args(arguments)
    for path in (args.config, args.checkpoint):
        if not Path(path).is_file():
            print(f"error: there is no file {path}", file=sys.stderr)
            return 1
    for path in draw(args):
        print(f"{path}: ground truth left, detections right", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
