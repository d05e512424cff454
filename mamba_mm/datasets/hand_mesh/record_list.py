"""A data set whose records are made when it is loaded, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .record import no_vertices


class RecordListDataset(BaseCocoStyleDataset):
    """Base of data sets that read few enough hands to keep their records.

    Subclasses define ``load_data_list``. Of hands without a mesh they leave ``vertices_cam`` out
    (:func:`light`): 9 kB of zeros, which are put back when the record is asked for.

    Args:
        ann_file: The file that has the labels.
        data_root: As in MMPose.
        data_prefix: As in MMPose.
        metainfo: As in MMPose.
        indices: As in MMPose.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.
    """

    def __init__(
        self,
        ann_file: str,
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
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix={"img": ""} if data_prefix is None else data_prefix,
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a hand, with what MMPose adds.

        Args:
            idx: Index of the hand.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        return {"vertices_cam": no_vertices()} | super().get_data_info(idx)


def with_square_box(record: dict) -> dict:
    """Return a record whose box is as high and as wide as its longest side, around its middle.

    HaMeR evaluates on such boxes, enlarged 2.0 times. Of these the network sees the middle columns,
    in its ratio of sides 3:4. A padding of 1.5 gives the same: MMPose makes the box 3:4 by making
    it higher. 2-D metrics do not change, as they count in longest sides.
    """
    corners = record["bbox"].reshape(2, 2)
    half = np.ptp(corners, axis=0).max() / 2
    middle = corners.mean(axis=0)
    return record | {"bbox": np.concatenate([middle - half, middle + half])[None]}


def light(record: dict) -> dict:
    """Return a record without the zeros that stand for an unknown mesh."""
    if record["has_vertices"][0]:
        return record
    return {key: value for key, value in record.items() if key != "vertices_cam"}
