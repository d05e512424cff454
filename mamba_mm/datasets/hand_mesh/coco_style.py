"""Hands with 3-D labels in COCO's layout, as MMPose's annotation files have them."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .metainfo import NUM_JOINTS, hand_metainfo
from .record import hand_record, no_vertices

_METRES = {"m": 1.0, "mm": 0.001}
_SIDES = {"right": True, "left": False}

RHD_TO_OPENPOSE: tuple[int, ...] = (
    0,
    *(4, 3, 2, 1),
    *(8, 7, 6, 5),
    *(12, 11, 10, 9),
    *(16, 15, 14, 13),
    *(20, 19, 18, 17),
)
"""Joint i in OpenPose order is joint ``RHD_TO_OPENPOSE[i]`` of RHD, whose fingers run from the tip
to the palm (the names in MMPose's annotation file say the opposite, wrongly)."""


class HandMeshCocoDataset(BaseCocoStyleDataset):
    """Hands of a COCO-style file with any of 3-D joints, vertices, MANO parameters and camera.

    Beyond COCO's ``bbox`` and ``keypoints`` (21 triples), an annotation has ``hand_type``,
    ``"right"`` or ``"left"``, and may have ``joint_cam`` (21 x 3), ``joint_valid`` (21),
    ``vertices_cam`` (778 x 3), and together ``mano_pose`` (48, absolute axis-angle) and
    ``mano_betas`` (10). ``cam_param`` with ``focal`` and ``princpt`` (two pixels each) stands in
    the image's record or in the annotation. 3-D points are in the camera frame: x right, y down,
    z forward. Labels of left hands describe the left hand, as it is in the image.

    The record of an image may also have ``depth_file``, the path of its depth map below the folder
    of the images; the samples then have ``depth_path``, which ``mamba_mm.LoadDepth`` reads.

    Args:
        ann_file: The annotation file.
        joint_map: Joint i in OpenPose order is joint ``joint_map[i]`` of the file; ``None`` where
            the file has that order.
        unit: ``"m"`` or ``"mm"``, the unit of ``joint_cam`` and ``vertices_cam``.
        data_root: As in MMPose.
        data_prefix: As in MMPose.
        metainfo: As in MMPose.
        filter_cfg: As in MMPose.
        indices: As in MMPose.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.
        sample_interval: As in MMPose.

    Raises:
        ValueError: An argument or an annotation has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("hand_mesh")

    def __init__(
        self,
        ann_file: str,
        joint_map: Sequence[int] | None = None,
        unit: str = "m",
        data_root: str | None = None,
        data_prefix: dict | None = None,
        metainfo: dict | None = None,
        filter_cfg: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        sample_interval: int = 1,
    ) -> None:
        name = type(self).__name__
        if unit not in _METRES:
            raise ValueError(f"{name}: unknown unit {unit!r}; known: {', '.join(_METRES)}")
        if joint_map is not None and not len(joint_map) == len(set(joint_map)) == NUM_JOINTS:
            raise ValueError(
                f"{name}: joint_map must name {NUM_JOINTS} different joints of the file, got "
                f"{list(joint_map)}"
            )
        self.joint_map = list(range(NUM_JOINTS) if joint_map is None else joint_map)
        self.unit = unit
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix={"img": ""} if data_prefix is None else data_prefix,
            metainfo=metainfo,
            filter_cfg=filter_cfg,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            sample_interval=sample_interval,
        )

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            A record for each hand.
        """
        hands = super().load_data_list()
        if not hands:
            raise ValueError(
                f"{type(self).__name__}: {self.ann_file} has no usable annotation; each needs "
                "bbox and keypoints, and those of crowds or without a joint do not count"
            )
        return hands

    def parse_data_info(self, raw_data_info: dict) -> dict | None:
        """Turn an annotation into a record.

        Args:
            raw_data_info: ``raw_ann_info`` and ``raw_img_info``, as MMPose gives them.

        Returns:
            What :func:`hand_record` returns, without vertices that are not known, and with
            ``depth_path`` if the image has a depth map; or ``None`` for an annotation without a
            box, without joints, or of a crowd.
        """
        parsed = super().parse_data_info(raw_data_info)
        if parsed is None or not self._is_valid_instance(parsed):
            return None
        annotation, image = raw_data_info["raw_ann_info"], raw_data_info["raw_img_info"]
        source = f"annotation {annotation['id']} of {self.ann_file}"
        camera = annotation.get("cam_param", image.get("cam_param"))
        record = hand_record(
            source,
            img_path=parsed["img_path"],
            img_id=parsed["img_id"],
            id=parsed["id"],
            bbox=parsed["bbox"][0],
            is_right=_is_right(source, annotation),
            keypoints=self._in_order(source, parsed["keypoints"][0]),
            keypoints_visible=np.clip(self._in_order(source, parsed["keypoints_visible"][0]), 0, 1),
            keypoints_cam=self._in_order(source, self._in_metres(annotation.get("joint_cam"))),
            keypoints_cam_valid=self._in_order(source, _flat(annotation.get("joint_valid"))),
            vertices_cam=self._in_metres(annotation.get("vertices_cam")),
            mano_pose=_flat(annotation.get("mano_pose")),
            mano_betas=_flat(annotation.get("mano_betas")),
            cam_K=None if camera is None else _intrinsics(source, camera),
        )
        if not record["has_vertices"][0]:
            # 9 kB of zeros for each hand in memory; get_data_info puts them back.
            del record["vertices_cam"]
        if "depth_file" in image:
            record["depth_path"] = osp.join(self.data_prefix["img"], image["depth_file"])
        return record

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        return {"vertices_cam": no_vertices()} | super().get_data_info(idx)

    def _in_order(self, source: str, joints: np.ndarray | None) -> np.ndarray | None:
        """Joints of the file in OpenPose order."""
        if joints is None:
            return None
        if len(joints) <= max(self.joint_map):
            raise ValueError(
                f"{source} has {len(joints)} joints, but joint_map asks for joint "
                f"{max(self.joint_map)} (numbered from 0)"
            )
        return joints[self.joint_map]

    def _in_metres(self, points: Sequence | None) -> np.ndarray | None:
        """Points (N, 3) of the file in metres."""
        return None if points is None else np.reshape(points, (-1, 3)) * _METRES[self.unit]


class RHDMeshDataset(HandMeshCocoDataset):
    """The Rendered Hand Pose Dataset (Zimmermann and Brox, ICCV 2017), hands of both sides.

    Reads the annotation files that MMPose distributes, in millimetres and with fingers from the
    tip to the palm. There are no MANO parameters.

    Args:
        ann_file: The annotation file.
        joint_map: As in :class:`HandMeshCocoDataset`.
        unit: As in :class:`HandMeshCocoDataset`.
        **kwargs: As in :class:`HandMeshCocoDataset`, which refuses unknown ones.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("rhd_mesh")

    def __init__(
        self,
        ann_file: str,
        joint_map: Sequence[int] | None = RHD_TO_OPENPOSE,
        unit: str = "mm",
        **kwargs,
    ) -> None:
        super().__init__(ann_file, joint_map, unit, **kwargs)


def _flat(values: Sequence | None) -> np.ndarray | None:
    return None if values is None else np.ravel(values)


def _is_right(source: str, annotation: dict) -> bool:
    side = annotation.get("hand_type")
    if side not in _SIDES:
        raise ValueError(f"{source}: hand_type is {side!r}, expected 'right' or 'left'")
    return _SIDES[side]


def _intrinsics(source: str, camera: dict) -> np.ndarray:
    if not {"focal", "princpt"} <= camera.keys():
        raise ValueError(f"{source}: cam_param has {sorted(camera)}, expected focal and princpt")
    (fx, fy), (cx, cy) = camera["focal"], camera["princpt"]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
