"""Batches of crops with depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpose.models.data_preprocessors import PoseDataPreprocessor
from torch import Tensor


class RGBDPoseDataPreprocessor(PoseDataPreprocessor):
    """MMPose's preprocessor for the three colours of images whose further channels are depth.

    The order of the channels and ``mean`` and ``std`` concern the first three alone; depth passes
    as ``mamba_mm.AppendDepth`` made it, padded with 0, which stands for unknown.

    Args:
        mean: As in MMPose.
        std: As in MMPose.
        pad_size_divisor: As in MMPose.
        pad_value: As in MMPose, of the colours.
        bgr_to_rgb: As in MMPose.
        rgb_to_bgr: As in MMPose.
        non_blocking: As in MMPose.
        depth_channels: How many channels follow the colours.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        bgr_to_rgb: bool = False,
        rgb_to_bgr: bool = False,
        non_blocking: bool = False,
        depth_channels: int = 1,
    ) -> None:
        super().__init__(
            mean=mean,
            std=std,
            pad_size_divisor=pad_size_divisor,
            pad_value=pad_value,
            bgr_to_rgb=bgr_to_rgb,
            rgb_to_bgr=rgb_to_bgr,
            non_blocking=non_blocking,
        )
        self.depth_channels = depth_channels

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise the colours of a batch and put depth beside them again.

        Args:
            data: ``inputs``, crops (3 + depth_channels, H, W) in a list or a tensor, and
                ``data_samples``.
            training: As in MMPose.

        Returns:
            ``inputs``, (B, 3 + depth_channels, H', W'), float32, and ``data_samples``.

        Raises:
            ValueError: The crops have other channels.
        """
        crops = list(data["inputs"])
        for crop in crops:
            if crop.shape[0] != 3 + self.depth_channels:
                raise ValueError(
                    f"RGBDPoseDataPreprocessor: expected crops of {3 + self.depth_channels} "
                    f"channels, got the shape {tuple(crop.shape)}; the pipeline needs "
                    "mamba_mm.AppendDepth before PackPoseInputs"
                )
        batch = super().forward({**data, "inputs": [crop[:3] for crop in crops]}, training)
        colours = batch["inputs"]
        depth = torch.stack([self._padded(crop[3:], colours) for crop in crops])
        return {**batch, "inputs": torch.cat([colours, depth], dim=1)}

    @staticmethod
    def _padded(depth: Tensor, colours: Tensor) -> Tensor:
        """Bring depth (D, H, W) to the device, type and size of the batch of colours."""
        missing = [n - m for n, m in zip(colours.shape[-2:], depth.shape[-2:], strict=True)]
        return F.pad(depth.to(colours), (0, missing[1], 0, missing[0]))
