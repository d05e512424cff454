"""Draw a set of toy images that look medical, in the folders that MMSegmentation reads.

Lesions on skin, two classes, or organs in a slice of an abdomen, seven. The same arguments give
the same pixels and the same labels. A folder that already holds the set is left as it is.

Example:
    python tools/dataset_converters/make_toy_medical.py lesions data/toy_lesions
"""

import argparse
import sys

from mamba_mm.datasets.toy_medical import KINDS, ToyMedicalConfig, write_toy_medical


def parse_args(arguments=None):
    """Read the command line."""
    defaults = ToyMedicalConfig()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=tuple(KINDS), help="what to draw")
    parser.add_argument("folder", help="where the set goes")
    parser.add_argument("--train-images", type=int, default=defaults.train_images, metavar="N")
    parser.add_argument("--val-images", type=int, default=defaults.val_images, metavar="N")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(defaults.height, defaults.width),
        metavar=("HEIGHT", "WIDTH"),
        help="of every image, in pixels (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--force", action="store_true", help="replace what the folder holds")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Draw the set; return the exit status."""
    args = parse_args(arguments)
    try:
        config = ToyMedicalConfig(
            kind=args.kind,
            train_images=args.train_images,
            val_images=args.val_images,
            height=args.size[0],
            width=args.size[1],
            seed=args.seed,
        )
        write_toy_medical(
            args.folder, config, force=args.force, report=lambda line: print(line, flush=True)
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
