"""Tells poses and shapes of real hands from predicted ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUM_JOINTS = 15
NUM_BETAS = 10
NUM_SCORES = NUM_JOINTS + 2


class HandDiscriminator(nn.Module):
    """The discriminator of HMR (Kanazawa et al., CVPR 2018, section 3.3), as in HaMeR.

    Three kinds of heads: one for the rotation of each joint, one for the shape, one for the pose
    as a whole. The features of a joint's rotation are computed by the same two layers for all
    joints. 1,545,211 parameters.

    Autocast is off inside: it is small, and 16 bits have no room for its gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self.joint_features = nn.Sequential(
            nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()
        )
        self.joint_heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(NUM_JOINTS))
        self.shape_head = nn.Sequential(
            nn.Linear(NUM_BETAS, 10), nn.ReLU(), nn.Linear(10, 5), nn.ReLU(), nn.Linear(5, 1)
        )
        self.pose_head = nn.Sequential(
            nn.Linear(32 * NUM_JOINTS, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.Linear(1024, 1),
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, hand_pose: Tensor, betas: Tensor) -> Tensor:
        """Judge hands.

        Args:
            hand_pose: Rotations of MANO's joints 1 to 15, absolute, (B, 15, 3, 3).
            betas: Shape, (B, 10).

        Returns:
            (B, 17): 15 scores of the joints, one of the shape, one of the whole pose. Towards 1 for
            what is taken for real, towards 0 for the rest.

        Raises:
            ValueError: The shapes are others.
        """
        expected = ((len(betas), NUM_JOINTS, 3, 3), (len(betas), NUM_BETAS))
        if (tuple(hand_pose.shape), tuple(betas.shape)) != expected:
            raise ValueError(
                "HandDiscriminator: expected rotations (B, 15, 3, 3) of the fingers' joints and "
                f"betas (B, 10), got {tuple(hand_pose.shape)} and {tuple(betas.shape)}"
            )
        with torch.autocast(betas.device.type, enabled=False):
            features = self.joint_features(hand_pose.flatten(2))
            scores = [head(features[:, i]) for i, head in enumerate(self.joint_heads)]
            scores += [self.shape_head(betas), self.pose_head(features.flatten(1))]
            return torch.cat(scores, dim=1)
