"""Losses of hand mesh recovery: HaMeR's terms, which Hamba follows.

Labels of a mixed set are partial: a sample of a 2-D set has no joints in space, an unlabelled one
no hand parameters. Every loss therefore takes weights, and all of them reduce alike: a sum over
joints and coordinates, then a mean over the **whole** batch. A masked sample counts in the
denominator, so the terms keep their ratio in every batch. HaMeR sums over the batch as well.

Where nothing is labelled a loss is a zero that still has a gradient, as distributed training wants
one for every parameter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from .partial_labels import at_least_float32, check_shapes, weighted_mean


@MODELS.register_module()
class Keypoint2DL1Loss(nn.Module):
    """L1 distance of keypoints in the crop, weighted by their confidence.

    Args:
        loss_weight: Weight of the loss; 0.01 in HaMeR.
    """

    def __init__(self, loss_weight: float = 0.01) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred: Keypoints (B, K, 2), normalised by the height of the crop.
            target: Labels of the same shape. Those of weight 0 may hold anything, NaN too.
            weight: Confidence (B, K).

        Returns:
            A scalar.

        Raises:
            ValueError: When the shapes do not agree.
        """
        check_shapes(self, pred, target, weight=(weight, pred.shape[:2]))
        pred, target, weight = at_least_float32(pred, target, weight)
        return self.loss_weight * weighted_mean(torch.abs, pred - target, weight)


@MODELS.register_module()
class RootAlignedKeypoint3DL1Loss(nn.Module):
    """L1 distance of joints in space, both sides relative to their root joint.

    Without a root there is nothing to align with: a sample whose root is not labelled contributes
    nothing.

    Args:
        root: Index of the root joint; 0 is the wrist.
        loss_weight: Weight of the loss; 0.05 in HaMeR.
    """

    def __init__(self, root: int = 0, loss_weight: float = 0.05) -> None:
        super().__init__()
        self.root = root
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred: Joints (B, K, 3) in metres.
            target: Labels of the same shape. Those of weight 0 may hold anything, NaN too.
            weight: Confidence (B, K).

        Returns:
            A scalar.

        Raises:
            ValueError: When the shapes do not agree.
        """
        check_shapes(self, pred, target, weight=(weight, pred.shape[:2]))
        pred, target, weight = at_least_float32(pred, target, weight)
        has_root = weight[:, self.root, None] > 0
        difference = _relative_to(pred, pred[:, self.root]) - _relative_to(
            target, target[:, self.root]
        )
        return self.loss_weight * weighted_mean(torch.abs, difference, weight * has_root)


@MODELS.register_module()
class ParameterL2Loss(nn.Module):
    """Squared distance of parameters of the hand, summed over a sample's numbers.

    For the global orientation and the hand pose as rotation matrices, and for the shape.

    Args:
        loss_weight: Weight of the loss. HaMeR has 0.001 for the global orientation and for the
            pose, 0.0005 for the shape.
        absent_weight: Weight of samples without labels, which are then drawn to zero. HaMeR has 1
            for the shape, of which zero is the mean.

    Raises:
        ValueError: When ``absent_weight`` is negative.
    """

    def __init__(self, loss_weight: float, absent_weight: float = 0.0) -> None:
        super().__init__()
        if absent_weight < 0:
            raise ValueError(
                f"ParameterL2Loss: absent_weight must not be negative, got {absent_weight}"
            )
        self.loss_weight = loss_weight
        self.absent_weight = absent_weight

    def forward(self, pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred: Parameters (B, ...).
            target: Labels of the same shape. Those of invalid samples may hold anything, NaN too.
            valid: Weight of each sample, (B,); 0 where it has no labels.

        Returns:
            A scalar.

        Raises:
            ValueError: When the shapes do not agree.
        """
        check_shapes(self, pred, target, valid=(valid, pred.shape[:1]))
        pred, target, valid = at_least_float32(pred, target, valid)
        loss = weighted_mean(torch.square, pred - target, valid)
        if self.absent_weight:
            absent = (valid == 0) * self.absent_weight
            loss = loss + weighted_mean(torch.square, pred, absent)
        return self.loss_weight * loss


@MODELS.register_module()
class VertexL1Loss(nn.Module):
    """L1 distance of the vertices of two meshes, each relative to its root joint.

    Neither HaMeR nor, as far as is known, Hamba has this term, so it weighs nothing by default.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 0.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, valid: Tensor, pred_root: Tensor, target_root: Tensor
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: Vertices (B, V, 3) in metres.
            target: Labels of the same shape. Those of invalid samples may hold anything, NaN too.
            valid: Weight of each sample, (B,); 0 where it has no vertices or no root.
            pred_root: Root joints (B, 3) of the predictions.
            target_root: Root joints (B, 3) of the labels.

        Returns:
            A scalar.

        Raises:
            ValueError: When the shapes do not agree.
        """
        root_shape = (pred.shape[0], pred.shape[-1])
        check_shapes(
            self,
            pred,
            target,
            valid=(valid, pred.shape[:1]),
            pred_root=(pred_root, root_shape),
            target_root=(target_root, root_shape),
        )
        pred, target, valid = at_least_float32(pred, target, valid)
        pred_root, target_root = at_least_float32(pred_root, target_root)
        difference = _relative_to(pred, pred_root) - _relative_to(target, target_root)
        return self.loss_weight * weighted_mean(torch.abs, difference, valid)


def _relative_to(points: Tensor, root: Tensor) -> Tensor:
    """Points (B, N, 3) seen from a root (B, 3)."""
    return points - root.unsqueeze(1)
