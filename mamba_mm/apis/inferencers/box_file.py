"""Boxes of hands from an annotation file."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .hand_boxes import SIDES, HandBox, HandBoxes
from .inputs import Frame


class BoxFile(HandBoxes):
    """Boxes in COCO's format, for images that the file names.

    Two kinds of annotations are read: a hand each, with ``bbox`` and ``hand_type`` ("right" or
    "left"), as MMPose's hand sets and this project's have them; and a person each, with
    ``lefthand_box``, ``lefthand_valid`` and the same of the right hand, as COCO-WholeBody has
    them. Boxes are (left, top, width, height). ``score`` is the confidence, if it is there, and
    ``cam_param`` (``focal``, ``princpt``) of an image or annotation its camera.

    Args:
        path: The file.
        side: Which hand those annotations mean that do not say it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not such a one, or an annotation names no side and ``side`` does
            not either.
    """

    def __init__(self, path: str | Path, side: str | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file of boxes {path}")
        content = _read(self.path)
        self._ids = {image["file_name"]: image["id"] for image in content["images"]}
        self._cameras = {image["id"]: _camera(path, image) for image in content["images"]}
        self._hands: dict[int, list[HandBox]] = defaultdict(list)
        for number, annotation in enumerate(content["annotations"]):
            self._add(number, annotation, side)

    def __call__(self, frame: Frame) -> list[HandBox]:
        """Return the hands of an image.

        Raises:
            ValueError: The file does not list the image.
        """
        return self._hands.get(self._id_of(frame), [])

    def camera(self, frame: Frame) -> np.ndarray | None:
        """Return the intrinsics ``(3, 3)`` of an image, if the file has them.

        Raises:
            ValueError: The file does not list the image.
        """
        return self._cameras.get(self._id_of(frame))

    def _id_of(self, frame: Frame) -> int:
        """Find the image whose name is the longest ending of the picture's path."""
        parts = Path(frame.source.name).parts
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            if name in self._ids:
                return self._ids[name]
        raise ValueError(
            f"{self.path} has no image {frame.source.name}; it lists {len(self._ids)}, such as "
            f"{next(iter(self._ids), 'none')}"
        )

    def _add(self, number: int, annotation: dict, side: str | None) -> None:
        image_id = annotation.get("image_id")
        if image_id not in self._cameras:
            raise ValueError(
                f"{self.path}: annotation {number} is of image {image_id}, which the file does "
                "not list"
            )
        for box, its_side in _boxes_of(annotation, side):
            if its_side is None:
                raise ValueError(
                    f"{self.path}: annotation {number} does not say which hand it is: add "
                    "hand_type ('right' or 'left'), or give one side for all"
                )
            try:
                hand = HandBox(_corners(box), its_side, annotation.get("score", 1.0))
            except ValueError as error:
                raise ValueError(f"{self.path}: annotation {number}: {error}") from None
            self._hands[image_id].append(hand)
        camera = _camera(self.path, annotation)
        if camera is not None:
            self._cameras[image_id] = camera


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise ValueError(
            f"{path} is not in COCO's format: expected an object with 'images' and 'annotations'"
        )
    for number, image in enumerate(content["images"]):
        if not {"id", "file_name"} <= image.keys():
            raise ValueError(
                f"{path}: image {number} has {sorted(image)}, expected 'id' and 'file_name'"
            )
    return content


def _boxes_of(annotation: dict, side: str | None) -> list[tuple[Sequence[float], str | None]]:
    """Boxes (left, top, width, height) of an annotation, each with its side."""
    sides = [name for name in SIDES if f"{name}hand_box" in annotation]
    if sides:
        return [
            (annotation[f"{name}hand_box"], name)
            for name in sides
            if annotation.get(f"{name}hand_valid", True)
        ]
    return [(annotation.get("bbox", ()), annotation.get("hand_type", side))]


def _corners(box: Sequence[float]) -> list[float]:
    if len(box) != 4:
        raise ValueError(f"a box is four numbers (left, top, width, height), got {list(box)}")
    left, top, width, height = box
    return [left, top, left + width, top + height]


def _camera(path: str | Path, record: dict) -> np.ndarray | None:
    if "cam_param" not in record:
        return None
    camera = record["cam_param"]
    if any(np.shape(camera.get(name)) != (2,) for name in ("focal", "princpt")):
        raise ValueError(
            f"{path}: cam_param is {camera}, expected focal [fx, fy] and princpt [cx, cy] in pixels"
        )
    (fx, fy), (cx, cy) = camera["focal"], camera["princpt"]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)
