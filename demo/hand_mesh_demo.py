#!/usr/bin/env python
"""Find the mesh of every hand in photographs, videos, or before a camera.

A network of hand meshes has to be told where the hands are, and which hand each is:

  --wholebody CONFIG  an estimator of MMPose finds people's hands and their sides
  --detector CONFIG   a detector of MMDetection; --side is for classes that do not say it
  --boxes FILE        COCO's format with hand_type, or COCO-WholeBody's
  --box L T R B SIDE  a hand, in pixels; repeat it for more
  --whole-image       one hand fills the picture; --side says which

MANO is where MAMBA_MM_MANO says, or --mano. What is found goes to --out-dir:

  visualizations/NAME.jpg   joints, meshes over the picture, each hand from its side; or .mp4
  predictions/NAME.json     joints, parameters and cameras, with their units
  meshes/NAME/*.obj         with --obj

Examples:
    python demo/hand_mesh_demo.py photo.jpg CONFIG WEIGHTS --wholebody wholebody --padding 2
    python demo/hand_mesh_demo.py photos CONFIG WEIGHTS --boxes hands.json --obj --tta
    python demo/hand_mesh_demo.py clip.mp4 CONFIG WEIGHTS --detector hand --side right --panels mesh
    python demo/hand_mesh_demo.py webcam CONFIG WEIGHTS --detector hand --side right --show
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

PANELS = ("joints", "mesh", "side")


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", help="image, folder of images, video, 'webcam' or 'webcam:N'")
    parser.add_argument("model", help="config of a hand-mesh network")
    parser.add_argument("weights", help="its checkpoint")
    parser.add_argument("--mano", metavar="FILE", help="MANO model; 'toy' is the synthetic one")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU, if there is one)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="hands at once")
    _add_boxes(parser)
    _add_network(parser)
    _add_output(parser)
    return parser.parse_args(arguments)


def _add_boxes(parser):
    hands = parser.add_argument_group("where the hands are (one of these)")
    one = hands.add_mutually_exclusive_group(required=True)
    one.add_argument("--wholebody", metavar="CONFIG", help="estimator of MMPose, or its name")
    one.add_argument(
        "--detector", metavar="CONFIG", help="of MMDetection; 'hand': MMPose's detector"
    )
    one.add_argument("--boxes", metavar="FILE", help="annotation file")
    one.add_argument(
        "--box",
        action="append",
        nargs=5,
        metavar=("L", "T", "R", "B", "SIDE"),
        help="left, top, right, bottom in pixels, and 'right' or 'left'",
    )
    one.add_argument("--whole-image", action="store_true", help="one hand fills the picture")
    hands.add_argument("--side", choices=("right", "left"), help="of hands that do not say it")
    hands.add_argument("--wholebody-weights", metavar="FILE")
    hands.add_argument("--detector-weights", metavar="FILE")
    hands.add_argument("--score", type=float, default=0.3, metavar="X", help="least of a detection")
    hands.add_argument(
        "--person-detector",
        metavar="CONFIG",
        help="of a top-down --wholebody (default: MMPose's; 'whole_image': none)",
    )
    hands.add_argument("--person-detector-weights", metavar="FILE")


def _add_network(parser):
    network = parser.add_argument_group("how the network sees them")
    network.add_argument(
        "--padding",
        type=float,
        metavar="X",
        help="how much larger than its box a crop is (default: the config's); about 2 for tight "
        "boxes and networks that were trained on whole frames, as on FreiHAND",
    )
    camera = network.add_mutually_exclusive_group()
    camera.add_argument("--focal-length", type=float, metavar="PIXELS", help="makes depths metric")
    camera.add_argument(
        "--cam-K", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="likewise"
    )
    network.add_argument(
        "--tta",
        action="store_true",
        help="test-time augmentation: 95 crops of each hand, or those of the next two",
    )
    network.add_argument("--tta-scales", type=float, nargs="+", metavar="X", help="1 among them")
    network.add_argument(
        "--tta-rotations", type=float, nargs="+", metavar="DEG", help="0 among them"
    )


def _add_output(parser):
    output = parser.add_argument_group("what comes out")
    output.add_argument("--out-dir", default="hand_meshes", help="default: %(default)s")
    output.add_argument("--panels", nargs="+", choices=PANELS, default=PANELS, help="of pictures")
    output.add_argument("--no-pictures", action="store_true")
    output.add_argument("--no-json", action="store_true")
    output.add_argument("--obj", action="store_true", help="write meshes")
    output.add_argument("--vertices", action="store_true", help="write vertices into the JSON")
    output.add_argument("--show", action="store_true", help="open a window; Escape or q ends")
    output.add_argument("--max-frames", type=int, metavar="N", help="of a video or camera")


def build(args):
    """Return the inferencer, and what says where the hands are, ``None`` for its detector."""
    from mamba_mm.apis.inferencers import HandMeshInferencer, WholeBodyHands

    detector = args.detector
    if args.wholebody:
        detector = WholeBodyHands(
            args.wholebody,
            args.wholebody_weights,
            args.device,
            args.person_detector,
            args.person_detector_weights,
        )
    tta = args.tta
    given = dict(scales=args.tta_scales, rotations=args.tta_rotations)
    if any(given.values()):
        tta = {name: values for name, values in given.items() if values}
    inferencer = HandMeshInferencer(
        args.model,
        args.weights,
        args.device,
        detector=detector,
        detector_weights=args.detector_weights,
        side=args.side,
        score_thr=args.score,
        bbox_padding=args.padding,
        mano_path=args.mano,
        tta=tta,
    )
    return inferencer, _given_boxes(args)


def _given_boxes(args):
    if args.whole_image:
        return dict(bboxes="whole_image")
    if args.boxes:
        return dict(bboxes=args.boxes)
    if args.box:
        boxes = [[float(number) for number in box[:4]] for box in args.box]
        return dict(bboxes=boxes, sides=[box[4] for box in args.box])
    return {}


def run(args):
    """Do the work; yield a line for each picture, and one for each video."""
    inferencer, given = build(args)
    cam_K = None
    if args.cam_K:
        fx, fy, cx, cy = args.cam_K
        cam_K = [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    results = inferencer(
        args.input,
        batch_size=args.batch_size,
        **given,
        cam_K=cam_K,
        focal_length=args.focal_length,
        max_frames=args.max_frames,
        panels=args.panels,
        show=args.show,
        out_dir=args.out_dir,
        write_pictures=not args.no_pictures,
        write_json=not args.no_json,
        write_obj=args.obj,
        with_vertices=args.vertices,
    )
    is_sequence = _source_of(args).is_sequence
    found = Counter()
    for result in results:
        (picture,) = result["predictions"]
        sides = [hand["side"] for hand in picture["hands"]]
        found[len(sides)] += 1
        if not is_sequence:
            yield f"{picture['image']}: {_counted(sides)}"
    if is_sequence:
        hands = sum(number * frames for number, frames in found.items())
        without = f", no hand found in {found[0]}" if found[0] else ""
        yield f"{args.input}: {found.total()} pictures, {hands} hands{without}"


def _source_of(args):
    """Return the input, or the first picture of a folder."""
    from mamba_mm.apis.inferencers.inputs import open_sources

    return open_sources(args.input)[0]


def _counted(sides):
    if not sides:
        return "no hand found"
    return f"{len(sides)} hand{'s' if len(sides) > 1 else ''} ({', '.join(sides)})"


def main(arguments=None):
    """Run the demo; return the exit status."""
    args = parse_args(arguments)
    try:
        for line in run(args):
            print(line, flush=True)
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if not _source_of(args).is_live:
            print(
                "interrupted: what is finished is there, an unfinished video is not",
                file=sys.stderr,
            )
            return 130
    print(f"results: {args.out_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
