"""The sets on which HaMeR is evaluated, from its evaluation files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from .evaluation_file import read_evaluation_file
from .hamer_labels import labels_to_record
from .metainfo import hand_metainfo
from .record_list import RecordListDataset, light


class HaMeREvalDataset(RecordListDataset):
    """Hands of an evaluation file of HaMeR (``hamer_evaluation_data/*.npz``).

    ``ann_file`` is the file, ``data_prefix["img"]`` the folder that its image names start from.
    Boxes are as in the file; HaMeR enlarges them 2.0 times, so give ``GetBBoxCenterScale`` that
    padding. Nothing is filtered. Without 3-D labels, as in the files of FreiHAND and HO3D, whose
    truth is with the benchmarks, ``has_3d`` is 0.

    Args:
        ann_file: The ``.npz`` file.
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
        FileNotFoundError: There is no file.
        ValueError: The file has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("hamer_eval_mesh")

    def load_data_list(self) -> list[dict]:
        """Read the file.

        Returns:
            A record for each hand.
        """
        names, labels = read_evaluation_file(self.ann_file)
        folder = Path(self.data_prefix["img"])
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return [
            light(
                labels_to_record(
                    f"{self.ann_file}, hand {number}",
                    hand,
                    None,
                    img_path=str(folder / name),
                    img_id=numbers[name],
                    id=number,
                )
            )
            for number, (name, hand) in enumerate(zip(names, labels, strict=True))
        ]
