"""Draw predicted hand meshes below the ground truth: a picture an image, and all on one sheet.

The images are the first ones of the config's validation set, through its own pipeline. Each
picture shows the joints, the mesh over the photograph, and the hand from the side. Without a MANO
model (environment variable MAMBA_MM_MANO, or 'toy') no network with meshes can be built.

Example:
    python tools/analysis_tools/draw_hand_meshes.py CONFIG CHECKPOINT pictures --images 8 --obj
"""

import argparse
import sys
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpose.apis import init_model
from mmpose.registry import DATASETS

from mamba_mm.models.body_models import MANOLayer
from mamba_mm.visualization import HandMeshLocalVisualizer
from mamba_mm.visualization.hand_obj import write_hand_objs
from mamba_mm.visualization.hand_panels import stacked
from mamba_mm.visualization.hand_scene import labelled_hands, predicted_hands


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of a hand-mesh model")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("folder", help="where the pictures go, as JPEG files")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="start at image I")
    parser.add_argument(
        "--obj", action="store_true", help="write the meshes too: NAME.obj and NAME_gt.obj"
    )
    parser.add_argument("--columns", type=int, default=2, help="pictures side by side on the sheet")
    parser.add_argument(
        "--panel-height",
        type=int,
        default=384,
        metavar="PIXELS",
        help="enlarge smaller images to that (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def build_visualizer(model, metainfo, panel_height):
    """Return a visualizer with the hand model of the network.

    Args:
        model: The network.
        metainfo: Of the data set.
        panel_height: See ``HandMeshLocalVisualizer``.
    """
    visualizer = HandMeshLocalVisualizer("hand_meshes", panel_height=panel_height)
    visualizer.set_dataset_meta(metainfo)
    for layer in model.modules():
        if isinstance(layer, MANOLayer):
            visualizer.use_mano(layer.model)
    return visualizer


def draw(args):
    """Draw the pictures; yield their paths, that of the sheet last."""
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    model = init_model(config, args.checkpoint, device=args.device)
    dataset = DATASETS.build(config.val_dataloader.dataset)
    visualizer = build_visualizer(model, dataset.metainfo, args.panel_height)
    pictures = []
    for index in range(args.first, min(args.first + args.images, len(dataset))):
        with torch.no_grad():
            (sample,) = model.test_step(pseudo_collate([dataset[index]]))
        # An image may have two hands: the number keeps their files apart.
        path = Path(args.folder) / f"{index:05d}_{Path(sample.img_path).stem}.jpg"
        image = np.ascontiguousarray(mmcv.imread(sample.img_path, channel_order="rgb"))
        pictures.append(visualizer.add_datasample(path.stem, image, sample, out_file=str(path)))
        if args.obj:
            write_hand_objs(
                path.with_suffix(".obj"),
                predicted_hands(sample.pred_instances),
                visualizer.faces_of,
            )
            write_hand_objs(
                path.with_name(f"{path.stem}_gt.obj"),
                labelled_hands(sample.gt_instances),
                visualizer.faces_of,
            )
        yield path
    if pictures:
        yield write_sheet(pictures, args.columns, Path(args.folder) / "sheet.jpg")


def write_sheet(pictures, columns, path):
    """Write all pictures as one, row by row; return the path.

    Args:
        pictures: ``(H, W, 3)``, uint8, RGB, not all of one size.
        columns: How many in a row.
        path: The file.
    """
    height = max(picture.shape[0] for picture in pictures)
    padded = [
        np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0)), constant_values=255) for p in pictures
    ]
    rows = [padded[start : start + columns] for start in range(0, len(padded), columns)]
    mmcv.imwrite(stacked(rows)[..., ::-1], str(path))
    return path


def main(arguments=None):
    """Draw the pictures and say where they are."""
    args = parse_args(arguments)
    for path in (args.config, args.checkpoint):
        if not Path(path).is_file():
            print(f"error: there is no file {path}", file=sys.stderr)
            return 1
    drawn = list(draw(args))
    if not drawn:
        print(f"error: the set has no image number {args.first}", file=sys.stderr)
        return 1
    for path in drawn:
        print(f"{path}: ground truth above, prediction below", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
