"""Write ISIC 2017 or 2018 in the folders that MMSegmentation reads.

The source holds the unpacked files of a challenge, or train/images, train/masks, val/images and
val/masks. A folder that already holds the result is left as it is.

Example:
    python tools/dataset_converters/isic.py downloads/isic2018 data/isic18 --train-share 0.7
"""

import argparse
import sys

from mamba_mm.datasets.converters import convert_isic


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder with the unpacked files")
    parser.add_argument("folder", help="where the result goes")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="resize images and masks, for faster training (default: copy them)",
    )
    parser.add_argument(
        "--train-share",
        type=float,
        metavar="SHARE",
        help="pool train and val, and divide them anew by chance (default: keep the splits)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that chance")
    parser.add_argument("--force", action="store_true", help="replace what the folder holds")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Convert; return the exit status."""
    args = parse_args(arguments)
    try:
        convert_isic(
            args.source,
            args.folder,
            size=None if args.size is None else tuple(args.size),
            train_share=args.train_share,
            seed=args.seed,
            force=args.force,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
