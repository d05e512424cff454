"""DexYCB: hands of both sides that grasp objects, seen by eight cameras."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .dexycb_files import (
    INDEX_NAME,
    HandIndex,
    SequenceInfo,
    image_path,
    labels_path,
    read_hand,
    read_intrinsics,
    read_sequence,
)
from .dexycb_splits import NUM_SEQUENCES, NUM_SERIALS, NUM_SUBJECTS, SETUPS, SPLITS, Positions
from .label_fields import box_around, every_nth
from .metainfo import hand_metainfo
from .pose_basis import PoseBasis, left_basis, right_basis
from .projection import project
from .record import hand_record

_PIXELS_APART = 10.0


class DexYCBMeshDataset(BaseCocoStyleDataset):
    """Hands of DexYCB (Chao et al., CVPR 2021), one hand a sample, of either side.

    Reads a folder as it is unpacked: ``SUBJECT/SEQUENCE/SERIAL/{color_NNNNNN.jpg,
    labels_NNNNNN.npz}``, ``SUBJECT/SEQUENCE/meta.yml`` and ``calibration``. Frames without a hand
    are left out. Of the objects nothing is read.

    The released poses are PCA coefficients, so they need the MANO file of their side: the
    components of the left model cannot be told from the right one. Without it, samples of that
    side have no MANO parameters. Shapes were measured on right hands, and used for left ones with
    the released left model, whose shape directions have a wrong sign (the authors, in issue 28 of
    their toolkit): the shape of left hands is approximate.

    Args:
        data_root: Folder of the release.
        setup: ``"s0"`` (unseen sequences), ``"s1"`` (subjects), ``"s2"`` (cameras) or ``"s3"``
            (objects); see :data:`~mamba_mm.datasets.hand_mesh.dexycb_splits.SETUPS`. ``None``:
            everything there is.
        split: ``"train"``, ``"val"`` or ``"test"`` of the setup.
        subjects: Of the split, only these subjects, such as ``"20200709-subject-01"``.
        sequences: Only these, such as ``"20200709-subject-01/20200709_141754"``.
        serials: Only these cameras.
        mano_path: File of the right hand's model, as in ``resolve_mano``. ``None`` takes the
            environment variable ``MAMBA_MM_MANO``, and without that leaves the parameters out.
        mano_left_path: File of the left hand's model.
        cache: Keep in ``data_root`` which frames show a hand; else every label file is opened at
            each start.
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

    METAINFO: ClassVar[dict] = hand_metainfo("dexycb_mesh")

    def __init__(
        self,
        data_root: str,
        setup: str | None = "s0",
        split: str = "train",
        subjects: Sequence[str] | None = None,
        sequences: Sequence[str] | None = None,
        serials: Sequence[str] | None = None,
        mano_path: str | None = None,
        mano_left_path: str | None = None,
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
        if setup is not None:
            _check_known("setup", [setup], SETUPS)
        _check_known("split", [split], SPLITS)
        self.root = Path(data_root)
        self.positions = None if setup is None else SETUPS[setup][split]
        self.subjects = subjects
        self.sequences = sequences
        self.serials = serials
        self.mano_path = mano_path
        self.mano_left_path = mano_left_path
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
        """Find the sequences of the split, and their frames with a hand.

        Returns:
            For every hand the folder of its camera and the number of the frame.
        """
        names = list(self._sequence_names())
        self._infos = {name: read_sequence(self.root, name) for name in names}
        serials = {serial for info in self._infos.values() for serial in info.serials}
        self._intrinsics = {serial: read_intrinsics(self.root, serial) for serial in serials}
        self._bases = self._read_bases()
        index = HandIndex(self.root, self.cache)
        folders = [
            f"{name}/{serial}" for name in names for serial in self._chosen_serials(name, serials)
        ]
        samples = [(folder, frame) for folder in folders for frame in index.frames(folder)]
        index.save()
        if not samples:
            raise ValueError(f"DexYCBMeshDataset: no hand in the chosen sequences of {self.root}")
        samples = [
            dict(
                id=number,
                img_id=number,
                img_path=str(image_path(self.root, folder, frame)),
                folder=folder,
                frame=frame,
            )
            for number, (folder, frame) in enumerate(samples)
        ]
        for sample in {sample["folder"]: sample for sample in reversed(samples)}.values():
            self._record(sample, sample["folder"], sample["frame"])
        return every_nth(samples, self.sample_interval, "DexYCBMeshDataset")

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        info = super().get_data_info(idx)
        return info | self._record(info, info.pop("folder"), info.pop("frame"))

    def _sequence_names(self) -> Iterator[str]:
        """``SUBJECT/SEQUENCE`` of everything in the split that is asked for."""
        if not self.root.is_dir():
            raise FileNotFoundError(f"DexYCBMeshDataset: there is no folder {self.root}")
        there = sorted(path.name for path in self.root.glob("*-subject-*") if path.is_dir())
        positions = self.positions
        if self.subjects is not None:
            _check_known("subjects", self.subjects, there)
        elif positions is not None and len(there) != NUM_SUBJECTS:
            raise ValueError(
                f"DexYCBMeshDataset: {self.root} has {len(there)} subjects of {NUM_SUBJECTS}; the "
                "published splits need all, or say which with subjects=[...] or setup=None"
            )
        names = [
            name
            for subject in there
            if self.subjects is None or subject in self.subjects
            for name in self._sequences_of(subject, positions)
        ]
        if self.sequences is not None:
            _check_known("sequences", self.sequences, names)
        yield from (n for n in names if self.sequences is None or n in self.sequences)

    def _sequences_of(self, subject: str, positions: Positions | None) -> list[str]:
        folder = self.root / subject
        names = sorted(f"{subject}/{path.name}" for path in folder.iterdir() if path.is_dir())
        if positions is None:
            return names
        # The subjects are numbered from 01.
        if int(subject.rpartition("-")[2]) - 1 not in positions.subjects:
            return []
        if len(names) != NUM_SEQUENCES:
            raise ValueError(
                f"DexYCBMeshDataset: {folder} has {len(names)} sequences of {NUM_SEQUENCES}; the "
                "published splits count them, so take setup=None and say which with "
                "sequences=[...]"
            )
        return [names[position] for position in positions.sequences]

    def _chosen_serials(self, name: str, everywhere: set[str]) -> list[str]:
        serials = sorted(self._infos[name].serials)
        if self.positions is not None:
            if len(serials) != NUM_SERIALS:
                raise ValueError(
                    f"{self.root / name / 'meta.yml'} has {len(serials)} cameras, expected "
                    f"{NUM_SERIALS}"
                )
            serials = [serials[position] for position in self.positions.serials]
        if self.serials is not None:
            _check_known("serials", self.serials, sorted(everywhere))
        return [s for s in serials if self.serials is None or s in self.serials]

    def _read_bases(self) -> dict[bool, PoseBasis | None]:
        """Bases of right (True) and left hands, of the sides that there are."""
        sides = {info.is_right for info in self._infos.values()}
        bases = {}
        if True in sides:
            bases[True] = right_basis("DexYCBMeshDataset", self.mano_path)
        if False in sides:
            bases[False] = left_basis("DexYCBMeshDataset", self.mano_left_path)
        return bases

    def _record(self, sample: dict, folder: str, frame: int) -> dict:
        path = labels_path(self.root, folder, frame)
        labels = read_hand(path)
        if labels is None:
            raise ValueError(
                f"{path} has no hand, though it had one; remove {self.root / INDEX_NAME}"
            )
        name, _, serial = folder.rpartition("/")
        cam_K = self._intrinsics[serial]
        _check_projection(path, labels.joints, labels.keypoints, cam_K)
        info = self._infos[name]
        pose = self._absolute(labels.pose, info)
        return hand_record(
            str(path),
            img_path=sample["img_path"],
            img_id=sample["img_id"],
            id=sample["id"],
            bbox=box_around(labels.keypoints),
            is_right=info.is_right,
            keypoints=labels.keypoints,
            keypoints_cam=labels.joints,
            mano_pose=pose,
            mano_betas=None if pose is None else info.betas,
            cam_K=cam_K,
        )

    def _absolute(self, pose: np.ndarray | None, info: SequenceInfo) -> np.ndarray | None:
        basis = self._bases[info.is_right]
        if pose is None or basis is None:
            return None
        return np.concatenate([pose[:3], basis.from_pca(pose[3:])])


def _check_projection(
    path: Path, joints: np.ndarray, keypoints: np.ndarray, cam_K: np.ndarray
) -> None:
    """Refuse joints that the camera does not see where the labels have them."""
    if not (joints[:, 2] > 0).all():
        return  # hand_record says what is wrong with such joints
    apart = np.median(np.linalg.norm(project(joints, cam_K) - keypoints, axis=-1))
    if apart > _PIXELS_APART:
        raise ValueError(
            f"{path}: joint_3d is seen {apart:.0f} pixels from joint_2d; do the calibration and "
            "the labels belong together?"
        )


def _check_known(name: str, given: Sequence[str], known: Sequence[str] | dict) -> None:
    unknown = [] if isinstance(given, str) else [value for value in given if value not in known]
    if isinstance(given, str) or not given or unknown:
        raise ValueError(
            f"DexYCBMeshDataset: unknown {name} {unknown or given!r}; known: {', '.join(known)}"
        )
