"""A depth network that somebody saved with its code, as TorchScript."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.registry import MODELS


@MODELS.register_module()
class TorchScriptDepthEstimator(nn.Module):
    """Runs a file of ``torch.jit.save`` as the estimator of ``mamba_mm.EstimateDepth``.

    Any network for single images can be made such a file where its own code is installed:
    ``torch.jit.save(torch.jit.trace(network.eval(), torch.zeros(1, 3, 384, 384)), "depth.pt")``.
    A TorchScript file is a program: run only those of a known origin.

    Args:
        path: The file.
        size: Height and width that photos are resized to for it, as for a traced transformer;
            ``None`` leaves them as they are.
        mean: Subtracted from red, green and blue, 0..1; by default ImageNet's.
        std: What they are then divided by.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no TorchScript, or ``size`` is no height and width.
    """

    def __init__(
        self,
        path: str | Path,
        size: Sequence[int] | None = None,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"TorchScriptDepthEstimator: size must be (height, width), got {size}")
        if not Path(path).is_file():
            raise FileNotFoundError(f"TorchScriptDepthEstimator: there is no file {path}")
        self.size = None if size is None else tuple(size)
        try:
            self.network = torch.jit.load(str(path), map_location="cpu")
        except RuntimeError as error:
            raise ValueError(
                f"TorchScriptDepthEstimator: {path} is no TorchScript; a checkpoint holds weights "
                "alone, make one that holds the code too with torch.jit.trace and torch.jit.save"
            ) from error
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Estimate depth maps.

        Args:
            images: (B, 3, H, W), red green blue, 0..1.

        Returns:
            What the network gives, (B, h, w) or (B, 1, h, w).
        """
        if self.size is not None:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True)
        return self.network((images - self.mean) / self.std)
