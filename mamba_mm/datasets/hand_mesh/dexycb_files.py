"""The files of DexYCB: sequences, cameras, calibration, and an archive of labels for each frame."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from mmengine.logging import print_log

from .label_fields import field, numbers
from .metainfo import NUM_JOINTS
from .whole_file import whole_file

INDEX_NAME = "mamba_mm_dexycb_hands.json"
_HOW_TO_GET_IT = "data_root must be the unpacked release of DexYCB, https://dex-ycb.github.io"
_LABELS = re.compile(r"labels_(\d{6})\.npz")
_NO_HAND = -1


@dataclass(frozen=True)
class SequenceInfo:
    """What ``meta.yml`` of a sequence says.

    Attributes:
        serials: Its cameras.
        is_right: Side of the hand.
        betas: Shape of the subject's hand, (10,).
    """

    serials: tuple[str, ...]
    is_right: bool
    betas: np.ndarray


@dataclass(frozen=True)
class HandLabels:
    """What the archive of a frame says about the hand, in the frame of the camera.

    Attributes:
        joints: OpenPose order, metres, (21, 3).
        keypoints: The same in pixels, (21, 2).
        pose: Axis-angle of the global orientation, then 45 PCA coefficients, (48,), or ``None``
            where it is not known.
    """

    joints: np.ndarray
    keypoints: np.ndarray
    pose: np.ndarray | None


def read_sequence(root: Path, name: str) -> SequenceInfo:
    """Read ``meta.yml`` of a sequence and the shape that it refers to.

    Args:
        root: Folder of the release.
        name: ``SUBJECT/SEQUENCE``.

    Returns:
        What they say.

    Raises:
        FileNotFoundError: A file is not there.
        ValueError: A file has unusable content.
    """
    path = root / name / "meta.yml"
    meta = _read_yaml(path)
    source = str(path)
    sides, calibrations = field(source, meta, "mano_sides"), field(source, meta, "mano_calib")
    if sides not in (["right"], ["left"]) or len(calibrations) != 1:
        raise ValueError(
            f"{source}: mano_sides is {sides!r} and mano_calib {calibrations!r}, expected one of "
            "each, right or left"
        )
    shape_file = root / "calibration" / f"mano_{calibrations[0]}" / "mano.yml"
    betas = field(str(shape_file), _read_yaml(shape_file), "betas")
    serials = tuple(map(str, field(source, meta, "serials")))
    return SequenceInfo(
        serials, sides == ["right"], numbers(str(shape_file), "betas", betas, (10,))
    )


def read_intrinsics(root: Path, serial: str) -> np.ndarray:
    """Read the intrinsics of a colour camera.

    Args:
        root: Folder of the release.
        serial: The camera.

    Returns:
        Shape (3, 3), pixels of images of 640 x 480.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It has unusable content.
    """
    path = root / "calibration" / "intrinsics" / f"{serial}_640x480.yml"
    color = field(str(path), _read_yaml(path), "color")
    names = ("fx", "fy", "ppx", "ppy")
    fx, fy, cx, cy = numbers(
        str(path), "color", [field(str(path), color, name) for name in names], (4,)
    )
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def read_hand(path: Path) -> HandLabels | None:
    """Read the labels of a frame.

    Args:
        path: ``labels_NNNNNN.npz``.

    Returns:
        The labels, or ``None`` for a frame without a hand, whose joints are all -1.

    Raises:
        ValueError: The archive is unreadable, or an entry is missing or unusable.
    """
    labels = _read_arrays(path, ("joint_3d", "joint_2d", "pose_m"))
    source = str(path)
    joints = numbers(source, "joint_3d", labels["joint_3d"], (1, NUM_JOINTS, 3))[0]
    if (joints == _NO_HAND).all():
        return None
    keypoints = numbers(source, "joint_2d", labels["joint_2d"], (1, NUM_JOINTS, 2))[0]
    pose = numbers(source, "pose_m", labels["pose_m"], (1, 51))[0, :48]
    return HandLabels(joints, keypoints, pose if pose.any() else None)


class HandIndex:
    """Which frames of each camera's folder show a hand; kept in a file where that is asked for.

    To know it, every archive must be opened: half a million in the whole set.

    Args:
        root: Folder of the release.
        keep: Keep the answers in ``mamba_mm_dexycb_hands.json`` there. A folder is looked through
            again when files have come or gone.
    """

    def __init__(self, root: Path, keep: bool) -> None:
        self._root = root
        self._path = root / INDEX_NAME if keep else None
        self._known = self._read()
        self._changed = False

    def frames(self, name: str) -> list[int]:
        """Return the numbers of the frames with a hand.

        Args:
            name: ``SUBJECT/SEQUENCE/SERIAL``.

        Raises:
            FileNotFoundError: The folder, or the image of such a frame, is not there.
            ValueError: An archive has unusable content.
        """
        folder = self._root / name
        if not folder.is_dir():
            raise FileNotFoundError(f"DexYCBMeshDataset: no folder {folder}. {_HOW_TO_GET_IT}")
        stamp = folder.stat().st_mtime_ns
        known = self._known.get(name)
        if known is None or known["stamp"] != stamp:
            known = self._known[name] = dict(stamp=stamp, frames=_frames_with_hand(folder))
            self._changed = True
        return known["frames"]

    def save(self) -> None:
        """Write the file, if there is one and it has become another."""
        if self._path is None or not self._changed:
            return
        with whole_file(self._path) as file:
            file.write(json.dumps(self._known).encode())

    def _read(self) -> dict:
        if self._path is None or not self._path.is_file():
            return {}
        try:
            known = json.loads(self._path.read_text())
            return {
                str(name): dict(stamp=int(entry["stamp"]), frames=list(map(int, entry["frames"])))
                for name, entry in known.items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            print_log(f"{self._path} is unreadable ({error}); reading the labels", "current")
            return {}


def image_path(root: Path, name: str, frame: int) -> Path:
    """Return the image of a frame of ``SUBJECT/SEQUENCE/SERIAL``."""
    return root / name / f"color_{frame:06d}.jpg"


def labels_path(root: Path, name: str, frame: int) -> Path:
    """Return the labels of a frame of ``SUBJECT/SEQUENCE/SERIAL``."""
    return root / name / f"labels_{frame:06d}.npz"


def _frames_with_hand(folder: Path) -> list[int]:
    files = {path.name for path in folder.iterdir()}
    numbered = sorted(int(match[1]) for match in map(_LABELS.fullmatch, files) if match)
    if not numbered:
        raise FileNotFoundError(f"DexYCBMeshDataset: no labels in {folder}. {_HOW_TO_GET_IT}")
    frames = [frame for frame in numbered if read_hand(folder / f"labels_{frame:06d}.npz")]
    for frame in frames:
        if f"color_{frame:06d}.jpg" not in files:
            raise FileNotFoundError(
                f"DexYCBMeshDataset: {folder} has labels of frame {frame}, but no image "
                f"color_{frame:06d}.jpg. {_HOW_TO_GET_IT}"
            )
    return frames


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"DexYCBMeshDataset: {path} is not there. {_HOW_TO_GET_IT}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no mapping")
    return content


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise ValueError(f"no {', '.join(missing)}, only {', '.join(archive.files)}")
            return {name: archive[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path}: not the labels of a frame: {error}") from error
