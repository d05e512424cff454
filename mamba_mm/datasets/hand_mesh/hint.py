"""HInt: hands in photographs and videos of daily life, with 2-D joints and their occlusion."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from .evaluation_file import evaluation_records
from .metainfo import NUM_JOINTS, hand_metainfo
from .record import hand_record
from .record_list import RecordListDataset, light, with_square_box

_SUBSETS = dict(newdays="newdays", visor="epick", ego4d="ego4d")
_JOINTS = dict(all="all", visible="vis", occluded="occ")
_PARTS = ("TRAIN", "VAL", "TEST")
_SIDES = {"r": True, "l": False}


class HIntDataset(RecordListDataset):
    """Hands of HInt (Pavlakos et al., CVPR 2024), both sides, 2-D joints only.

    HInt as released has folders such as ``TEST_newdays_img`` of pairs ``NAME.jpg`` and
    ``NAME.json``: a list of hands with ``bbox`` (one box x1, y1, x2, y2), ``keypoints`` (21 x 2,
    OpenPose order) and ``occlusion`` (21, 1 for hidden joints). The side is the last letter of the
    name, ``_l`` or ``_r``. That is what the published drawing tool and file names show; no
    description of the format is published.

    HaMeR's numbers are computed with its own files of the same images. Give their folder as
    ``evaluation_data`` to be comparable: ``TEST_newdays_img_all.npz`` and so on are read then.

    Boxes are the tight ones made square; with ``GetBBoxCenterScale(padding=1.5)`` the crop is that
    of HaMeR's evaluation (:func:`~mamba_mm.datasets.hand_mesh.record_list.with_square_box`).

    Args:
        data_root: Folder ``HInt_annotation`` or ``HInt_annotation_partial`` (without Ego4D's
            images).
        subset: ``"newdays"``, ``"visor"`` or ``"ego4d"``.
        joints: Which joints count: ``"all"``, ``"visible"`` or ``"occluded"``; others have
            confidence 0.
        part: ``"TRAIN"``, ``"VAL"`` or ``"TEST"``.
        evaluation_data: Folder of HaMeR's evaluation files; they are of the test part.
        metainfo: As in MMPose.
        indices: As in MMPose.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.

    Raises:
        FileNotFoundError: A folder or file is not there.
        ValueError: An argument or a file has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("hint_mesh")

    def __init__(
        self,
        data_root: str,
        subset: str = "newdays",
        joints: str = "all",
        part: str = "TEST",
        evaluation_data: str | None = None,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        for name, value, known in (
            ("subset", subset, _SUBSETS),
            ("joints", joints, _JOINTS),
            ("part", part, _PARTS),
        ):
            if value not in known:
                raise ValueError(
                    f"HIntDataset: unknown {name} {value!r}; known: {', '.join(known)}"
                )
        if evaluation_data is not None and part != "TEST":
            raise ValueError("HIntDataset: HaMeR's evaluation files are of part='TEST' only")
        self.joints = joints
        self.evaluation_data = evaluation_data
        folder = f"{part}_{_SUBSETS[subset]}_img"
        self.folder = Path(data_root) / folder
        super().__init__(
            ann_file=""
            if evaluation_data is None
            else str(Path(evaluation_data) / f"{folder}_{_JOINTS[joints]}.npz"),
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotations.

        Returns:
            A record for each hand.
        """
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"HIntDataset: no folder {self.folder}; data_root must be HInt as unpacked, from "
                "https://github.com/ddshan/hint"
            )
        if self.evaluation_data is None:
            records = self._read_pairs()
        else:
            records = evaluation_records(self.ann_file, self.folder)
        return [light(with_square_box(record)) for record in records]

    def _read_pairs(self) -> list[dict]:
        """The hands of HInt's own annotations that have an image."""
        records = []
        images = sorted(self.folder.glob("*.jpg"))
        for img_id, image in enumerate(images):
            path = image.with_suffix(".json")
            if not path.is_file():
                raise FileNotFoundError(f"HIntDataset: {image} has no annotation {path.name}")
            for number, hand in enumerate(_read_hands(path)):
                source = f"{path}, hand {number}"
                records.append(self._record(source, hand, image, img_id, len(records)))
        if not records:
            raise ValueError(
                f"HIntDataset: no image in {self.folder}. The images of Ego4D are not in the "
                "download; HInt's page says how to get them"
            )
        return records

    def _record(self, source: str, hand: dict, image: Path, img_id: int, id: int) -> dict:
        if missing := [key for key in ("bbox", "keypoints", "occlusion") if key not in hand]:
            raise ValueError(f"{source}: lacks {', '.join(missing)}")
        occluded = np.array(hand["occlusion"], np.float32)
        if occluded.shape != (NUM_JOINTS,) or not np.isin(occluded, (0, 1)).all():
            raise ValueError(f"{source}: occlusion must be {NUM_JOINTS} times 0 or 1")
        confidence = dict(all=np.ones(NUM_JOINTS), visible=1 - occluded, occluded=occluded)
        side = image.stem.rpartition("_")[2]
        if side not in _SIDES:
            raise ValueError(f"{source}: its name must end in _l or _r, which says the side")
        return hand_record(
            source,
            img_path=str(image),
            img_id=img_id,
            id=id,
            bbox=np.array(hand["bbox"], np.float32).reshape(-1),
            is_right=_SIDES[side],
            keypoints=np.array(hand["keypoints"], np.float32)[:, :2],
            keypoints_visible=confidence[self.joints],
        )


def _read_hands(path: Path) -> list[dict]:
    try:
        hands = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(hands, list) or not all(isinstance(hand, dict) for hand in hands):
        raise ValueError(f"{path} must be a list of hands")
    return hands
