"""The loss of points on a rigid object."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mamba_mm.registry import MODELS

from .partial_labels import at_least_float32, check_shapes, weighted_mean


@MODELS.register_module()
class CentredKeypoint3DL1Loss(nn.Module):
    """L1 distance of points in space, both sides relative to the mean of their labelled points.

    A hand has a wrist to be measured from; no point of an object is better than the others, and
    an error of a root would count with every point. Reduced as the losses of hands are: a sum over
    points and coordinates, a mean over the whole batch.

    Args:
        loss_weight: Weight of the loss; HaMeR's for joints by default.
    """

    def __init__(self, loss_weight: float = 0.05) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            pred: Points (B, K, 3) in metres.
            target: Labels of the same shape. Those of weight 0 may hold anything, NaN too.
            weight: Confidence (B, K).

        Returns:
            A scalar.

        Raises:
            ValueError: When the shapes do not agree.
        """
        check_shapes(self, pred, target, weight=(weight, pred.shape[:2]))
        pred, target, weight = at_least_float32(pred, target, weight)
        difference = torch.where((weight > 0)[..., None], pred - target, 0.0)
        count = (weight > 0).sum(dim=1).clamp(min=1)
        shift = difference.sum(dim=1) / count[:, None]
        return self.loss_weight * weighted_mean(torch.abs, difference - shift[:, None], weight)
