"""The files of HO-3D: lists of frames, and a pickle of labels for each frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamba_mm.models.body_models.array_pickle import read_array_pickle

from .label_fields import field, numbers
from .metainfo import NUM_JOINTS

_HOW_TO_GET_IT = (
    "data_root must be the unpacked release of HO-3D, version 2 or 3, which "
    "https://github.com/shreyashampali/ho3d leads to"
)
_IMAGE_ENDINGS = (".png", ".jpg")


@dataclass(frozen=True)
class FrameLabels:
    """What the pickle of a frame says about the hand, in OpenGL's camera frame and MANO's order.

    Attributes:
        cam_K: Intrinsics, (3, 3).
        joints: MANO's 16 joints and the tips, metres, (21, 3); only the wrist, (1, 3), in the
            evaluation split.
        pose: Absolute axis-angle, global orientation first, (48,), if known.
        betas: Shape, (10,), if known.
        bbox: Box (x1, y1, x2, y2), in the evaluation split.
    """

    cam_K: np.ndarray
    joints: np.ndarray
    pose: np.ndarray | None = None
    betas: np.ndarray | None = None
    bbox: np.ndarray | None = None


def read_frame_list(root: Path, split: str) -> list[tuple[str, str]]:
    """Read ``SPLIT.txt``.

    Args:
        root: Folder of the release.
        split: ``"train"`` or ``"evaluation"``.

    Returns:
        (sequence, frame) of every line, in the order of the file.

    Raises:
        FileNotFoundError: The list is not there.
        ValueError: A line is no frame, or is there twice.
    """
    path = root / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"HO3DMeshDataset: {path} is not there. {_HOW_TO_GET_IT}")
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"HO3DMeshDataset: {path} is empty")
    frames: dict[tuple[str, str], None] = {}
    for line in lines:
        if not re.fullmatch(r"[\w-]+/[\w-]+", line):
            raise ValueError(f"HO3DMeshDataset: {path} has the line {line!r}, expected SEQ/0000")
        sequence, frame = line.split("/")
        if (sequence, frame) in frames:
            raise ValueError(f"HO3DMeshDataset: {path} lists {line} twice")
        frames[sequence, frame] = None
    return list(frames)


def frame_files(
    root: Path, split: str, frames: Sequence[tuple[str, str]]
) -> list[tuple[Path, Path]]:
    """Find the image and the labels of frames.

    Args:
        root: Folder of the release.
        split: ``"train"`` or ``"evaluation"``.
        frames: As :func:`read_frame_list` returns them.

    Returns:
        Image and label file of each.

    Raises:
        FileNotFoundError: One is not there.
    """
    folders: dict[Path, set[str]] = {}

    def has(path: Path) -> bool:
        # One listing of a folder instead of a question for each of its thousands of files.
        if path.parent not in folders:
            folder = path.parent
            folders[folder] = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        return path.name in folders[path.parent]

    found = []
    for sequence, frame in frames:
        folder = root / split / sequence
        images = [folder / "rgb" / f"{frame}{ending}" for ending in _IMAGE_ENDINGS]
        image = next((path for path in images if has(path)), None)
        meta = folder / "meta" / f"{frame}.pkl"
        if image is None or not has(meta):
            missing = f"{meta}" if image is not None else f"{images[0]} (or .jpg)"
            raise FileNotFoundError(
                f"HO3DMeshDataset: {split}.txt lists {sequence}/{frame}, but {missing} is not "
                f"there. {_HOW_TO_GET_IT}"
            )
        found.append((image, meta))
    return found


def read_frame(path: Path, split: str) -> FrameLabels:
    """Read the labels of a frame, without running anything in the pickle.

    Args:
        path: The pickle.
        split: ``"train"``: all joints and the parameters of MANO must be there; or
            ``"evaluation"``: the wrist and the box.

    Returns:
        The labels.

    Raises:
        RefusedPickleError: The pickle holds something else than arrays and plain values.
        ValueError: A field is missing or unusable.
    """
    labels = read_array_pickle(path)
    source = str(path)
    cam_K = numbers(source, "camMat", field(source, labels, "camMat"), (3, 3))
    joints = field(source, labels, "handJoints3D")
    if joints is None:
        raise ValueError(f"{source}: handJoints3D is None, the frame has no hand; leave it out")
    if split == "evaluation":
        box = numbers(source, "handBoundingBox", field(source, labels, "handBoundingBox"), (4,))
        wrist = numbers(source, "handJoints3D", joints, (3,))
        return FrameLabels(cam_K, wrist[None], bbox=box)
    return FrameLabels(
        cam_K,
        numbers(source, "handJoints3D", joints, (NUM_JOINTS, 3)),
        numbers(source, "handPose", field(source, labels, "handPose"), (48,)),
        numbers(source, "handBeta", field(source, labels, "handBeta"), (10,)),
    )
