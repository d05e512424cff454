"""Share of 2-D hand joints that are near the truth, as HaMeR evaluates on HInt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mamba_mm.registry import METRICS

from .functional import pck


@METRICS.register_module()
class HandKeypointPCK(BaseMetric):
    """Percentage of correct keypoints of one hand an image, keys such as ``PCK@0.05``.

    A joint is correct if it is within ``threshold`` times the longest side of the labelled box, not
    enlarged (``<=``), both in pixels of the original image. Joints count where the confidence of
    their label is above ``min_confidence``. The share is taken for each joint over the samples that
    label it, then averaged over the joints; joints that no sample labels are left out (HaMeR's own
    script gives NaN then). Which joints count, all, visible or occluded ones, is a matter of the
    data set.

    Reads ``pred_instances.keypoints`` and, of ``gt_instances``, ``keypoints``,
    ``keypoints_visible`` and ``bboxes``. Values are shares from 0 to 1, for MMPose's PCK too;
    HaMeR's table has percentages.

    Args:
        thresholds: In units of the box's longest side. HaMeR's by default.
        min_confidence: Labels need more confidence than that.
        collect_device: As in MMEngine.
        prefix: As in MMEngine; ``"hand2d"`` by default.
        collect_dir: As in MMEngine.

    Raises:
        ValueError: There are no thresholds, or they are not positive.
    """

    default_prefix = "hand2d"

    def __init__(
        self,
        thresholds: Sequence[float] = (0.05, 0.1, 0.15),
        min_confidence: float = 0.5,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        if not thresholds or not all(threshold > 0 for threshold in thresholds):
            raise ValueError(
                f"HandKeypointPCK: thresholds must be positive numbers, got {list(thresholds)}"
            )
        self.thresholds = tuple(thresholds)
        self.min_confidence = min_confidence

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Measure a batch.

        Args:
            data_batch: Not used.
            data_samples: Samples as dicts, with ``pred_instances`` and ``gt_instances`` of one
                hand each.

        Raises:
            KeyError: A sample lacks what is needed.
            ValueError: A shape is wrong, a box is empty, or a joint that counts is not finite.
        """
        for sample in data_samples:
            predicted = _field(sample, "pred_instances", "keypoints", (1, 21, 2))[0]
            labelled = _field(sample, "gt_instances", "keypoints", (1, 21, 2))[0]
            confidence = _field(sample, "gt_instances", "keypoints_visible", (1, 21))[0]
            x1, y1, x2, y2 = _field(sample, "gt_instances", "bboxes", (1, 4))[0]
            side, counts = max(x2 - x1, y2 - y1), confidence > self.min_confidence
            for joints, what in ((predicted, "prediction for"), (labelled, "label of")):
                if not np.isfinite(joints[counts]).all():
                    raise ValueError(f"HandKeypointPCK: the {what} {_name(sample)} is not finite")
            if not side > 0:
                raise ValueError(f"HandKeypointPCK: the box of {_name(sample)} is empty")
            distances = np.linalg.norm(predicted - labelled, axis=-1) / side
            self.results.append(np.where(counts, distances, np.nan))

    def compute_metrics(self, results: Sequence[np.ndarray]) -> dict[str, float]:
        """Average over the samples.

        Args:
            results: What ``process`` kept, of all ranks.

        Returns:
            The metrics by name.

        Raises:
            ValueError: No joint of any sample is labelled.
        """
        distances = np.stack(results)
        labelled = ~np.isnan(distances)
        if not labelled.any():
            raise ValueError(
                f"HandKeypointPCK: none of {len(results)} samples labels a joint with a confidence "
                f"above {self.min_confidence:g}; check keypoints_visible of the data set"
            )
        joints = labelled.any(axis=0).sum()
        print_log(
            f"HandKeypointPCK: {len(results)} samples, {labelled.sum()} labels of {joints} joints",
            "current",
        )
        return {
            f"PCK@{threshold:g}": float(pck(distances, threshold)) for threshold in self.thresholds
        }


def _field(sample: Mapping, part: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """One field of a sample's hand, in float64."""
    if key not in sample[part]:
        raise KeyError(
            f"HandKeypointPCK: {part} of {_name(sample)} has no {key}, only "
            f"{', '.join(sorted(sample[part]))}"
        )
    value = sample[part][key]
    value = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if value.shape != shape:
        raise ValueError(
            f"HandKeypointPCK: {key} of {_name(sample)} has the shape {value.shape}, expected is "
            f"{shape}"
        )
    return value.astype(np.float64)


def _name(sample: Mapping) -> str:
    return str(sample.get("img_path", "a sample without img_path"))
