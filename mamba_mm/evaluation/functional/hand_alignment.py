"""The two alignments under which hand meshes are compared: similarity and FreiHAND's own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_COINCIDING = 1e-12
_FREIHAND_EPSILON = 1e-8


class SimilarityTransform(NamedTuple):
    """``scale * matrix @ (point - source_center) + target_center``.

    Attributes:
        scale: The factor.
        matrix: ``(3, 3)``, orthogonal; a rotation unless the alignment allows reflections.
        source_center: ``(3,)``.
        target_center: ``(3,)``.
    """

    scale: float
    matrix: np.ndarray
    source_center: np.ndarray
    target_center: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Transform ``(N, 3)`` points."""
        return self.scale * (points - self.source_center) @ self.matrix.T + self.target_center


def similarity_transform(
    pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None = None
) -> SimilarityTransform:
    """Return the rotation, scale and shift that bring ``pred`` closest to ``gt``.

    Least squares over the valid points (Umeyama, 1991), without reflections. Predicted points
    that coincide leave the rotation and the scale open; they go to the mean of ``gt``.

    Args:
        pred: ``(N, 3)``, metres.
        gt: ``(N, 3)``, metres.
        valid: ``(N,)`` of bool; the others have no influence. ``None``: all.

    Raises:
        ValueError: The shapes differ, or no point is valid.
    """
    source, target, source_center, target_center = _centred(pred, gt, valid)
    spread = np.sum(source**2)
    if spread < _COINCIDING:
        return SimilarityTransform(0.0, np.eye(3), source_center, target_center)
    left, singular, right = np.linalg.svd(source.T @ target)
    sign = np.sign(np.linalg.det(left @ right))
    signs = np.array([1.0, 1.0, sign])
    rotation = (right.T * signs) @ left.T
    return SimilarityTransform(
        float(singular @ signs / spread), rotation, source_center, target_center
    )


def freihand_transform(
    pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None = None
) -> SimilarityTransform:
    """Return the alignment of FreiHAND's evaluation script, which **may reflect**.

    Both sides are divided by their norm + 1e-8 and aligned by the best orthogonal matrix. For
    predictions near the truth it equals :func:`similarity_transform`; for one of the wrong hand
    side it reports a fraction of the error.

    Args:
        pred: ``(N, 3)``, metres.
        gt: ``(N, 3)``, metres.
        valid: ``(N,)`` of bool; the others have no influence. ``None``: all.

    Raises:
        ValueError: The shapes differ, or no point is valid.
    """
    source, target, source_center, target_center = _centred(pred, gt, valid)
    source_norm = np.linalg.norm(source) + _FREIHAND_EPSILON
    target_norm = np.linalg.norm(target) + _FREIHAND_EPSILON
    left, singular, right = np.linalg.svd((source / source_norm).T @ (target / target_norm))
    return SimilarityTransform(
        float(singular.sum() * target_norm / source_norm),
        (left @ right).T,
        source_center,
        target_center,
    )


ALIGNMENTS = {"similarity": similarity_transform, "freihand": freihand_transform}
"""Function that estimates the transform, by the name in configs."""


def similarity_align(
    pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Return ``pred`` ``(N, 3)`` under its :func:`similarity_transform` to ``gt``."""
    return similarity_transform(pred, gt, valid).apply(pred)


def procrustes_freihand(
    pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None = None
) -> np.ndarray:
    """Return ``pred`` ``(N, 3)`` under its :func:`freihand_transform` to ``gt``."""
    return freihand_transform(pred, gt, valid).apply(pred)


def _centred(
    pred: np.ndarray, gt: np.ndarray, valid: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Valid points of both sides in float64 without their means, and the means."""
    if pred.shape != gt.shape or pred.ndim != 2 or pred.shape[1] != 3:
        raise ValueError(
            f"two arrays of one shape (N, 3) can be aligned, not {pred.shape} with {gt.shape}"
        )
    if valid is not None:
        pred, gt = pred[valid], gt[valid]
    if not len(pred):
        raise ValueError("no valid point to align by")
    pred, gt = pred.astype(np.float64), gt.astype(np.float64)
    pred_mean, gt_mean = pred.mean(0), gt.mean(0)
    return pred - pred_mean, gt - gt_mean, pred_mean, gt_mean
