"""Draw what a trained Hamba does inside: where it samples tokens, and the adjacency it has learnt.

For each image two pictures: the points at which the token sampler reads the map, over the crop and
the grid of tokens; and the weights of each GSS block's graph convolution, over the hand and as a
matrix. The weights are the same for every image. Images are the first ones of the config's
validation set, or photographs of right hands that fill the frame.

Examples:
    python tools/analysis_tools/draw_hamba_internals.py CONFIG CHECKPOINT pictures --images 4
    python tools/analysis_tools/draw_hamba_internals.py CONFIG CHECKPOINT out --photographs *.jpg
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmpose.apis import init_model
from mmpose.registry import DATASETS

from mamba_mm.models.body_models import HAND_BONES
from mamba_mm.visualization.hamba_plots import write_adjacency, write_sampled_tokens
from mamba_mm.visualization.hamba_recording import learnt_mixings, recorded_tokens, token_centres


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of a Hamba")
    parser.add_argument("checkpoint", help="its weights")
    parser.add_argument("folder", type=Path, help="where the pictures go, as PNG files")
    parser.add_argument("--images", type=int, default=4, metavar="N", help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="start at image I")
    parser.add_argument(
        "--photographs", nargs="+", metavar="FILE", help="instead of the validation set"
    )
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def samples(config: Config, args: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    """Yield names and samples of what is to be drawn.

    Raises:
        ValueError: A photograph cannot be read, or the set does not have the image.
    """
    settings = config.val_dataloader.dataset
    if args.photographs:
        pipeline = Compose(settings.pipeline)
        for path in args.photographs:
            image = cv2.imread(path)
            if image is None:
                raise ValueError(f"{path} is not there, or no image")
            box = np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
            score = np.ones(1, np.float32)
            yield Path(path).stem, pipeline(dict(img_path=path, bbox=box, bbox_score=score))
        return
    dataset = DATASETS.build(settings)
    if not 0 <= args.first < len(dataset):
        raise ValueError(f"the set has no image number {args.first}, only {len(dataset)}")
    for index in range(args.first, min(args.first + args.images, len(dataset))):
        sample = dataset[index]
        yield f"{index:05d}_{Path(sample['data_samples'].img_path).stem}", sample


def draw(args: argparse.Namespace) -> Iterator[Path]:
    """Draw the pictures; yield their paths.

    Raises:
        ValueError: The config is of no model with a token sampler, or as :func:`samples`.
    """
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    model = init_model(config, args.checkpoint, device=args.device)
    sampler = getattr(model.head, "ts", None)
    if sampler is None:
        raise ValueError(f"the head of {args.config} has no token sampler")
    mixings = learnt_mixings(model.head)
    edges = HAND_BONES if model.head.output_model.num_joints == 21 else ()
    for name, sample in samples(config, args):
        with recorded_tokens(sampler) as record, torch.no_grad():
            model.test_step(pseudo_collate([sample]))
        # As MMPose loads images: blue first. A fourth channel, of depth, is not drawn.
        crop = sample["inputs"][:3].numpy()[::-1].transpose(1, 2, 0).astype(np.uint8)
        points, map_size = record.points[0][0], record.map_sizes[0]
        path = args.folder / f"{name}_tokens.png"
        columns, rows = token_centres(sampler, map_size)
        title = f"{len(points)} sampled tokens of {map_size[0]} x {map_size[1]}"
        write_sampled_tokens(path, crop, points, columns, rows, edges, title)
        yield path
        if mixings:
            path = args.folder / f"{name}_adjacency.png"
            write_adjacency(path, crop, points, mixings, "learnt adjacency of the joints")
            yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures, say where they are, and return the exit status."""
    args = parse_args(arguments)
    for path in (args.config, args.checkpoint):
        if not Path(path).is_file():
            print(f"error: there is no file {path}", file=sys.stderr)
            return 1
    try:
        for path in draw(args):
            print(path, flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
