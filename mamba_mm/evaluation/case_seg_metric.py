"""Dice, IoU and HD95 as medical segmentation reports them: one value a case and class."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mamba_mm.registry import METRICS

from .surface_distance import HD95_RULES, hd95

NAMES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95"}

_DIAGONAL = "diagonal"


@dataclass(frozen=True)
class EmptyRule:
    """What a class counts in a case where prediction, ground truth or both lack it.

    Each field holds the overlap (Dice and IoU) and the distance (HD95). NaN means that the case
    does not count for this class; ``"diagonal"`` is the longest distance there can be.

    Attributes:
        pred_only: The class was predicted and is not there.
        truth_only: The class is there and was not predicted.
        neither: The class is not there and was not predicted.
    """

    pred_only: tuple[float, float | str]
    truth_only: tuple[float, float | str]
    neither: tuple[float, float | str]


EMPTY_RULES: dict[str, EmptyRule] = {
    "worst": EmptyRule((0.0, _DIAGONAL), (0.0, _DIAGONAL), (math.nan, math.nan)),
    "perfect": EmptyRule((0.0, _DIAGONAL), (0.0, _DIAGONAL), (1.0, 0.0)),
    "skip": EmptyRule((math.nan, math.nan), (0.0, math.nan), (math.nan, math.nan)),
    "official": EmptyRule((1.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
}
"""``worst``: a false or missed class is as wrong as can be, and one that is rightly absent does
not count. ``perfect``: one that is rightly absent counts as perfect. ``skip``: only cases that
have the class count, and only those where it was found have a distance. ``official``: the rule of
the published Synapse figures, which counts every false class as perfect and flatters HD95."""


@METRICS.register_module()
class CaseSegMetric(BaseMetric):
    """Dice, IoU and HD95 of every class in every case, averaged over the cases, then the classes.

    A case is an image, or, where the samples have ``case`` and ``slice_index`` in their
    metainfo, the volume of all slices of that case. Class 0 is the background and is not judged.
    Dice and IoU are in percent, as MMSegmentation's are, HD95 in pixels or, with ``spacing``, in
    its unit. Next to the means ``mDice``, ``mIoU`` and ``mHD95`` there is a value for each class,
    such as ``Dice_liver``. A mean over nothing is NaN.

    Args:
        metrics: Which of ``"dice"``, ``"iou"`` and ``"hd95"``; the last needs MONAI.
        empty: What counts where a class is absent, a key of :data:`EMPTY_RULES`.
        hd95_rule: How two directions become one distance. ``"max"``: the larger of their 95th
            percentiles, as in MONAI. ``"pooled"``: the 95th percentile of the distances of both,
            as in MedPy, with which the published Synapse figures are made.
        spacing: Distances of neighbouring voxels, slices first; ``None`` counts voxels.
        ignore_index: Pixels of this label do not count.
        collect_device: As in MMEngine.
        prefix: As in MMEngine.

    Raises:
        ValueError: When a name is unknown.
    """

    default_prefix = "case"

    def __init__(
        self,
        metrics: Sequence[str] = ("dice", "iou", "hd95"),
        empty: str = "worst",
        hd95_rule: str = "max",
        spacing: Sequence[float] | None = None,
        ignore_index: int = 255,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        for name in metrics:
            _check_name("metric", name, NAMES)
        _check_name("empty rule", empty, EMPTY_RULES)
        _check_name("hd95_rule", hd95_rule, HD95_RULES)
        self.metrics = tuple(metrics)
        self.empty = empty
        self.hd95_rule = hd95_rule
        self.spacing = None if spacing is None else tuple(spacing)
        self.ignore_index = ignore_index

    def process(self, data_batch: Mapping, data_samples: Sequence[Mapping]) -> None:
        """Keep prediction and ground truth of a batch, compressed, until their case is whole.

        Args:
            data_batch: Not used.
            data_samples: Samples as dicts, with ``pred_sem_seg`` and ``gt_sem_seg``.
        """
        for sample in data_samples:
            maps = [
                sample[key]["data"].squeeze(0).cpu().numpy().astype(np.uint8)
                for key in ("pred_sem_seg", "gt_sem_seg")
            ]
            if maps[0].shape != maps[1].shape:
                raise ValueError(
                    f"CaseSegMetric: the prediction for {sample['img_path']} has the size "
                    f"{maps[0].shape}, its labels {maps[1].shape}; in the test pipeline put "
                    "LoadAnnotations after Resize"
                )
            packed = [zlib.compress(m.tobytes(), 1) for m in maps]
            case = sample.get("case", sample["img_path"])
            self.results.append((case, sample.get("slice_index"), maps[0].shape, *packed))

    def compute_metrics(self, results: Sequence[tuple]) -> dict[str, float]:
        """Judge the cases and average.

        Args:
            results: What ``process`` kept, of all ranks.

        Returns:
            Means, and the values of the classes.
        """
        classes = self.dataset_meta["classes"]
        slices = defaultdict(list)
        for case, *rest in results:
            slices[case].append(rest)
        values = {name: np.empty((len(slices), len(classes) - 1)) for name in self.metrics}
        for row, (case, parts) in enumerate(slices.items()):
            pred, truth = _assemble(case, parts)
            for label in range(1, len(classes)):
                judged = self._judge(pred, truth, label)
                for name in self.metrics:
                    values[name][row, label - 1] = judged[name]
        return self._report(values, classes[1:], len(slices))

    def _judge(self, pred: np.ndarray, truth: np.ndarray, label: int) -> dict[str, float]:
        """Value of each metric for one class of one case."""
        counted = truth != self.ignore_index
        found, there = (pred == label) & counted, (truth == label) & counted
        if not (found.any() and there.any()):
            overlap, distance = self._value_if_absent(found.any(), there.any())
            if distance == _DIAGONAL:
                sides = np.array(pred.shape) - 1.0
                distance = float(np.linalg.norm(sides * (self.spacing or 1.0)))
            return {"dice": 100 * overlap, "iou": 100 * overlap, "hd95": distance}
        both, either = np.count_nonzero(found & there), np.count_nonzero(found | there)
        judged = {"dice": 200 * both / (both + either), "iou": 100 * both / either}
        if "hd95" in self.metrics:
            judged["hd95"] = hd95(found, there, self.hd95_rule, self.spacing)
        return judged

    def _value_if_absent(self, found: bool, there: bool) -> tuple[float, float | str]:
        rule = EMPTY_RULES[self.empty]
        if found:
            return rule.pred_only
        return rule.truth_only if there else rule.neither

    def _report(
        self, values: Mapping[str, np.ndarray], classes: Sequence[str], cases: int
    ) -> dict[str, float]:
        print_log(
            f"{cases} cases; absent classes by the rule '{self.empty}': {EMPTY_RULES[self.empty]}; "
            f"HD95 '{self.hd95_rule}'",
            logger="current",
        )
        means = {}
        for name in self.metrics:
            per_class = [_mean(column) for column in values[name].T]
            means[f"m{NAMES[name]}"] = _mean(np.array(per_class))
            means |= {f"{NAMES[name]}_{c}": v for c, v in zip(classes, per_class, strict=True)}
        return means


def _assemble(case: str, parts: Sequence[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Unpack prediction and ground truth of a case, (H, W), or (slices, H, W) in order."""
    if parts[0][0] is not None:
        parts = sorted(parts, key=lambda part: part[0])
    indices = [part[0] for part in parts]
    if len(set(indices)) < len(parts):
        raise ValueError(
            f"CaseSegMetric: case {case} has slices twice, or images without slice_index that "
            f"share its name; got {indices}"
        )
    shapes = {part[1] for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"CaseSegMetric: the slices of case {case} differ in size: {shapes}")
    volumes = []
    for position in (2, 3):
        maps = [
            np.frombuffer(zlib.decompress(part[position]), np.uint8).reshape(part[1])
            for part in parts
        ]
        volumes.append(maps[0] if indices == [None] else np.stack(maps))
    return volumes[0], volumes[1]


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN, and NaN of nothing."""
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else math.nan


def _check_name(kind: str, name: str, known: Mapping) -> None:
    if name not in known:
        raise ValueError(f"CaseSegMetric: unknown {kind} {name!r}; known: {', '.join(known)}")
