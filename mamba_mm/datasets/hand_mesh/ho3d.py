"""HO-3D, versions 2 and 3: right hands that hold objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from mamba_mm.models.body_models import MANO_TO_OPENPOSE

from .freihand_files import read_freihand
from .ho3d_files import FrameLabels, frame_files, read_frame, read_frame_list
from .label_fields import box_around, every_nth
from .metainfo import NUM_JOINTS, hand_metainfo
from .pose_basis import turned
from .projection import project
from .record import hand_record

_SPLITS = ("train", "evaluation")
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])
_TO_OPENPOSE = list(MANO_TO_OPENPOSE)


class HO3DMeshDataset(BaseCocoStyleDataset):
    """Hands of HO-3D (Hampali et al., CVPR 2020; version 3 of 2021), all of them right.

    Reads a folder as it is unpacked: ``SPLIT.txt``, a line ``SEQUENCE/FRAME`` for each sample, and
    ``SPLIT/SEQUENCE/{rgb,meta}/FRAME.{png or jpg,pkl}``. Only the lists are read at the start, and
    the first frame of each sequence to see that it can be; the other pickles are read when their
    sample is asked for, without running anything in them. Of the objects nothing is read.

    Joints and global orientation are turned from OpenGL's camera frame (y up, z backwards) into
    ours. The poses are absolute, so no MANO file is needed (that they have no mean subtracted is
    known from users of the set, not from its documentation).

    Samples of the evaluation split have a box, the wrist and the camera; ``id`` is the place in
    ``evaluation.txt``, by which ``HandMeshMetric(submission="ho3d")`` orders its file. Where
    ``evaluation_xyz.json`` and ``evaluation_verts.json`` lie beside the list, with the order and
    frame of that file (taken for granted, not verified), they give joints and mesh.

    Args:
        data_root: Folder that holds ``train``, ``evaluation`` and the lists.
        split: ``"train"`` or ``"evaluation"``.
        sequences: Only these sequences; ``None`` takes all. Not for a submission.
        with_vertices: Read the mesh too where ``evaluation_verts.json`` is.
        cache: Keep a copy of the two JSON files beside them that reads in seconds.
        metainfo: As in MMPose.
        indices: As in MMPose.
        serialize_data: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.
        sample_interval: Only every n-th sample, as videos repeat themselves.

    Raises:
        FileNotFoundError: A file that must be there is not.
        ValueError: An argument or a file has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("ho3d_mesh")

    def __init__(
        self,
        data_root: str,
        split: str = "train",
        sequences: Sequence[str] | None = None,
        with_vertices: bool = False,
        cache: bool = False,
        metainfo: dict | None = None,
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
        sample_interval: int = 1,
    ) -> None:
        if split not in _SPLITS:
            raise ValueError(
                f"HO3DMeshDataset: unknown split {split!r}; known: {', '.join(_SPLITS)}"
            )
        self.root = Path(data_root)
        self.split = split
        self.sequences = None if sequences is None else tuple(sequences)
        self.with_vertices = with_vertices
        self.cache = cache
        super().__init__(
            data_root=str(data_root),
            metainfo=metainfo,
            indices=indices,
            serialize_data=serialize_data,
            pipeline=list(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
            sample_interval=sample_interval,
        )

    def load_data_list(self) -> list[dict]:
        """Read the list of the split and look for its files.

        Returns:
            For every sample its place in the list, image and label file.
        """
        frames = read_frame_list(self.root, self.split)
        self._truth = self._read_truth(len(frames))
        samples = [
            dict(img_id=place, id=place, img_path=str(image), meta=str(meta), sequence=frame[0])
            for place, (frame, (image, meta)) in enumerate(
                zip(frames, frame_files(self.root, self.split, frames), strict=True)
            )
        ]
        samples = self._of_sequences(samples)
        for sample in {sample["sequence"]: sample for sample in reversed(samples)}.values():
            self._record(sample, sample["meta"])
        return [
            {name: value for name, value in sample.items() if name != "sequence"}
            for sample in every_nth(samples, self.sample_interval, "HO3DMeshDataset")
        ]

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        info = super().get_data_info(idx)
        return info | self._record(info, info.pop("meta"))

    def _of_sequences(self, samples: list[dict]) -> list[dict]:
        if self.sequences is None:
            return samples
        known = {sample["sequence"] for sample in samples}
        unknown = set(self.sequences) - known
        if unknown or not self.sequences:
            raise ValueError(
                f"HO3DMeshDataset: sequences {sorted(unknown)} are not in {self.split}.txt, which "
                f"has {', '.join(sorted(known))}"
            )
        return [sample for sample in samples if sample["sequence"] in self.sequences]

    def _read_truth(self, count: int) -> dict[str, np.ndarray]:
        """Joints and mesh of the evaluation split, where the user has them."""
        names = ["xyz"] + ["verts"] * self.with_vertices
        names = [name for name in names if (self.root / f"evaluation_{name}.json").is_file()]
        if self.split != "evaluation" or not names:
            return {}
        truth = read_freihand(self.root, "evaluation", names, self.cache)
        for name, array in truth.items():
            if len(array) != count:
                raise ValueError(
                    f"{self.root}: evaluation_{name}.json has {len(array)} entries and "
                    f"evaluation.txt {count} lines; they do not belong together"
                )
        return truth

    def _record(self, sample: dict, meta: str) -> dict:
        labels = read_frame(Path(meta), self.split)
        joints, valid = self._joints(labels, sample["id"])
        keypoints = np.zeros((NUM_JOINTS, 2))
        keypoints[valid] = project(joints[valid], labels.cam_K)
        vertices = self._truth.get("verts")
        return hand_record(
            meta,
            img_path=sample["img_path"],
            img_id=sample["img_id"],
            id=sample["id"],
            bbox=box_around(keypoints) if labels.bbox is None else labels.bbox,
            is_right=True,
            keypoints=keypoints,
            keypoints_visible=valid,
            keypoints_cam=joints,
            keypoints_cam_valid=valid,
            vertices_cam=None if vertices is None else vertices[sample["id"]] @ _FROM_OPENGL,
            mano_pose=None if labels.pose is None else turned(labels.pose, _FROM_OPENGL),
            mano_betas=labels.betas,
            cam_K=labels.cam_K,
        )

    def _joints(self, labels: FrameLabels, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Joints (21, 3) in OpenPose order and our frame, and which of them are known."""
        found = labels.joints
        if "xyz" in self._truth:
            found = self._truth["xyz"][place].astype(np.float64)
        if len(found) == NUM_JOINTS:
            return found[_TO_OPENPOSE] @ _FROM_OPENGL, np.ones(NUM_JOINTS, bool)
        joints, valid = np.zeros((NUM_JOINTS, 3)), np.zeros(NUM_JOINTS, bool)
        joints[0], valid[0] = found[0] @ _FROM_OPENGL, True
        return joints, valid
