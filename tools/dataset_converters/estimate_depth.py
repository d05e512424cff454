r"""Estimate depth maps of photos, as files that mamba_mm.LoadDepth reads.

The network is a TorchScript file, which is a program: use one of a known origin. How to make one
of any network for single images: see mamba_mm.TorchScriptDepthEstimator. Maps are PNG of 16 bits,
each scaled to the whole range (only differences within a map matter); larger is nearer, unless
--kind depth. Photos that have a map already are left out, so an interrupted call can be repeated.

Example:
    python tools/dataset_converters/estimate_depth.py data/freihand/training/rgb \
        data/freihand/training/depth --network depth.pt --size 384 384
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mamba_mm.datasets.transforms.depth_maps import KINDS
from mamba_mm.datasets.transforms.estimate_depth import EstimateDepth

PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
FULL_RANGE = 65535


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="folder of photos, searched with its subfolders")
    parser.add_argument("maps", type=Path, help="folder that the maps go to, by the same names")
    parser.add_argument("--network", type=Path, required=True, metavar="FILE", help="TorchScript")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="that photos are resized to for the network (default: as they are)",
    )
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="inverse_depth",
        help="what it gives (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="(default: %(default)s)")
    return parser.parse_args(arguments)


def as_png(values: np.ndarray) -> np.ndarray:
    """Scale a map to 16 bits, 1 to the largest; 0 stands for unknown.

    Args:
        values: (H, W), positive where they are known.
    """
    known = np.isfinite(values) & (values > 0)
    scaled = np.zeros(values.shape)
    if known.any():
        scaled[known] = np.maximum(np.rint(values[known] / values[known].max() * FULL_RANGE), 1)
    return scaled.astype(np.uint16)


def estimate_maps(args: argparse.Namespace) -> tuple[int, int]:
    """Write the maps that are missing.

    Returns:
        How many were written, and how many photos there are.

    Raises:
        ValueError: A photo cannot be read.
        OSError: There are no photos, or the disk refuses.
    """
    photos = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in PHOTOS)
    if not photos:
        raise FileNotFoundError(f"no photo ({', '.join(PHOTOS)}) in the folder {args.photos}")
    maps = [args.maps / p.relative_to(args.photos).with_suffix(".png") for p in photos]
    todo = [pair for pair in zip(photos, maps, strict=True) if not pair[1].is_file()]
    network = dict(
        type="mamba_mm.TorchScriptDepthEstimator", path=str(args.network), size=args.size
    )
    estimate = EstimateDepth(network, kind=args.kind, device=args.device).estimate
    for number, (photo, path) in enumerate(todo, start=1):
        image = cv2.imread(str(photo))
        if image is None:
            raise ValueError(f"{photo} cannot be read as a photo")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written beside it first: a map that is there is whole.
        partial = path.with_suffix(".partial.png")
        if not cv2.imwrite(str(partial), as_png(estimate(image))):
            raise OSError(f"could not write {partial}: is the disk full?")
        partial.replace(path)
        if number % 100 == 0 or number == len(todo):
            print(f"{number}/{len(todo)} maps", flush=True)
    return len(todo), len(photos)


def main(arguments: Sequence[str] | None = None) -> int:
    """Estimate; return the exit status."""
    args = parse_args(arguments)
    try:
        written, photos = estimate_maps(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.maps}: {written} maps written, {photos - written} were there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
