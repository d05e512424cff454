"""Write the Synapse abdomen data, as prepared by TransUNet, in the folders MMSegmentation reads.

The source holds train_npz/*.npz and test_vol_h5/*.npy.h5. A folder that already holds the result
is left as it is. MMSegmentation's own tool of this name converts the original volumes instead.

Example:
    python tools/dataset_converters/synapse.py downloads/Synapse data/synapse
"""

import argparse
import sys

from mamba_mm.datasets.converters import convert_synapse


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder with train_npz and test_vol_h5")
    parser.add_argument("folder", help="where the result goes")
    parser.add_argument("--force", action="store_true", help="replace what the folder holds")
    return parser.parse_args(arguments)


def main(arguments=None):
    """Convert; return the exit status."""
    args = parse_args(arguments)
    try:
        convert_synapse(
            args.source,
            args.folder,
            force=args.force,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
