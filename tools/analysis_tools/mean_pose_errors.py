"""Measure what predicting one and the same hand for every image would score.

Two such hands are tried: MANO's mean pose, and the mean pose and shape of the training set. With
the output of an evaluation of the same config it prints how far a model is below them.

Example:
    python tools/analysis_tools/mean_pose_errors.py CONFIG --evaluation evaluation.txt
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS, METRICS

from mamba_mm.models.body_models import MANOLayer, axis_angle_to_matrix

METRIC_NAMES = ("PA-MPJPE", "PA-MPVPE")


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a hand-mesh config, for its data sets and MANO model")
    parser.add_argument(
        "--evaluation", metavar="FILE", help="text with the lines that tools/test.py printed"
    )
    return parser.parse_args(arguments)


def build_dataset(config: dict) -> BaseDataset:
    """Build a data set that gives labels alone."""
    return DATASETS.build({**config, "pipeline": []})


def mean_hand(dataset: BaseDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Average the hands of a data set that have MANO parameters, as right hands.

    Returns:
        Rotations (16, 3, 3), each the one nearest to the mean of its matrices, and betas (10,).
    """
    records = [record for record in map(dataset.get_data_info, range(len(dataset)))]
    records = [record for record in records if record["has_mano"].all()]
    if not records:
        raise ValueError("no sample of the training set has MANO parameters, so it has no mean")
    poses = np.stack([record["mano_pose"][0].reshape(16, 3) for record in records])
    left = np.array([record["is_right"][0] == 0 for record in records])
    poses[left] *= (1, -1, -1)  # the mirrored rotation
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).double()).mean(dim=0)
    u, _, v = torch.linalg.svd(matrices)
    u[..., -1] *= torch.linalg.det(u @ v)[:, None]
    betas = np.mean([record["mano_betas"][0] for record in records], axis=0)
    return u @ v, torch.from_numpy(betas).double()


def errors_of(
    layer: MANOLayer, rotations: torch.Tensor, betas: torch.Tensor, dataset: BaseDataset
) -> dict[str, float]:
    """Score one hand, given as a right one, as the prediction for all samples."""
    hand = layer(rotations[None, :1], rotations[None, 1:], betas[None])
    joints, vertices = hand.joints.numpy(), hand.vertices.numpy()
    metric = METRICS.build(dict(type="mamba_mm.HandMeshMetric", metrics=METRIC_NAMES))
    for record in map(dataset.get_data_info, range(len(dataset))):
        side = (1, 1, 1) if record["is_right"][0] else (-1, 1, 1)
        prediction = dict(keypoints_3d=joints * side, vertices=vertices * side)
        metric.process(None, [dict(pred_instances=prediction, gt_instances=record)])
    return metric.evaluate(len(dataset))


def read_evaluation(path: str) -> dict[str, float]:
    """Find the metrics that a test printed, the last of each name.

    Raises:
        ValueError: When one is missing.
    """
    found = dict(re.findall(r"(mesh/[\w@-]+): (\d+(?:\.\d+)?)", Path(path).read_text()))
    wanted = [f"mesh/{name}" for name in METRIC_NAMES]
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(
            f"{path} has no {' and no '.join(missing)}; save what tools/test.py prints"
        )
    return {name: float(found[name]) for name in wanted}


def report(rows: dict[str, dict[str, float]], model: dict[str, float] | None) -> str:
    """Return a Markdown table: a row a hand, and how far the model is below it."""
    lines = ["| prediction, mm | PA-MPJPE | PA-MPVPE |", "| --- | --- | --- |"]
    for name, errors in rows.items():
        cells = []
        for metric in (f"mesh/{name}" for name in METRIC_NAMES):
            below = f" (model: {1 - model[metric] / errors[metric]:.0%} below)" if model else ""
            cells.append(f"{errors[metric]:.2f}{below}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if model:
        lines.append(f"| model | {' | '.join(f'{value:.2f}' for value in model.values())} |")
    return "\n".join(lines)


@torch.no_grad()
def main(arguments=None):
    """Print the table; return the exit status."""
    args = parse_args(arguments)
    config = Config.fromfile(args.config)
    init_default_scope(config.default_scope)
    try:
        model = read_evaluation(args.evaluation) if args.evaluation else None
        layer = MANOLayer(**config.model.head.output_model.get("mano", {})).double()
        train = build_dataset(config.train_dataloader.dataset)
        held_out = build_dataset(config.test_dataloader.dataset)
        mean_pose = torch.cat([torch.zeros(3), layer.hands_mean]).reshape(16, 3)
        hands = {
            "the mean pose of the model file": (axis_angle_to_matrix(mean_pose), torch.zeros(10)),
            "the mean hand of the training set": mean_hand(train),
        }
        rows = {
            name: errors_of(layer, rotations.double(), betas.double(), held_out)
            for name, (rotations, betas) in hands.items()
        }
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report(rows, model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
