"""Errors of each joint and vertex over a set, in millimetres, as the metrics measure them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from mmengine.structures import InstanceData

from mamba_mm.evaluation.functional.hand_comparison import HandComparison, PredictedHand

from .hand_scene import Hand, labelled_hands, predicted_hands


class SampleErrors(NamedTuple):
    """Errors of one hand, millimetres; NaN for joints without label."""

    joints: np.ndarray
    """``(21,)``, relative to the wrist: what MPJPE averages."""
    joints_aligned: np.ndarray
    """``(21,)``, after similarity alignment: what PA-MPJPE averages."""
    vertices: np.ndarray | None
    """``(V,)``, relative to the wrist joint; ``None`` without a labelled mesh of the same size."""
    vertices_aligned: np.ndarray | None
    """``(V,)``, after similarity alignment of the vertices."""

    def of_vertices(self, aligned: bool) -> np.ndarray | None:
        """Return those of the vertices, after alignment or relative to the wrist."""
        return self.vertices_aligned if aligned else self.vertices


def errors_of(predicted: Hand, labelled: Hand) -> SampleErrors:
    """Compare a predicted hand with the labelled one.

    Args:
        predicted: With joints, and vertices or not.
        labelled: Likewise.
    """
    comparison = HandComparison(
        PredictedHand(predicted.joints, predicted.vertices), labelled.joints, labelled.joints_known
    )
    vertices = aligned = None
    if predicted.vertices is not None and np.shape(predicted.vertices) == np.shape(
        labelled.vertices
    ):
        vertices = comparison.vertices_wrist(labelled.vertices)
        aligned = comparison.vertices_aligned(labelled.vertices)
    return SampleErrors(comparison.joints_wrist(), comparison.joints_aligned(), vertices, aligned)


def hands_of(sample: object) -> tuple[Hand, Hand] | None:
    """Return the predicted and the labelled hand of a sample.

    Args:
        sample: A ``PoseDataSample``, or the dict that one becomes in a prediction dump.

    Returns:
        The two; ``None`` where one of them has no 3-D points.

    Raises:
        KeyError: It has no ``pred_instances`` or ``gt_instances``.
    """
    found, truth = (_instances(sample, name) for name in ("pred_instances", "gt_instances"))
    predicted, labelled = predicted_hands(found), labelled_hands(truth)
    return (predicted[0], labelled[0]) if predicted and labelled else None


@dataclass
class CollectedErrors:
    """Errors of the hands of a set.

    Attributes:
        samples: Of each hand that was added.
    """

    samples: list[SampleErrors] = field(default_factory=list)

    def add(self, errors: SampleErrors) -> None:
        """Add those of one hand."""
        self.samples.append(errors)

    @property
    def joints(self) -> np.ndarray:
        """Relative to the wrist, ``(hands, 21)``."""
        return np.stack([sample.joints for sample in self.samples])

    @property
    def joints_aligned(self) -> np.ndarray:
        """Aligned, ``(hands, 21)``."""
        return np.stack([sample.joints_aligned for sample in self.samples])

    def mean_of_vertices(self, aligned: bool = True) -> np.ndarray | None:
        """Average over the hands that have a mesh.

        Args:
            aligned: Whether the errors are those after alignment.

        Returns:
            ``(V,)``; ``None`` without any mesh.
        """
        rows = [sample.of_vertices(aligned) for sample in self.samples]
        rows = [row for row in rows if row is not None and np.isfinite(row).all()]
        return np.mean(rows, axis=0) if rows else None


def _instances(sample: object, name: str) -> InstanceData:
    if name not in sample:
        raise KeyError(
            f"a sample has no {name}; a prediction dump must come from a test with labels"
        )
    instances = sample[name] if isinstance(sample, dict) else getattr(sample, name)
    return InstanceData(**instances) if isinstance(instances, dict) else instances
