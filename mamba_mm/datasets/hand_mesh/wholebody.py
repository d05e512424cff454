"""The hands of COCO-WholeBody, with their side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from .filters import HandFilters
from .metainfo import NUM_JOINTS, hand_metainfo
from .record import hand_record
from .record_list import RecordListDataset, light

_SIDES = ("left", "right")


class COCOWholeBodyHandMeshDataset(RecordListDataset):
    """Hands of COCO-WholeBody (Jin et al., ECCV 2020), one for each valid hand; 2-D joints only.

    The third number of a joint is a score up to 2 there: the confidence is the smaller of it and 1,
    and 0 below ``min_confidence``. Boxes are tight and often tiny; enlarge them with the padding of
    ``GetBBoxCenterScale``, 1.5 to 2.0.

    Args:
        ann_file: The annotation file of COCO-WholeBody.
        min_confidence: Joints of less confidence count as not labelled; 0.3 in HaMeR.
        min_box_side: Hands whose box has a shorter side below that many pixels are left out.
        more_joints_than: Hands with no more labelled joints are left out; 4 in HaMeR.
        data_root: As in MMPose.
        data_prefix: As in MMPose.
        metainfo: As in MMPose.
        indices: As in MMPose.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.

    Raises:
        ValueError: An argument or an annotation has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("coco_wholebody_hand_mesh")

    def __init__(
        self,
        ann_file: str,
        min_confidence: float = 0.3,
        min_box_side: float = 24.0,
        more_joints_than: int = 4,
        data_root: str | None = None,
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        self.filters = HandFilters(min_confidence, more_joints_than=more_joints_than)
        if not min_box_side >= 0:
            raise ValueError(f"{type(self).__name__}: min_box_side must not be negative")
        self.min_box_side = min_box_side
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            A record for each hand.
        """
        records = []
        for source, side, annotation, image in self._valid_hands():
            joints = _triples(source, annotation[f"{side}hand_kpts"])
            x, y, width, height = annotation[f"{side}hand_box"]
            confidence = self.filters.suppressed(joints[:, 2])
            too_small = min(width, height) < max(self.min_box_side, np.finfo(np.float32).tiny)
            if too_small or not self.filters.keeps(joints[:, 2], np.nan):
                continue
            record = hand_record(
                source,
                img_path=str(Path(self.data_prefix["img"]) / image["file_name"]),
                img_id=image["id"],
                id=len(records),
                bbox=[x, y, x + width, y + height],
                is_right=side == "right",
                keypoints=joints[:, :2],
                keypoints_visible=np.minimum(confidence, 1),
            )
            records.append(light(record))
        if not records:
            raise ValueError(
                f"{type(self).__name__}: {self.ann_file} has no hand with a box of "
                f"{self.min_box_side:g} pixels and more than {self.filters.more_joints_than} joints"
            )
        return records

    def _valid_hands(self) -> Iterator[tuple[str, str, dict, dict]]:
        """Where it stands, side, annotation and image of the hands that the file calls valid."""
        document = json.loads(Path(self.ann_file).read_text())
        images = {image["id"]: image for image in document["images"]}
        for annotation in document["annotations"]:
            if annotation.get("iscrowd"):
                continue
            for side in _SIDES:
                source = f"the {side} hand of annotation {annotation['id']} of {self.ann_file}"
                keys = [f"{side}hand_{name}" for name in ("valid", "box", "kpts")]
                if missing := [key for key in keys if key not in annotation]:
                    raise ValueError(
                        f"{source}: lacks {', '.join(missing)}; the file must be COCO-WholeBody's, "
                        "not COCO's"
                    )
                if annotation[f"{side}hand_valid"]:
                    if annotation["image_id"] not in images:
                        raise ValueError(f"{source}: its image is not in the file")
                    yield source, side, annotation, images[annotation["image_id"]]


def _triples(source: str, values: Sequence[float]) -> np.ndarray:
    """Joints (21, 3) from a flat list."""
    joints = np.array(values, np.float64)
    if joints.size != 3 * NUM_JOINTS:
        raise ValueError(f"{source}: {joints.size} numbers of joints, expected {3 * NUM_JOINTS}")
    return joints.reshape(NUM_JOINTS, 3)
