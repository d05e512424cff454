"""Draw how large a model's errors are, by joint and by vertex, over a test set and on single hands.

Either a checkpoint predicts the config's test set, or the predictions are read from the file that
the toolbox's tools/test.py --dump FILE.pkl wrote (a pickle: open only your own). Written are

    joint_errors.png      the distribution of each joint's error, MPJPE and PA-MPJPE
    mean_vertices.png     the mean error of each vertex, on the template of the hand model
    NUMBER_NAME.png       single hands: the mesh over the photograph, and its errors as colours

Colours end at the 95th percentile of what the picture shows, or at --limit. Meshes need a hand
model (environment variable MAMBA_MM_MANO, or 'toy', or --mano).

Examples:
    python tools/analysis_tools/draw_hand_errors.py CONFIG --checkpoint CHECKPOINT pictures
    python tools/analysis_tools/draw_hand_errors.py CONFIG --predictions FILE.pkl pictures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import mmcv
import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpose.apis import init_model

from mamba_mm.models.body_models import MANOModel, close_wrist, resolve_mano
from mamba_mm.visualization.collected_errors import CollectedErrors, errors_of, hands_of
from mamba_mm.visualization.error_heat import TEMPLATE_VIEWS, error_views, write_error_heat
from mamba_mm.visualization.hand_panels import Enlargement, mesh_over
from mamba_mm.visualization.hand_scene import Hand
from mamba_mm.visualization.joint_error_plot import write_joint_errors

_PERCENTILE = 95
# Smaller photographs are enlarged, or the mesh would have stairs.
_LEAST_HEIGHT = 480
_BLUE, _ALPHA = (130, 170, 235), 0.85


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of a hand-mesh model")
    parser.add_argument("folder", type=Path, help="where the pictures go, as PNG files")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--checkpoint", metavar="FILE", help="weights that predict")
    source.add_argument("--predictions", metavar="FILE", help="a dump of predictions")
    parser.add_argument("--hands", type=int, default=4, metavar="N", help="single hands to draw")
    parser.add_argument(
        "--worst", action="store_true", help="draw the worst hands instead of the first ones"
    )
    parser.add_argument(
        "--no-alignment",
        dest="aligned",
        action="store_false",
        help="errors of vertices relative to the wrist, not after similarity alignment",
    )
    parser.add_argument("--limit", type=float, metavar="MM", help="where the colours end")
    parser.add_argument("--mano", metavar="FILE", help="the hand model, or 'toy'")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    if args.hands < 0 or (args.limit is not None and not args.limit > 0):
        parser.error("--hands must be 0 or more, and --limit above 0")
    return args


def predicted_samples(config: Config, args: argparse.Namespace) -> Iterator:
    """Yield the samples of the test set with predictions."""
    if args.predictions:
        yield from mmengine.load(args.predictions)
        return
    model = init_model(config, args.checkpoint, device=args.device)
    loader = Runner.build_dataloader(config.test_dataloader)
    with torch.no_grad():
        for batch in loader:
            yield from model.test_step(batch)


def image_path(sample: object) -> str:
    """Return the image of a sample, of a dump or not."""
    return sample["img_path"] if isinstance(sample, dict) else sample.img_path


def hand_model(config: Config, mano: str | None) -> MANOModel:
    """Return the model whose triangles and template are drawn: that given, or the config's."""
    settings = config.model.head.get("output_model", {}).get("mano", {})
    return resolve_mano(mano or settings.get("mano_path"))


def limit_of(errors: np.ndarray, args: argparse.Namespace) -> float:
    """Return the error at which the colours end, above 0."""
    return args.limit or max(float(np.percentile(errors, _PERCENTILE)), 0.1)


def draw(args: argparse.Namespace) -> Iterator[Path]:
    """Draw the pictures; yield their paths.

    Raises:
        ValueError: No hand has labels and a prediction.
    """
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    collected, hands = CollectedErrors(), []
    for sample in predicted_samples(config, args):
        pair = hands_of(sample)
        if pair is not None:
            collected.add(errors_of(*pair))
            # Kept is what single pictures need: a few kilobytes a hand.
            hands.append((image_path(sample), pair[0]))
    if not hands:
        raise ValueError(f"no sample of {args.config} has 3-D labels and a prediction")
    path = args.folder / "joint_errors.png"
    errors = {"MPJPE": collected.joints, "PA-MPJPE": collected.joints_aligned}
    write_joint_errors(path, errors, f"{len(hands)} hands")
    yield path
    mean = collected.mean_of_vertices(args.aligned)
    if mean is None:
        print("no hand has a labelled mesh: errors of vertices are not drawn", file=sys.stderr)
        return
    model = hand_model(config, args.mano)
    yield draw_mean(args, model, mean, len(hands))
    for index in chosen_hands(collected, args):
        name, hand = hands[index]
        errors = collected.samples[index].of_vertices(args.aligned)
        yield draw_hand(args, model, f"{index:05d}_{Path(name).stem}", name, hand, errors)


def chosen_hands(collected: CollectedErrors, args: argparse.Namespace) -> list[int]:
    """Return which hands are drawn alone: the first ones that have a mesh, or the worst."""
    errors = [sample.of_vertices(args.aligned) for sample in collected.samples]
    means = {
        index: float(np.mean(values))
        for index, values in enumerate(errors)
        if values is not None and np.isfinite(values).all()
    }
    order = sorted(means, key=means.get, reverse=True) if args.worst else list(means)
    return order[: args.hands]


def draw_mean(args: argparse.Namespace, model: MANOModel, errors: np.ndarray, count: int) -> Path:
    """Draw the mean errors on the template; return the path."""
    template = np.asarray(model.v_template, np.float64)
    hand = Hand(np.zeros((21, 3)), np.ones(21, bool), template, None, True)
    limit = limit_of(errors, args)
    views = error_views(hand, close_wrist(model.faces), errors, limit, TEMPLATE_VIEWS)
    title = f"mean over {count} hands: {errors.mean():.2f} mm"
    path = args.folder / "mean_vertices.png"
    write_error_heat(path, views, limit, title, bar_label(args))
    return path


def draw_hand(
    args: argparse.Namespace,
    model: MANOModel,
    stem: str,
    image: str,
    hand: Hand,
    errors: np.ndarray,
) -> Path:
    """Draw one hand; return the path."""
    faces = close_wrist(model.faces)
    if not hand.is_right:
        faces = faces[:, [0, 2, 1]]
    limit = limit_of(errors, args)
    pictures = {}
    if hand.camera is not None:
        photograph = mmcv.imread(image, channel_order="rgb")
        larger = Enlargement(max(1.0, _LEAST_HEIGHT / photograph.shape[0]))
        pictures["prediction"] = mesh_over(
            larger.image(photograph),
            hand.vertices,
            faces,
            larger.camera(hand.camera),
            _BLUE,
            _ALPHA,
        )
    pictures |= error_views(hand, faces, errors, limit)
    title = f"{Path(image).name}: mean {errors.mean():.2f} mm, largest {errors.max():.2f} mm"
    path = args.folder / f"{stem}.png"
    write_error_heat(path, pictures, limit, title, bar_label(args))
    return path


def bar_label(args: argparse.Namespace) -> str:
    """Say what the colours are."""
    return f"error in mm, {'aligned' if args.aligned else 'relative to the wrist'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures, say where they are, and return the exit status."""
    args = parse_args(arguments)
    for path in (args.config, args.checkpoint or args.predictions):
        if not Path(path).is_file():
            print(f"error: there is no file {path}", file=sys.stderr)
            return 1
    try:
        for path in draw(args):
            print(path, flush=True)
    except KeyError as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
