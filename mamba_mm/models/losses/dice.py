"""MMSegmentation's Dice loss on what medical segmentation means by it.

The toolbox's ``DiceLoss`` takes one Dice over all classes of an image at once, in which a small
organ hardly counts. And where the logits have a single channel, it compares them with the mask of
class 0, the background. Both losses here hand the toolbox's function other tensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmseg.models.losses.dice_loss import DiceLoss, dice_loss
from torch import Tensor


class BinaryDiceLoss(DiceLoss):
    """Dice of the foreground of every image, from one channel of logits.

    ``1 - (2 |P G| + eps) / (|P| + |G| + eps)``, averaged over the images.

    Args:
        loss_weight: Weight of the loss.
        eps: Smoothing, in pixels.
        loss_name: Name in the log; MMSegmentation adds those with ``loss_`` in front.
    """

    def __init__(
        self, loss_weight: float = 1.0, eps: float = 1.0, loss_name: str = "loss_dice"
    ) -> None:
        super().__init__(naive_dice=True, loss_weight=loss_weight, eps=eps, loss_name=loss_name)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: Logits (N, 1, H, W).
            target: Labels (N, H, W), 1 for the foreground.
            weight: Weights of the images, (N,).
            ignore_index: Pixels of this label do not count.

        Raises:
            ValueError: When there are more channels than one.
        """
        if pred.dim() != 4 or pred.shape[1] != 1:
            raise ValueError(
                f"BinaryDiceLoss: expected logits of shape (N, 1, H, W), got {tuple(pred.shape)}; "
                "for several channels use mamba_mm.ClassDiceLoss"
            )
        counted = _counted(target, ignore_index)
        probability = pred.squeeze(1).sigmoid() * counted
        # dice_loss's own ignore_index is a class; here no class is left out.
        return self.loss_weight * dice_loss(
            probability,
            target * counted,
            weight,
            eps=self.eps,
            naive_dice=self.naive_dice,
            ignore_index=None,
        )


class ClassDiceLoss(DiceLoss):
    """Dice of every class over the whole batch, averaged over the classes.

    V-Net's form (arXiv 1606.04797, section 3): the sums in the denominator are of squares.

    Args:
        loss_weight: Weight of the loss.
        eps: What keeps a class that the batch does not show from dividing by zero.
        loss_name: Name in the log; MMSegmentation adds those with ``loss_`` in front.
    """

    def __init__(
        self, loss_weight: float = 1.0, eps: float = 1e-5, loss_name: str = "loss_dice"
    ) -> None:
        super().__init__(loss_weight=loss_weight, eps=eps, loss_name=loss_name)

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        ignore_index: int | None = 255,
    ) -> Tensor:
        """Compute the loss.

        Args:
            pred: Logits (N, C, H, W), C at least 2.
            target: Labels (N, H, W).
            weight: Weights of the classes, (C,).
            ignore_index: Pixels of this label do not count.

        Raises:
            ValueError: When there is one channel only.
        """
        if pred.dim() != 4 or pred.shape[1] < 2:
            raise ValueError(
                f"ClassDiceLoss: expected logits of shape (N, C, H, W) with C of 2 or more, got "
                f"{tuple(pred.shape)}; for one channel use mamba_mm.BinaryDiceLoss"
            )
        counted = _counted(target, ignore_index)
        probability = pred.softmax(dim=1) * counted.unsqueeze(1)
        labels = F.one_hot(target * counted, pred.shape[1]).movedim(-1, 1)
        labels = labels * counted.unsqueeze(1)
        # dice_loss takes one Dice for each entry of the first dimension: the classes.
        return self.loss_weight * dice_loss(
            torch.transpose(probability, 0, 1),
            torch.transpose(labels, 0, 1),
            weight,
            eps=self.eps,
            naive_dice=self.naive_dice,
            ignore_index=None,
        )


def _counted(target: Tensor, ignore_index: int | None) -> Tensor:
    """Mask of the pixels that count."""
    if ignore_index is None:
        return torch.ones_like(target, dtype=torch.bool)
    return target != ignore_index
