"""Measure what predicting the mean pose of each class would score.

The rotation is the mean one of the class in the training set. The place comes from the box, which a
network gets too: the object is on the ray through its middle, at the distance at which an object of
this class has a box of this size on average.

Example:
    python tools/analysis_tools/mean_object_pose_errors.py CONFIG
"""

import argparse
import sys
from collections import defaultdict

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS, METRICS

from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation

DATASET = "mamba_mm.BOPObjectDataset"
METRIC = "mamba_mm.ObjectPoseMetric"
# Rounds in which the mean and the symmetric poses nearest to it settle.
_ROUNDS = 20


def parse_args(arguments=None):
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a config of objects, for its data sets and metric")
    return parser.parse_args(arguments)


def records_of(config: dict) -> list[dict]:
    """Read the labels of a data set of objects, or of those in a set of several."""
    records = []
    for own in config.get("datasets", [config]):
        if own["type"] == DATASET:
            dataset: BaseDataset = DATASETS.build({**own, "pipeline": []})
            records += [dataset.get_data_info(index) for index in range(len(dataset))]
    return records


def by_class(records: list[dict]) -> dict[int, list[dict]]:
    """Sort records by the class of their object."""
    classes = defaultdict(list)
    for record in records:
        classes[int(record["object_label"][0])].append(record)
    return classes


def mean_rotation(records: list[dict]) -> np.ndarray:
    """Average rotations of one class, of symmetric poses the one that is nearest to the mean.

    Returns:
        The rotation (3, 3) nearest to the mean of the matrices.
    """
    symmetries = records[0]["symmetries"][0, :, :3, :3].astype(np.float64)
    rotations = np.stack([record["object_rotation"][0] for record in records]).astype(np.float64)
    poses = rotations[:, None] @ symmetries
    mean = nearest_rotation(rotations.mean(axis=0))
    for _ in range(_ROUNDS):
        nearest = np.einsum("nsij,ij->ns", poses, mean).argmax(axis=1)
        mean = nearest_rotation(poses[np.arange(len(poses)), nearest].mean(axis=0))
    return mean


def size_at_one_metre(record: dict) -> float:
    """Return the size of the box, as it would be at a metre and a focal length of a pixel."""
    return box_size(record) * record["object_translation"][0, 2] / record["cam_K"][0, 0, 0]


def box_size(record: dict) -> float:
    """Return the square root of the box's area, in pixels."""
    left, top, right, bottom = record["bbox"][0]
    return float(np.sqrt((right - left) * (bottom - top)))


def place(record: dict, size: float) -> np.ndarray:
    """Find where an object is, (3,), by its box."""
    cam_K = record["cam_K"][0].astype(np.float64)
    middle = (record["bbox"][0, :2] + record["bbox"][0, 2:]) / 2
    depth = cam_K[0, 0] * size / box_size(record)
    return depth * (np.linalg.inv(cam_K) @ [*middle, 1.0])


def main(arguments=None):
    """Print the figures; return the exit status."""
    args = parse_args(arguments)
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get("default_scope", "mmpose"))
    evaluators = [entry for entry in cfg.test_evaluator if entry["type"] == METRIC]
    if not evaluators:
        print(f"error: {args.config} has no {METRIC} in test_evaluator", file=sys.stderr)
        return 1
    means = {
        label: (mean_rotation(own), float(np.mean([size_at_one_metre(r) for r in own])))
        for label, own in by_class(records_of(cfg.train_dataloader.dataset)).items()
    }
    tested = records_of(cfg.test_dataloader.dataset)
    samples = []
    for record in tested:
        rotation, size = means[int(record["object_label"][0])]
        found = dict(
            pnp_rotation=rotation[None], pnp_translation=place(record, size)[None].astype(float)
        )
        samples.append(dict(gt_instances=record, pred_instances=found))
    metric = METRICS.build({**evaluators[0], "pose": "pnp", "per_class": True})
    metric.process(None, samples)
    print(f"the mean pose of each class, {len(tested)} objects:")
    for name, value in metric.evaluate(len(tested)).items():
        print(f"  {name}: {value:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
