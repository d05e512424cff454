#!/usr/bin/env python
"""Time HandMeshInferencer in batches against MMPose's inference_topdown, from pictures to meshes.

Everybody gets the same pictures in memory and the same boxes of right hands, and does all from
the crop to the hand in the picture; nothing is drawn or written. MMPose's function is called once
for each hand, and once for each picture; the inferencer fills batches with the hands of several
pictures. All run in one process, in turns, and ratios are from turns of the same round. Weights
are random unless a checkpoint is named; they do not change the time. Run it on an idle machine.

Example:
    python tools/benchmarks/hand_inference.py --out hand_inference.csv
    python tools/benchmarks/hand_inference.py --model CONFIG --device cuda --batch-sizes 1 16 64
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from mmpose.apis import inference_topdown

from mamba_mm.apis.inferencers import HandMeshInferencer
from mamba_mm.measuring.interleaved import Timing, ratio, time_interleaved
from mamba_mm.measuring.machine import Machine

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "configs/mmpose/hamba/hamba_vmamba-nano_toy-hands-128x96.py"
ONE_BY_ONE = "inference_topdown, a hand a call"
BY_PICTURE = "inference_topdown, a picture a call"
COLUMNS = (
    *("contender", "ms_a_hand", "best_ms_a_hand", "spread", "turns", "times_as_fast"),
    *("hands", "device", "threads", "model"),
)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(MODEL), help="config (default: the toy hands' one)")
    parser.add_argument("--weights", help="its checkpoint (default: random)")
    parser.add_argument("--mano", default="toy", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--pictures", type=int, default=8, metavar="N")
    parser.add_argument("--hands", type=int, default=4, metavar="N", help="in each picture")
    parser.add_argument("--size", default="480x640", metavar="HxW", help="of the pictures")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each contender at most")
    parser.add_argument("--budget", type=float, default=20, help="seconds for each contender")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="write the table as CSV too")
    return parser.parse_args(arguments)


def make_pictures(
    count: int, hands: int, height: int, width: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return pictures of noise, and boxes of hands in each, always the same ones."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]
    side = 0.2 * min(height, width)
    boxes = []
    for _ in pictures:
        corners = rng.uniform(0, [width - side, height - side], (hands, 2))
        boxes.append(np.concatenate([corners, corners + side], axis=1).astype(np.float32))
    return pictures, boxes


def contenders(
    inferencer: HandMeshInferencer,
    pictures: list[np.ndarray],
    boxes: list[np.ndarray],
    batch_sizes: Sequence[int],
) -> dict[str, Callable[[], list]]:
    """Return functions that find the vertices ``(V, 3)`` of all hands, by name."""

    def one_by_one() -> list[np.ndarray]:
        return [
            _vertices(inference_topdown(inferencer.model, picture, box[None]))
            for picture, of_picture in zip(pictures, boxes, strict=True)
            for box in of_picture
        ]

    def by_picture() -> list[np.ndarray]:
        return [
            _vertices(inference_topdown(inferencer.model, picture, of_picture))
            for picture, of_picture in zip(pictures, boxes, strict=True)
        ]

    def in_batches(size: int) -> Callable[[], list[np.ndarray]]:
        return lambda: [
            _vertices(result["predictions"])
            for result in inferencer(pictures, True, size, bboxes=boxes, sides="right")
        ]

    ours = {f"HandMeshInferencer, batch {size}": in_batches(size) for size in batch_sizes}
    return {ONE_BY_ONE: one_by_one, BY_PICTURE: by_picture, **ours}


def _vertices(samples: list) -> np.ndarray:
    return np.concatenate([sample.pred_instances.vertices for sample in samples])


def largest_difference(runs: dict[str, Callable[[], list]]) -> float:
    """Return by how many metres a vertex of any contender differs from the first one's."""
    found = [np.concatenate(run()) for run in runs.values()]
    return max(float(np.abs(other - found[0]).max()) for other in found[1:])


def rows_of(timings: dict[str, Timing], hands: int, args: argparse.Namespace) -> list[dict]:
    """Bring the timings into the form of the table; ratios are to MMPose, a hand a call."""
    return [
        dict(
            contender=name,
            ms_a_hand=round(timing.median * 1e3 / hands, 4),
            best_ms_a_hand=round(timing.best * 1e3 / hands, 4),
            spread=round(timing.spread, 3),
            turns=len(timing.seconds),
            times_as_fast=round(ratio(timings[ONE_BY_ONE], timing), 3),
            hands=hands,
            device=args.device,
            threads=args.threads,
            model=Path(args.model).stem,
        )
        for name, timing in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    args = parse_args(arguments)
    torch.set_num_threads(args.threads)
    height, width = map(int, args.size.split("x"))
    inferencer = HandMeshInferencer(args.model, args.weights, args.device, mano_path=args.mano)
    pictures, boxes = make_pictures(args.pictures, args.hands, height, width)
    runs = contenders(inferencer, pictures, boxes, args.batch_sizes)
    hands = args.pictures * args.hands
    print(f"{Machine.here(args.device)}\n{args.model}")
    print(f"{args.pictures} pictures of {args.size} with {args.hands} hands each")
    print(f"vertices of all contenders agree to {largest_difference(runs):.1e} m")
    # The results are on the processor, so a device has finished when a call returns.
    rows = rows_of(time_interleaved(runs, args.rounds, args.budget), hands, args)
    wide = max(len(row["contender"]) for row in rows)
    print(f"{'':{wide}} {'ms a hand':>10} {'best':>10} {'spread':>7} {'turns':>5} times as fast")
    for row in rows:
        print(
            f"{row['contender']:{wide}} {row['ms_a_hand']:10.3f} {row['best_ms_a_hand']:10.3f} "
            f"{row['spread']:7.0%} {row['turns']:5} {row['times_as_fast']:13.2f}"
        )
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
