"""Where the hands of a picture are, and which hand each is, as far as the caller knows it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from .inputs import Frame

SIDES = {"right": True, "left": False}
"""Whether a hand is a right one, by the name of its side."""


class HandBox:
    """One hand in a picture.

    Args:
        bbox: Left, top, right, bottom in pixels, ``(4,)``: tight around the hand.
        side: ``"right"`` or ``"left"``: whose mesh is put there. Nothing in a hand network finds
            that out.
        score: Confidence of the box, 0..1.

    Raises:
        ValueError: The box is none, or the side is not known.
    """

    def __init__(self, bbox: Sequence[float] | np.ndarray, side: str, score: float = 1.0) -> None:
        self.bbox = np.asarray(bbox, np.float32)
        self.is_right = is_right_side(side)
        self.score = float(score)
        if self.bbox.shape != (4,) or not np.isfinite(self.bbox).all():
            raise ValueError(
                f"a box is four numbers (left, top, right, bottom) in pixels, got "
                f"{np.asarray(bbox).tolist()}"
            )
        if not (self.bbox[2:] > self.bbox[:2]).all():
            raise ValueError(
                f"the box {self.bbox.tolist()} is empty; it has to be (left, top, right, bottom), "
                "not (left, top, width, height)"
            )

    @property
    def side(self) -> str:
        """``"right"`` or ``"left"``."""
        return "right" if self.is_right else "left"

    def __repr__(self) -> str:
        return f"HandBox({self.bbox.tolist()}, {self.side!r}, {self.score:.2f})"


def is_right_side(side: str) -> bool:
    """Tell what the name of a side means.

    Raises:
        ValueError: It is neither ``"right"`` nor ``"left"``.
    """
    if side not in SIDES:
        raise ValueError(f"a hand is 'right' or 'left', got {side!r}")
    return SIDES[side]


class HandBoxes(ABC):
    """Something that knows the hands of pictures."""

    @abstractmethod
    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return the hands of a picture."""

    def camera(self, frame: Frame) -> np.ndarray | None:
        """Return the intrinsics ``(3, 3)`` of a picture, if they are known."""
        return None


class WholeImage(HandBoxes):
    """Every picture shows one hand, which fills it.

    Args:
        side: Which hand.
    """

    def __init__(self, side: str) -> None:
        is_right_side(side)
        self.side = side

    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return a box of the picture's size."""
        height, width = frame.image.shape[:2]
        return [HandBox((0, 0, width, height), self.side)]


class GivenBoxes(HandBoxes):
    """Boxes that the caller names.

    Args:
        bboxes: One array ``(N, 4)``, which holds for every picture, or a list with one for each
            picture; left, top, right, bottom in pixels.
        sides: ``"right"`` or ``"left"``: one for all, one for each box of ``(N, 4)``, or a list
            of those for each picture.

    Raises:
        ValueError: A box or a side is none, or there are not as many sides as boxes.
    """

    def __init__(self, bboxes: Sequence | np.ndarray, sides: str | Sequence) -> None:
        self._for_all = _is_one_picture(bboxes)
        per_picture = [bboxes] if self._for_all else list(bboxes)
        if isinstance(sides, str):
            sides = [[sides] * len(boxes) for boxes in per_picture]
        elif self._for_all:
            sides = [sides]
        if len(sides) != len(per_picture):
            raise ValueError(
                f"there are boxes of {len(per_picture)} pictures, but sides of {len(sides)}"
            )
        self._hands = [
            _hands_of(number, boxes, of_boxes)
            for number, (boxes, of_boxes) in enumerate(zip(per_picture, sides, strict=True))
        ]

    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return the boxes of a picture.

        Raises:
            ValueError: There are boxes for fewer pictures.
        """
        if self._for_all:
            return self._hands[0]
        if frame.position >= len(self._hands):
            raise ValueError(
                f"{frame.source.name} is picture {frame.position}, counted from 0, but bboxes has "
                f"entries for {len(self._hands)}; give one array (N, 4) if it holds for all"
            )
        return self._hands[frame.position]


def _is_one_picture(bboxes: Sequence | np.ndarray) -> bool:
    """Tell whether these are the boxes of one picture, and not a list of such."""
    if len(bboxes) == 4 and np.ndim(bboxes[0]) == 0:
        raise ValueError(
            f"bboxes are an array (N, 4), or a list of such; one box is [[left, top, right, "
            f"bottom]], got {np.asarray(bboxes).tolist()}"
        )
    if isinstance(bboxes, np.ndarray) and bboxes.shape == (0, 4):
        return True
    return len(bboxes) > 0 and np.ndim(bboxes[0]) == 1 and np.size(bboxes[0]) > 0


def _hands_of(number: int, boxes: Sequence, sides: Sequence[str]) -> list[HandBox]:
    if len(boxes) != len(sides):
        raise ValueError(f"picture {number} has {len(boxes)} boxes, but {len(sides)} sides")
    try:
        return [HandBox(box, side) for box, side in zip(boxes, sides, strict=True)]
    except ValueError as error:
        raise ValueError(f"picture {number}: {error}") from None
