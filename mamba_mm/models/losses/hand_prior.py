"""The adversarial prior of poses and shapes: what a hand can be, learnt from real ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from torch import Tensor, nn
from torch.func import functional_call

from mamba_mm.registry import DATASETS, MODELS

from ..body_models.rotations import axis_angle_to_matrix
from .hand_discriminator import NUM_JOINTS, HandDiscriminator

HAMER_WEIGHT = 0.0005
HAMER_BATCH = 8


@MODELS.register_module()
class AdversarialHandPrior(nn.Module):
    """A discriminator between predicted and real hands, with least squares (HaMeR, HMR).

    :meth:`generator_loss` asks the network for hands whose 17 scores are 1, and calling the module
    gives the loss that teaches the discriminator to score them 0 and real hands 1. Neither loss has
    a gradient in what the other one trains.

    Real hands come unpaired from a set of poses and depend on nothing but the seed, the process and
    how many batches were drawn before, which checkpoints remember. The set is opened when the first
    batch is drawn: a trained network does not need it.

    Args:
        poses: Config of the set of real hands: ``dict(type="mamba_mm.MANOPoses", path=...)`` or
            ``dict(type="mamba_mm.ToyMANOPoses")``.
        loss_weight: Weight of the network's loss. HaMeR's is 0.0005, and its other losses are sums
            over a batch of 8 where this package's are means: 0.0005 / 8 keeps their ratio.
        discriminator_loss_weight: Weight of the discriminator's loss, HaMeR's by default.
        real_per_image: Real hands for each predicted one. HaMeR draws 2 and divides by the number
            of predicted ones, so real hands count double.
        seed: Where chance starts.

    Raises:
        ValueError: ``real_per_image`` is not positive, or a weight is negative.
    """

    draws: Tensor
    """Batches of real hands drawn so far."""

    def __init__(
        self,
        poses: Mapping[str, Any],
        *,
        loss_weight: float = HAMER_WEIGHT / HAMER_BATCH,
        discriminator_loss_weight: float = HAMER_WEIGHT,
        real_per_image: int = 2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if real_per_image < 1 or min(loss_weight, discriminator_loss_weight, seed) < 0:
            raise ValueError(
                "AdversarialHandPrior: real_per_image must be 1 or more, and neither weight nor "
                f"seed negative; got {real_per_image}, {loss_weight}, {discriminator_loss_weight} "
                f"and {seed}"
            )
        self.loss_weight = loss_weight
        self.discriminator_loss_weight = discriminator_loss_weight
        self.real_per_image = real_per_image
        self.seed = seed
        self.discriminator = HandDiscriminator()
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))
        self._poses_config = dict(poses)
        self._poses = None

    def generator_loss(self, hand_pose: Tensor, betas: Tensor) -> Tensor:
        """Compute the loss of the network: its hands should pass for real ones.

        Args:
            hand_pose: Predicted rotations of the fingers' joints, (B, 15, 3, 3).
            betas: Predicted shapes, (B, 10).

        Returns:
            A scalar: (score - 1) squared, summed over the scores, mean over the batch.
        """
        # Without a gradient in the discriminator there is none to be cleared before its own step.
        constants = {name: p.detach() for name, p in self.discriminator.named_parameters()}
        scores = functional_call(self.discriminator, constants, (hand_pose, betas))
        return self.loss_weight * _squared_distance(scores, 1.0, len(scores))

    def forward(self, hand_pose: Tensor, betas: Tensor) -> dict[str, Tensor]:
        """Draw real hands and compute the losses of the discriminator.

        Args:
            hand_pose: Predicted rotations of the fingers' joints, (B, 15, 3, 3).
            betas: Predicted shapes, (B, 10).

        Returns:
            Two scalars: ``loss_predicted``, of scores that should be 0, and ``loss_real``, of those
            that should be 1. Both are sums over scores and hands, divided by B.
        """
        count = len(betas)
        real_pose, real_betas = self.draw(self.real_per_image * count)
        # One pass for both: a wrapper that averages gradients expects a backward pass after each.
        scores = self.discriminator(
            torch.cat([hand_pose.detach(), real_pose.to(hand_pose)]),
            torch.cat([betas.detach(), real_betas.to(betas)]),
        )
        predicted, real = scores[:count], scores[count:]
        weight = self.discriminator_loss_weight
        return dict(
            loss_predicted=weight * _squared_distance(predicted, 0.0, count),
            loss_real=weight * _squared_distance(real, 1.0, count),
        )

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw real hands, other ones at every call and in every process.

        Args:
            count: How many.

        Returns:
            Rotations of the fingers' joints (count, 15, 3, 3) and shapes (count, 10).
        """
        if self._poses is None:
            self._poses = DATASETS.build(self._poses_config)
        chance = np.random.default_rng([self.seed, get_rank(), int(self.draws)])
        self.draws += 1
        hand_pose, betas = self._poses.draw(chance, count)
        hand_pose = torch.from_numpy(hand_pose).to(self.draws.device)
        rotations = axis_angle_to_matrix(hand_pose.unflatten(1, (NUM_JOINTS, 3)))
        return rotations, torch.from_numpy(betas).to(self.draws.device)


def _squared_distance(scores: Tensor, target: float, count: int) -> Tensor:
    """Sum over all scores, divided by the number of images."""
    return (scores - target).square().sum() / count
