"""Crops of a hand in several sizes and angles, for test-time augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose

from mamba_mm.registry import TRANSFORMS

SCALES = (0.7, 0.8, 0.9, 1.0, 1.1)
"""Factors of the box's size with which Hamba was tested on FreiHAND."""

ROTATIONS = tuple(range(-90, 91, 10))
"""Angles of the box, in degrees, likewise: 95 crops in all."""


@TRANSFORMS.register_module()
class RotScaleTestTimeAug(BaseTransform):
    """Crop a hand with every combination of a box's scales and rotations.

    Place it after the box has its centre and scale and the hand is a right one. What is not
    augmented comes first. The results are lists, as ``mamba_mm.HandMeshTTAModel`` wants them;
    the data samples say in ``tta_scale`` and ``tta_rotation`` what was done. Unlike
    MMCV's ``TestTimeAug``, the photograph is not copied for every crop.

    Args:
        transforms: From ``TopdownAffine`` to ``PackPoseInputs``. None may write into the arrays
            of a sample.
        scales: Factors of the box's size, 1 among them.
        rotations: Degrees that the box is rotated, 0 among them.

    Raises:
        ValueError: The crop without augmentation is missing, or a number makes no sense.
    """

    def __init__(
        self,
        transforms: Sequence[dict | Callable],
        scales: Sequence[float] = SCALES,
        rotations: Sequence[float] = ROTATIONS,
    ) -> None:
        self.augmentations = augmentations(scales, rotations)
        self.transforms = Compose(list(transforms))

    def transform(self, results: dict) -> dict:
        """Make all crops of a sample.

        Args:
            results: The sample, with one hand.

        Returns:
            ``inputs`` and ``data_samples``, a list of each.
        """
        packed = [self._packed(results, *augmentation) for augmentation in self.augmentations]
        return {key: [one[key] for one in packed] for key in packed[0]}

    def _packed(self, results: dict, scale: float, rotation: float) -> dict:
        one = dict(results)
        one["bbox_scale"] = results["bbox_scale"] * np.float32(scale)
        one["bbox_rotation"] = np.array([rotation], np.float32)
        packed = self.transforms(one)
        packed["data_samples"].set_metainfo(dict(tta_scale=scale, tta_rotation=rotation))
        return packed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.augmentations)} crops, {self.transforms})"


def augmentations(scales: Sequence[float], rotations: Sequence[float]) -> list[tuple[float, float]]:
    """Return all pairs of a scale and a rotation, (1, 0) first.

    Raises:
        ValueError: (1, 0) is not among them, or a number makes no sense.
    """
    for scale in scales:
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"test-time augmentation: a scale is positive, got {scale}")
    for rotation in rotations:
        if not math.isfinite(rotation):
            raise ValueError(f"test-time augmentation: a rotation is degrees, got {rotation}")
    pairs = [(float(scale), float(rotation)) for scale in scales for rotation in rotations]
    if (1.0, 0.0) not in pairs:
        raise ValueError(
            "test-time augmentation: the predictions are aligned to the one without augmentation, "
            f"so scales need 1 and rotations 0; got {list(scales)} and {list(rotations)}"
        )
    pairs.remove((1.0, 0.0))
    return [(1.0, 0.0), *pairs]


def rot_scale_pipeline(
    pipeline: Sequence[dict],
    scales: Sequence[float] = SCALES,
    rotations: Sequence[float] = ROTATIONS,
) -> list[dict]:
    """Return a test pipeline with test-time augmentation from its ``TopdownAffine`` on.

    The labels in space are rotated along, which the codec insists on.

    Args:
        pipeline: The pipeline without; it stays as it is.
        scales: See :class:`RotScaleTestTimeAug`.
        rotations: See :class:`RotScaleTestTimeAug`.

    Raises:
        ValueError: It has no ``TopdownAffine``.
    """
    types = [str(transform["type"]).split(".")[-1] for transform in pipeline]
    if "TopdownAffine" not in types:
        raise ValueError(
            "test-time augmentation crops a hand in several ways, so the pipeline needs a "
            f"TopdownAffine; it has {', '.join(types) or 'nothing'}"
        )
    crop = types.index("TopdownAffine")
    turn = [] if "MeshRotate" in types else [dict(type="mamba_mm.MeshRotate")]
    augmentation = dict(
        type="mamba_mm.RotScaleTestTimeAug",
        transforms=[pipeline[crop], *turn, *pipeline[crop + 1 :]],
        scales=tuple(scales),
        rotations=tuple(rotations),
    )
    return [*pipeline[:crop], augmentation]
