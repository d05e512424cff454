"""What the codecs of hands and objects share: units in the crop, and what it must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec

MMPOSE_KEYS: dict[str, str] = dict(
    bbox="bboxes",
    bbox_score="bbox_scores",
    keypoints="keypoints",
    keypoints_cam="keypoints_cam",
    keypoints_visible="keypoints_visible",
    bbox_scale="bbox_scales",
)
"""From the record to ``gt_instances``: a codec's table replaces that of ``PackPoseInputs``."""


class CropLabelCodec(BaseKeypointCodec):
    """Base of the codecs whose points are measured from the middle of the network's input.

    In units of its *height*, as HaMeR and Hamba do: u = ((x - W/2) / H, (y - H/2) / H).

    Args:
        input_size: Width and height of the network's input.

    Raises:
        ValueError: The size is not two positive numbers.
    """

    field_mapping_table: ClassVar[dict[str, str]] = {}

    def __init__(self, input_size: Sequence[int] = (192, 256)) -> None:
        super().__init__()
        if len(input_size) != 2 or min(input_size) <= 0:
            raise ValueError(
                f"{type(self).__name__}: input_size must be (width, height), got {input_size}"
            )
        self.input_size = tuple(input_size)
        self._middle = np.array(input_size, np.float64) / 2

    def decode(self, encoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn coordinates u of keypoints into pixels of the input.

        Args:
            encoded: Shape (N, K, 2).

        Returns:
            Pixels, (N, K, 2), and scores, (N, K): ones, since a regressed point has none.
        """
        pixels = encoded * self.input_size[1] + self._middle
        return pixels.astype(np.float32), np.ones(encoded.shape[:-1], np.float32)

    def _from_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Turn pixels of the input, (..., 2), into coordinates u."""
        return (pixels - self._middle) / self.input_size[1]

    def _check_rotation(
        self, bbox_rotation: np.ndarray | None, mesh_rotation: float | None
    ) -> None:
        """Refuse a rotated crop whose 3-D labels are not rotated with it."""
        if bbox_rotation is not None and np.any(bbox_rotation) and mesh_rotation is None:
            raise ValueError(
                f"{type(self).__name__}: the box was rotated but the 3-D labels were not. Put "
                "dict(type='mamba_mm.MeshRotate') after TopdownAffine"
            )
