"""Depth maps from a network that estimates them from the photo."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mamba_mm.registry import MODELS, TRANSFORMS

from .depth_maps import add_depth, check_kind


@TRANSFORMS.register_module()
class EstimateDepth(BaseTransform):
    """Estimate the depth of an image, for ``mamba_mm.AppendDepth`` further on in the pipeline.

    It does for photos without a depth map what ``mamba_mm.LoadDepth`` does for those with one, and
    adds the same. Place it after ``LoadImage``. The network runs on every image anew, in the
    process that loads it: to train, write the maps to files once
    (``tools/dataset_converters/estimate_depth.py``).

    Args:
        estimator: Config of a model. It is called with one photo (1, 3, H, W), float32, red green
            blue, 0..1, and returns a map (1, h, w) or (1, 1, h, w) of any size, which is resized.
            ``mamba_mm.TorchScriptDepthEstimator`` makes one of a file.
        kind: What the values are: ``"inverse_depth"``, larger where it is nearer, as most networks
            for single images give, or ``"depth"``.
        device: Where it runs. With a GPU the loader must have no workers (``num_workers=0``).

    Raises:
        ValueError: The kind is unknown.
    """

    def __init__(self, estimator: dict, kind: str = "inverse_depth", device: str = "cpu") -> None:
        self.kind = check_kind("EstimateDepth", kind)
        self.device = torch.device(device)
        self.estimator = MODELS.build(estimator).to(self.device).eval().requires_grad_(False)

    def transform(self, results: dict) -> dict:
        """Estimate the depth of a sample's image.

        Args:
            results: The sample; its image is as it was loaded, (H, W, 3), blue green red.

        Returns:
            The sample.

        Raises:
            ValueError: The estimator returns something else than a map.
        """
        return add_depth(results, self.estimate(results["img"]), self.kind, "EstimateDepth")

    def estimate(self, image: np.ndarray) -> np.ndarray:
        """Estimate a map.

        Args:
            image: (H, W, 3), blue green red, 0..255.

        Returns:
            (H, W), float32. Inverse depth is shifted above zero if need be, as all of it is known.

        Raises:
            ValueError: The estimator returns something else than a map of finite values.
        """
        photo = torch.from_numpy(np.ascontiguousarray(image[..., ::-1], dtype=np.float32) / 255)
        with torch.no_grad():
            values = self.estimator(photo.permute(2, 0, 1)[None].to(self.device))
        if values.dim() == 4 and values.shape[1] == 1:
            values = values[:, 0]
        if values.dim() != 3 or values.shape[0] != 1:
            raise ValueError(
                f"EstimateDepth: {type(self.estimator).__name__} returned the shape "
                f"{tuple(values.shape)} for one image; expected (1, H, W) or (1, 1, H, W)"
            )
        height, width = image.shape[:2]
        found = values[0].float().cpu().numpy()
        if not np.isfinite(found).all():
            raise ValueError(
                f"EstimateDepth: {type(self.estimator).__name__} returned values that are not "
                "finite; if it computes in half precision, save it in single"
            )
        found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
        return self._above_zero(found)

    def _above_zero(self, values: np.ndarray) -> np.ndarray:
        """Inverse depth is often known up to a shift; zero is the sign of unknown."""
        lowest = values.min()
        if self.kind == "depth" or lowest > 0:
            return values
        return values - lowest + np.spacing(np.abs(values).max() + 1)

    def __repr__(self) -> str:
        name = type(self.estimator).__name__
        return f"{type(self).__name__}({name}, kind={self.kind!r}, device={str(self.device)!r})"
