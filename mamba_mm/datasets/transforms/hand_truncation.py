"""Crops that cut a part of the hand off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from mamba_mm.registry import TRANSFORMS

from .argument_checks import checked_probability, checked_range

_SIDES = 4
# A box as large as before, with the hand at its edge, is mostly empty where images are small.
_MOST_LOOSE = 0.5
# Around the joints, which lie inside the fingers.
_MARGIN = 1.15


class _Cut(NamedTuple):
    """What was drawn."""

    axis: int
    """0 cuts along x, 1 along y."""
    sign: int
    """1: what has small coordinates is cut off; -1: what has large ones."""
    keep: float
    """Share of the joints that stay."""
    looseness: float
    """0: the box is tight around them; 1: as large as it was."""


@TRANSFORMS.register_module()
class HandTruncation(BaseTransform):
    """Move the box so that one of its edges cuts through the hand.

    As at the border of a photograph, or with a detector that found only a part of the hand. A side
    of the crop is drawn, and a share of the visible joints that remain; the box then begins
    between these joints and the others. Its size is drawn between one that is tight around the
    rest and the mean of that and the size it had.

    Changes ``bbox_center`` and ``bbox_scale``, whose sides get the aspect ratio of the input (as
    ``TopdownAffine`` would do, which then has nothing to add and cannot bring back what was cut
    off). No label changes, for all are in the image or in the camera's frame; joints outside the
    crop keep their weight, as in HaMeR.

    Place it between ``RandomBBoxTransform``, whose rotation it respects, and ``TopdownAffine``.
    With ``RandomBBoxTransform`` behind it, the shares are only about as asked for. A sample with
    fewer than two visible joints is left alone.

    Args:
        input_size: Width and height of the network's input.
        prob: How often a hand is cut.
        keep: Bounds of the share of the visible joints that stay in the crop. If the box has cut
            joints off before, fewer may stay.
        min_scale: No side gets shorter than this share of what it was, however few joints stay.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        input_size: Sequence[int],
        prob: float = 0.2,
        keep: Sequence[float] = (0.4, 0.9),
        min_scale: float = 0.5,
    ) -> None:
        name = type(self).__name__
        if len(input_size) != 2 or min(input_size) <= 0:
            raise ValueError(f"{name}: input_size must be (width, height), got {input_size}")
        self.input_size = tuple(input_size)
        self.prob = checked_probability(name, prob)
        self.keep = checked_range(name, "keep", keep, most=1.0)
        if not 0 < min_scale <= 1:
            raise ValueError(f"{name}: min_scale must be above 0 and at most 1, got {min_scale}")
        self.min_scale = float(min_scale)

    @cache_randomness
    def _draw(self) -> _Cut | None:
        if np.random.rand() >= self.prob:
            return None
        side = np.random.randint(_SIDES)
        return _Cut(
            side // 2,
            1 - 2 * (side % 2),
            np.random.uniform(*self.keep),
            np.random.uniform(0, _MOST_LOOSE),
        )

    def transform(self, results: dict) -> dict:
        """Move the box, if it is to be moved.

        Args:
            results: The sample, with one hand.

        Returns:
            The sample.

        Raises:
            ValueError: There is no box as centre and scale yet, or the crop has been made.
        """
        if "input_size" in results or "bbox_scale" not in results:
            raise ValueError(
                "HandTruncation must come after GetBBoxCenterScale and before TopdownAffine in "
                "the pipeline"
            )
        cut = self._draw()
        if cut is None or results.get("keypoints") is None:
            return results
        points = results["keypoints"][0][results["keypoints_visible"][0] > 0]
        if len(points) < 2:
            return results
        center, size = results["bbox_center"][0], self._with_aspect(results["bbox_scale"][0])
        turn = _rotation(float(np.sum(results.get("bbox_rotation", 0.0))))
        # The crop shows the image turned back by the rotation of its box.
        middle, size = self._cut_box((points - center) @ turn, size, cut)
        results["bbox_center"] = (center + turn @ middle)[None].astype(np.float32)
        results["bbox_scale"] = size[None].astype(np.float32)
        return results

    def _cut_box(
        self, points: np.ndarray, size: np.ndarray, cut: _Cut
    ) -> tuple[np.ndarray, np.ndarray]:
        """Middle and size of the new box, upright; the old one lies around zero."""
        along, across = cut.axis, 1 - cut.axis
        kept, edge = _kept_points(points, cut)
        tight = np.empty(2)
        tight[along] = np.max(np.abs(kept[:, along] - edge))
        tight[across] = np.ptp(kept[:, across])
        tight = np.maximum(self._with_aspect(_MARGIN * tight), self.min_scale * size)
        # Between two boxes that both begin at the edge, so that nothing comes back.
        share = cut.looseness
        new_size = (1 - share) * tight + share * size
        middle = np.empty(2)
        middle[along] = edge + cut.sign * new_size[along] / 2
        low, high = kept[:, across].min(), kept[:, across].max()
        middle[across] = (1 - share) * (low + high) / 2
        return middle, new_size

    def _with_aspect(self, size: np.ndarray) -> np.ndarray:
        """The smallest box of the input's aspect ratio that has room for this one."""
        width, height = self.input_size
        factor = np.max(size / np.array([width, height]))
        return factor * np.array([width, height], np.float64)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(input_size={self.input_size}, prob={self.prob}, "
            f"keep={self.keep}, min_scale={self.min_scale})"
        )


def _kept_points(points: np.ndarray, cut: _Cut) -> tuple[np.ndarray, float]:
    """The points that stay, and the coordinate of the edge, halfway to the others."""
    places = cut.sign * points[:, cut.axis]
    order = np.argsort(places)
    staying = int(np.clip(round(cut.keep * len(points)), 1, len(points) - 1))
    first = len(points) - staying
    edge = (places[order[first - 1]] + places[order[first]]) / 2
    return points[order[first:]], cut.sign * edge


def _rotation(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
