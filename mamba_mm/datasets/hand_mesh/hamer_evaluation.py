"""The sets on which HaMeR is evaluated, from its evaluation files."""

from __future__ import annotations

from typing import ClassVar

from .evaluation_file import evaluation_records
from .metainfo import hand_metainfo
from .record_list import RecordListDataset, light, with_square_box


class HaMeREvalDataset(RecordListDataset):
    """Hands of an evaluation file of HaMeR (``hamer_evaluation_data/*.npz``).

    ``ann_file`` is the file, ``data_prefix["img"]`` the folder that its image names start from.
    Boxes are those of the file made square; with ``GetBBoxCenterScale(padding=1.5)`` the crop is
    that of HaMeR's evaluation (:func:`~mamba_mm.datasets.hand_mesh.record_list.with_square_box`).
    Nothing is filtered. Without 3-D labels, as in the files of FreiHAND and HO3D, whose
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
        records = evaluation_records(self.ann_file, self.data_prefix["img"])
        return [light(with_square_box(record)) for record in records]
