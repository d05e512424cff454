"""FreiHAND in its official layout, with camera, joints, mesh and MANO parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from mmengine.logging import print_log
from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from mamba_mm.models.body_models import resolve_mano
from mamba_mm.models.body_models.mano_file import MANO_VARIABLE

from .freihand_files import read_freihand
from .metainfo import hand_metainfo
from .projection import project
from .record import check_plausible_hands, hand_record

VERSIONS = ("gs", "hom", "sample", "auto")
"""The backgrounds of the training images, in the order of their ids."""

_SPLITS = ("training", "evaluation")


class FreiHANDMeshDataset(BaseCocoStyleDataset):
    """Hands of the official FreiHAND release (Zimmermann et al., ICCV 2019), all of them right.

    Reads ``SPLIT/rgb/%08d.jpg`` and ``SPLIT_{K,xyz,verts,mano}.json``. The training images show
    every pose four times, on different backgrounds: image ``i`` has the labels ``i`` modulo the
    length of the JSON files. Only the labels are kept in memory, once for all backgrounds; the
    records are made when they are asked for.

    The MANO file is needed for the mean pose, which the release has subtracted. Without it, and
    for files that an older evaluation archive does not have, samples say that they lack these
    labels (``has_mano``, ``has_3d`` and so on are 0).

    Args:
        data_root: Folder of the release.
        split: ``"training"`` or ``"evaluation"``.
        versions: Which backgrounds of the training images, out of :data:`VERSIONS`.
        indices: Which *poses* (not images, as in other data sets: images of one pose on both sides
            of a split would leak): the first ``n``, the last ``-n``, or a list of label indices.
        with_vertices: Read the mesh too, needed for MPVPE and vertex losses.
        mano_path: File of the right hand, as in ``resolve_mano``. ``None`` takes the environment
            variable ``MAMBA_MM_MANO``, and without that leaves the parameters out.
        bbox: ``"image"``: the box is the whole image, the protocol of the benchmark.
            ``"keypoints"``: the tight box around the joints.
        cache: Keep a copy of the labels beside the JSON files that reads in seconds.
        metainfo: As in MMPose.
        pipeline: As in MMPose.
        test_mode: As in MMPose.
        serialize_data: As in MMPose.
        lazy_init: As in MMPose.
        max_refetch: As in MMPose.

    Raises:
        FileNotFoundError: A file that must be there is not.
        ValueError: An argument or a file has unusable content.
    """

    METAINFO: ClassVar[dict] = hand_metainfo("freihand_mesh")

    def __init__(
        self,
        data_root: str,
        split: str = "training",
        versions: Sequence[str] = VERSIONS,
        indices: int | Sequence[int] | None = None,
        with_vertices: bool = False,
        mano_path: str | None = None,
        bbox: str = "image",
        cache: bool = False,
        metainfo: dict | None = None,
        pipeline: Sequence[dict | Callable] = (),
        test_mode: bool = False,
        serialize_data: bool = True,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        _check_choice("split", split, _SPLITS)
        _check_choice("bbox", bbox, ("image", "keypoints"))
        if isinstance(versions, str) or not versions:
            raise ValueError(f"FreiHANDMeshDataset: versions is a list out of {VERSIONS}")
        for version in versions:
            _check_choice("version", version, VERSIONS)
        self.root = Path(data_root)
        self.split = split
        self.versions = tuple(versions)
        self.pose_indices = indices
        self.with_vertices = with_vertices
        self.mano_path = mano_path
        self.bbox = bbox
        self.cache = cache
        super().__init__(
            data_root=str(data_root),
            metainfo=metainfo,
            pipeline=list(pipeline),
            test_mode=test_mode,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    def load_data_list(self) -> list[dict]:
        """Read the labels and list the images.

        Returns:
            For every image its id and path, backgrounds one after the other.
        """
        self._labels = read_freihand(self.root, self.split, self._files_to_read(), self.cache)
        self._hands_mean = self._read_hands_mean()
        lengths = [len(array) for array in self._labels.values()]
        self.num_poses = lengths[0] if lengths else self._count_images()
        if "xyz" in self._labels:
            source = self.root / f"{self.split}_xyz.json"
            check_plausible_hands(
                self._labels["xyz"],
                np.ones((self.num_poses, 21)),
                lambda index: f"entry {index} of {source}",
            )
        if self.bbox == "keypoints" and not {"K", "xyz"} <= self._labels.keys():
            raise ValueError(
                f"FreiHANDMeshDataset: bbox='keypoints' needs {self.split}_K.json and "
                f"{self.split}_xyz.json in {self.root}; use bbox='image'"
            )
        poses = self._chosen_poses()
        offsets = [0]
        if self.split == "training":
            offsets = [VERSIONS.index(version) * self.num_poses for version in self.versions]
        self._image_size = self._check_images([offset + poses[0] for offset in offsets])
        return [
            dict(img_id=offset + pose, img_path=str(self._image(offset + pose)))
            for offset in offsets
            for pose in poses
        ]

    def get_data_info(self, idx: int) -> dict:
        """Return the record of a sample, with what MMPose adds.

        Args:
            idx: Index of the sample.

        Returns:
            What :func:`hand_record` returns, and the metainfo that MMPose's transforms use.
        """
        info = super().get_data_info(idx)
        image_id = info["img_id"]
        return info | self._record(image_id, info["img_path"])

    def _record(self, image_id: int, img_path: str) -> dict:
        label = {name: array[image_id % self.num_poses] for name, array in self._labels.items()}
        keypoints = project(label["xyz"], label["K"]) if {"K", "xyz"} <= label.keys() else None
        pose = betas = None
        if self._hands_mean is not None:
            pose = label["mano"][:48].astype(np.float64)
            pose[3:] += self._hands_mean
            betas = label["mano"][48:58]
        box = np.array([0, 0, *self._image_size])
        if self.bbox == "keypoints":
            box = np.concatenate([keypoints.min(axis=0), keypoints.max(axis=0)])
        return hand_record(
            f"sample {image_id} of {self.root} ({self.split})",
            img_path=img_path,
            img_id=image_id,
            id=image_id,
            bbox=box,
            is_right=True,
            keypoints=keypoints,
            keypoints_cam=label.get("xyz"),
            vertices_cam=label.get("verts"),
            mano_pose=pose,
            mano_betas=betas,
            cam_K=label.get("K"),
        )

    def _image(self, image_id: int) -> Path:
        return self.root / self.split / "rgb" / f"{image_id:08d}.jpg"

    def _files_to_read(self) -> list[str]:
        """Names of the label files that are there; complain about those that must be."""
        joints_and_mesh = ["K", "xyz"] + ["verts"] * self.with_vertices
        there = []
        for name in (*joints_and_mesh, "mano"):
            path = self.root / f"{self.split}_{name}.json"
            if path.is_file():
                there.append(name)
            elif self.split == "training" and name in joints_and_mesh:
                raise FileNotFoundError(
                    f"FreiHANDMeshDataset: {path} is not there. data_root must be the unpacked "
                    "official release (FreiHAND_pub_v2), which is downloaded from "
                    "https://lmb.informatik.uni-freiburg.de/projects/freihand/"
                )
            else:
                print_log(f"{path} is not there: samples have no such labels", "current")
        return there

    def _read_hands_mean(self) -> np.ndarray | None:
        """Return the mean of the 45 pose numbers; drop the labels that mean nothing without it."""
        if "mano" not in self._labels:
            return None
        if self.mano_path is None and not os.environ.get(MANO_VARIABLE):
            print_log(
                "FreiHANDMeshDataset: no MANO file, so samples have no MANO parameters (has_mano "
                f"is 0). Give mano_path or set {MANO_VARIABLE} to have them",
                "current",
            )
            return None
        model = resolve_mano(self.mano_path)
        if model.side != "right":
            raise ValueError(
                "FreiHANDMeshDataset: the MANO file is of a left hand, and FreiHAND's poses are "
                "relative to the mean of right ones; give MANO_RIGHT.pkl"
            )
        return np.asarray(model.hands_mean, np.float64)

    def _chosen_poses(self) -> list[int]:
        chosen = self.pose_indices
        every = list(range(self.num_poses))
        if chosen is None:
            return every
        if isinstance(chosen, int):
            poses = every[:chosen] if chosen >= 0 else every[chosen:]
        else:
            poses = [int(index) for index in chosen]
        if not poses or min(poses) < 0 or max(poses) >= self.num_poses:
            raise ValueError(
                f"FreiHANDMeshDataset: indices must choose among the {self.num_poses} poses of "
                f"{self.root} ({self.split}), numbered from 0"
            )
        return poses

    def _count_images(self) -> int:
        count = len(list((self.root / self.split / "rgb").glob("*.jpg")))
        if count == 0:
            raise FileNotFoundError(
                f"FreiHANDMeshDataset: no image in {self.root / self.split / 'rgb'}; data_root "
                "must be the unpacked official release"
            )
        return count

    def _check_images(self, image_ids: Sequence[int]) -> tuple[int, int]:
        """Look at the first image of each background; return the (width, height) of all."""
        for image_id in image_ids:
            image = cv2.imread(str(self._image(image_id)))
            if image is None:
                raise FileNotFoundError(
                    f"FreiHANDMeshDataset: {self._image(image_id)} is not there or unreadable. "
                    f"The labels are of {self.num_poses} poses; if the folder does not have all "
                    f"four backgrounds, say which: versions=('gs',)"
                )
        return image.shape[1], image.shape[0]


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(
            f"FreiHANDMeshDataset: unknown {name} {value!r}; known: {', '.join(known)}"
        )
