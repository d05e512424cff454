#!/usr/bin/env python
"""Convert an official checkpoint to an MMEngine one.

Family and preset are found from the keys and shapes of the file. The result loads
strictly into the config that is printed, and that its ``meta['config']`` names.
"""

import argparse
import sys

from mamba_mm.models.utils import CheckpointError, convert_official


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="official checkpoint, a path or an http(s) URL")
    parser.add_argument("destination", help="file to write")
    parser.add_argument("--arch", help="stop unless the file holds this preset, e.g. tiny_s1l8")
    parser.add_argument(
        "--key",
        help="top-level key of the weights, e.g. model_ema for those of the moving average "
        "(default: model or state_dict)",
    )
    parser.add_argument(
        "--img-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="image size that the file was trained with, where its position embedding does not "
        "tell its grid (Vim at other sizes than 224 x 224, HaMeR at others than 256 x 192)",
    )
    parser.add_argument(
        "--drop-head",
        action="store_true",
        help="write the backbone alone, for instance of a file with other classes",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the destination")
    parser.add_argument(
        "--unsafe-load",
        action="store_true",
        help="let the source run code while it is read; only for a file that you trust",
    )
    return parser.parse_args()


def main() -> int:
    """Convert, and print what was found; 1 if the checkpoint is refused."""
    args = parse_args()
    try:
        report = convert_official(
            args.source,
            args.destination,
            arch=args.arch,
            key=args.key,
            img_size=args.img_size,
            drop_head=args.drop_head,
            force=args.force,
            trusted=args.unsafe_load,
        )
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
