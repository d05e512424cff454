"""Depth as the fourth channel of a crop."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.structures.bbox import get_warp_matrix

from .argument_checks import check_colour_image
from .depth_maps import normalised


class AppendDepth(BaseTransform):
    """Crop the depth map like the image, normalise it, and append it to the crop's colours.

    The map of ``mamba_mm.LoadDepth`` or ``mamba_mm.EstimateDepth`` is mirrored where
    ``HandMeshRandomFlip`` mirrored the image, and cropped by the affine map of ``TopdownAffine``.
    Between known and unknown depths nothing is interpolated. In the crop, known inverse depths get
    mean 0 and deviation 1, robustly; unknown ones are 0, and so are those outside of the image. So
    a sample without any known depth has a channel of zeros.

    Makes ``img``, (h, w, 3), one of float32 with four channels, whose colours stay 0..255:
    ``mamba_mm.RGBDPoseDataPreprocessor`` goes with it. Removes ``inverse_depth``. Adds
    ``depth_mask``, (h, w), bool: where the depth is known.

    Place it after ``TopdownAffine(use_udp=False)`` and after all that changes colours, which
    neither see nor change the depth. What ``HandOcclusion`` puts in front of a hand has no known
    depth, and hides that of the hand.
    """

    def transform(self, results: dict) -> dict:
        """Append the depth of a sample.

        Args:
            results: The sample, with one hand.

        Returns:
            The sample.

        Raises:
            ValueError: There is no map, the crop has not been made, or the image was mirrored by
                MMPose's own flip.
        """
        _check_order(results)
        check_colour_image("AppendDepth", results["img"].shape)
        crop = _like_the_image(results.pop("inverse_depth"), results)
        if "occlusion_mask" in results:
            crop[results["occlusion_mask"]] = np.nan
        results["depth_mask"] = np.isfinite(crop)
        results["img"] = np.dstack([results["img"].astype(np.float32), normalised(crop)])
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _check_order(results: dict) -> None:
    if "inverse_depth" not in results:
        raise ValueError(
            "AppendDepth: the sample has no depth map; put LoadDepth or EstimateDepth behind "
            "LoadImage in the pipeline"
        )
    if "input_size" not in results:
        raise ValueError("AppendDepth must come after TopdownAffine in the pipeline")
    if results.get("flip"):
        raise ValueError(
            "AppendDepth: the image was mirrored by RandomFlip, which the depth map cannot follow; "
            "use mamba_mm.HandMeshRandomFlip"
        )


def _like_the_image(inverse_depth: np.ndarray, results: dict) -> np.ndarray:
    """Take a map the way that the image went: mirrored if it was, then cropped."""
    if results.get("flipped", False):
        inverse_depth = inverse_depth[:, ::-1]
    rotation = float(np.sum(results.get("bbox_rotation", 0.0)))
    size = results["input_size"]
    warp = get_warp_matrix(results["input_center"], results["input_scale"], rotation, size)
    known = np.isfinite(inverse_depth)
    values = np.where(known, inverse_depth, 0)
    shares, total = (
        cv2.warpAffine(channel.astype(np.float32), warp, size, flags=cv2.INTER_LINEAR)
        for channel in (known, values)
    )
    # Weighted means of the known neighbours only, where these are at least the half.
    enough = shares >= 0.5
    return np.where(enough, total / np.where(enough, shares, 1), np.nan).astype(np.float32)
