#!/usr/bin/env python
"""Collect the poses and shapes of FreiHAND's training labels, for the adversarial prior.

The result is an .npz with hand_pose (N, 48) and betas (N, 10), as HaMeR's prior reads. FreiHAND's
poses are relative to the mean of MANO, whose file is needed; the licence of FreiHAND holds for the
result as well.

Example:
    python tools/dataset_converters/freihand_poses.py data/freihand data/freihand_poses.npz
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mamba_mm.datasets.hand_mesh.mano_poses import collect_freihand_poses
from mamba_mm.models.body_models import MANO_VARIABLE, resolve_mano


def parse_args(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder of the unpacked FreiHAND_pub_v2")
    parser.add_argument("destination", type=Path, help="the .npz to write")
    parser.add_argument("--mano", help=f"MANO_RIGHT.pkl (default: what {MANO_VARIABLE} says)")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Collect the poses; 1 if that is refused."""
    args = parse_args(arguments)
    if args.destination.exists() and not args.force:
        print(f"{args.destination}: exists already; use --force", file=sys.stderr)
        return 1
    try:
        mean = resolve_mano(args.mano).hands_mean
        count = collect_freihand_poses(args.source, args.destination, mean)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"wrote {count} hands to {args.destination}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
