"""Choose the points on the surfaces of objects that stand for their poses.

Prints how well they represent each surface, beside farthest-point sampling and the corners of the
box, and writes them as JSON. The same meshes give the same points.

Example:
    python tools/dataset_converters/select_object_keypoints.py data/ycbv/models \
        data/ycbv/models/keypoints.json
    python tools/dataset_converters/select_object_keypoints.py drill.obj drill.json --unit m
"""

import argparse
import sys
from pathlib import Path

from mamba_mm.datasets.object_pose.keypoint_file import write_keypoints
from mamba_mm.datasets.object_pose.keypoint_selection import (
    DEFAULT_SAMPLES,
    SELECTION_METHODS,
    box_corners,
    coverage,
    keypoints_of,
    select_keypoints,
)
from mamba_mm.datasets.object_pose.models import read_mesh_file, read_models

HEADER = "| object | symmetries | points | mean distance | largest distance | lever |"


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", help="a folder of models in BOP's layout, or one mesh file")
    parser.add_argument("out", help="the JSON file to write")
    parser.add_argument("--count", type=int, default=8, metavar="N", help="points an object")
    parser.add_argument(
        "--method",
        choices=SELECTION_METHODS,
        default=SELECTION_METHODS[0],
        help="least mean distance, or farthest-point sampling (default: %(default)s)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=DEFAULT_SAMPLES,
        metavar="N",
        help="points of a surface to choose from (default: %(default)s)",
    )
    parser.add_argument(
        "--unit",
        choices=("mm", "m"),
        default="mm",
        help="of a mesh file; BOP's models are in millimetres (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def table_rows(model, chosen, count, samples):
    """Compare the chosen points with others."""
    rows = {
        "chosen": chosen,
        "farthest points": select_keypoints(model, count, samples=samples, method="farthest"),
        "corners of the box": box_corners(model.vertices),
    }
    for name, points in rows.items():
        figures = " | ".join(f"{value:.3f}" for value in coverage(model, points).as_dict().values())
        yield f"| {model.name} | {len(model.symmetries)} | {name} | {figures} |"


def read(path, unit):
    """Read the objects of a folder, or of one mesh file, by their numbers, with their files."""
    if path.is_dir():
        return {n: (model, f"obj_{n:06d}.ply") for n, model in read_models(path).items()}
    model = read_mesh_file(path, unit)
    return {model.object_id: (model, path.name)}


def main(arguments=None):
    """Choose the points; return the exit status."""
    args = parse_args(arguments)
    settings = dict(count=args.count, samples=args.samples, method=args.method)
    try:
        entries = {}
        print(f"{HEADER}\n| --- | --- | --- | --- | --- | --- |")
        for number, (model, mesh) in read(Path(args.models), args.unit).items():
            entries[number] = keypoints_of(model, mesh, **settings)
            rows = table_rows(model, entries[number].keypoints, args.count, args.samples)
            print("\n".join(rows), flush=True)
        write_keypoints(args.out, entries)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\nDistances in diameters. {len(entries)} objects written to {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
