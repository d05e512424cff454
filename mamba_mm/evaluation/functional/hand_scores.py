"""Mean errors, F-scores, PCK and AUC, with FreiHAND's comparisons and orders of averaging.

Distances are ``(samples, points)``. NaN marks a point that has no label: it does not count. An
infinite distance is a miss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_error(distances: np.ndarray) -> float:
    """Return the mean over the samples for each point, then over the points.

    Points that are never labelled are left out. Without any label the result is NaN.

    Args:
        distances: ``(samples, points)``, NaN for points without label.
    """
    labelled = ~np.isnan(distances)
    sums = np.where(labelled, distances, 0).sum(0, dtype=np.float64)
    return _mean_of_labelled(sums, labelled.sum(0))


def pck(distances: np.ndarray, threshold: float) -> float:
    """Return the share of samples within the threshold (``<=``), averaged over the points.

    Args:
        distances: ``(samples, points)``, NaN for points without label.
        threshold: In the unit of the distances.
    """
    # In float64: NumPy would round the threshold to the float32 of the distances.
    hits = (distances.astype(np.float64) <= threshold).sum(0)
    return _mean_of_labelled(hits, (~np.isnan(distances)).sum(0))


def pck_curve(
    distances: np.ndarray, auc_range: tuple[float, float] = (0.0, 50.0), steps: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Return thresholds, both ends of the range among them, and the PCK at each.

    Args:
        distances: ``(samples, points)``, NaN for points without label.
        auc_range: First and last threshold, in the unit of the distances.
        steps: How many thresholds.
    """
    thresholds = np.linspace(*auc_range, steps)
    return thresholds, np.array([pck(distances, threshold) for threshold in thresholds])


def pck_auc(
    distances: np.ndarray, auc_range: tuple[float, float] = (0.0, 50.0), steps: int = 100
) -> float:
    """Return the area under the PCK curve by the trapezoid rule, over the width of the range.

    All distances zero give 1, all beyond the range 0. The area of the mean curve is the mean of
    the areas of the points' curves.

    Args:
        distances: ``(samples, points)``, NaN for points without label.
        auc_range: First and last threshold, in the unit of the distances.
        steps: How many thresholds.
    """
    thresholds, values = pck_curve(distances, auc_range, steps)
    heights = (values[1:] + values[:-1]) / 2
    return float(heights @ np.diff(thresholds) / (thresholds[-1] - thresholds[0]))


def nearest_distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each point's distance to the nearest of the other set, for both sets.

    Args:
        first: ``(N, 3)``.
        second: ``(M, 3)``.

    Returns:
        ``(N,)`` and ``(M,)``, in float64.
    """
    squares = np.zeros((len(first), len(second)))
    differences = np.empty_like(squares)
    # One axis at a time: the differences themselves, as |a|² + |b|² - 2ab cancels near zero.
    for axis in range(3):
        np.subtract.outer(first[:, axis], second[:, axis], out=differences, dtype=np.float64)
        squares += np.square(differences, out=differences)
    return np.sqrt(squares.min(1)), np.sqrt(squares.min(0))


def fscore(pred: np.ndarray, gt: np.ndarray, thresholds: Sequence[float]) -> list[float]:
    """Return the F-score of two sets of vertices at each threshold.

    The harmonic mean of two shares: of the ground truth that has a prediction nearer (``<``) than
    the threshold, and of the prediction that has ground truth nearer.

    Args:
        pred: ``(M, 3)``.
        gt: ``(N, 3)``.
        thresholds: In the unit of the vertices.
    """
    to_pred, to_gt = nearest_distances(gt, pred)
    scores = []
    for threshold in thresholds:
        found, right = np.mean(to_pred < threshold), np.mean(to_gt < threshold)
        both = found + right
        scores.append(float(2 * found * right / both) if both else 0.0)
    return scores


def _mean_of_labelled(sums: np.ndarray, counts: np.ndarray) -> float:
    """Mean over the points that have labels of ``sum / count``; NaN without any."""
    labelled = counts > 0
    return float(np.mean(sums[labelled] / counts[labelled])) if labelled.any() else float("nan")
