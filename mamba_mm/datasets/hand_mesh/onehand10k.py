"""OneHand10K: photographs of a hand each, with 2-D joints."""

from __future__ import annotations

from typing import ClassVar

from .coco_style import HandMeshCocoDataset
from .filters import HandFilters
from .metainfo import hand_metainfo


class OneHand10KMeshDataset(HandMeshCocoDataset):
    """Hands of OneHand10K (Wang et al., TCSVT 2019) in MMPose's files; 2-D joints only.

    Joints that are not labelled are zeros there. The files do not say which hand it is, and a left
    hand that is taken for a right one teaches a wrong pose. MMPose's ``MultiSourceSampler`` gives
    the set a small share; or sort the file by side and read each part with its own ``side``.

    Args:
        ann_file: The annotation file.
        side: ``"right"`` or ``"left"``, what all hands of the file are taken for.
        more_joints_than: Hands with no more labelled joints are left out; 4 in HaMeR.
        **kwargs: As in :class:`HandMeshCocoDataset`, which refuses unknown ones.

    Raises:
        ValueError: An argument or an annotation has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("onehand10k_mesh")

    def __init__(
        self, ann_file: str, side: str = "right", more_joints_than: int = 4, **kwargs
    ) -> None:
        if side not in ("right", "left"):
            raise ValueError(
                f"OneHand10KMeshDataset: unknown side {side!r}; known: 'right', 'left'"
            )
        self.side = side
        self.filters = HandFilters(more_joints_than=more_joints_than)
        super().__init__(ann_file, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict | None:
        """Turn an annotation into a record.

        Args:
            raw_data_info: As in :class:`HandMeshCocoDataset`.

        Returns:
            The record, or ``None`` for an annotation that does not count.
        """
        annotation = raw_data_info["raw_ann_info"] | {"hand_type": self.side}
        record = super().parse_data_info(raw_data_info | {"raw_ann_info": annotation})
        if record is None or not self.filters.keeps(record["keypoints_visible"][0], float("nan")):
            return None
        return record
