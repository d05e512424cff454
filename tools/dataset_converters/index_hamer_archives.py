"""Find the hands in HaMeR's training archives beforehand, with several processes.

A training does it by itself when it first reads the archives, with one process. The index of each
set is kept beside its archives, or in --cache-dir, which the data set then needs as `cache_dir`.

Example:
    python tools/dataset_converters/index_hamer_archives.py hamer_training_data/dataset_tars/*-train
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from mamba_mm.datasets.hand_mesh.tar_index import index_archives


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", help="each with the archives of one set")
    parser.add_argument("--cache-dir", help="where the indices are kept")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Index the sets; return the exit status."""
    args = parse_args(arguments)
    for folder in args.folders:
        try:
            tars, hands = index_archives(folder, args.cache_dir, args.workers)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{folder}: {len(hands)} hands in {len(tars)} archives", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
