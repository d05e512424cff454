#!/usr/bin/env python
"""Convert a MANO hand model, such as MANO_RIGHT.pkl, to plain arrays (.npz).

The pickle is read without running anything in it; neither chumpy nor scipy is needed. The license
of MANO holds for the result as well: do not pass it on.
"""

import argparse
import sys
from pathlib import Path

from mamba_mm.models.body_models import (
    build_toy_mano,
    load_mano,
    save_mano_npz,
    save_released_pickle,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, help="the .pkl (or .npz) to read")
    parser.add_argument("destination", nargs="?", type=Path, help="the .npz to write")
    parser.add_argument(
        "--side",
        choices=("right", "left"),
        help="which hand it is (default: told by where the fingers of the template point)",
    )
    parser.add_argument(
        "--toy",
        type=Path,
        metavar="FOLDER",
        help="instead of converting, write our synthetic hand there, as TOY_RIGHT.npz and as "
        "TOY_RIGHT.pkl in the released format",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    args = parser.parse_args()
    if (args.toy is None) == (args.source is None or args.destination is None):
        parser.error("give a source and a destination, or --toy FOLDER")
    if args.toy is not None and (args.source is not None or args.side is not None):
        parser.error("--toy goes with no source and no side")
    return args


def main() -> int:
    """Convert or write the synthetic model; 1 if that is refused."""
    args = parse_args()
    folder = args.toy
    written = [args.destination] if folder is None else _toy_files(folder)
    existing = [str(path) for path in written if path.exists()]
    if existing and not args.force:
        print(f"{', '.join(existing)}: exists already; use --force", file=sys.stderr)
        return 1
    try:
        if folder is None:
            save_mano_npz(load_mano(args.source, args.side), args.destination)
        else:
            _write_toy(folder)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {', '.join(map(str, written))}")
    return 0


def _toy_files(folder: Path) -> list[Path]:
    return [folder / "TOY_RIGHT.npz", folder / "TOY_RIGHT.pkl"]


def _write_toy(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays, released = _toy_files(folder)
    save_mano_npz(build_toy_mano(), arrays)
    save_released_pickle(build_toy_mano(), released)


if __name__ == "__main__":
    sys.exit(main())
