"""The evaluation files of HaMeR: plain NumPy archives of the labels of a set."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from .hamer_labels import (
    HandLabelError,
    HandLabels,
    check_boxes,
    labels_to_record,
    parse_labels,
)

EVALUATION_BOX_UNIT = 1.0
"""Pixels per unit of ``scale``."""

_NEEDED = ("imgname", "center", "scale")
# What a file may leave out, and what stands for it.
_DEFAULTS: dict[str, np.ndarray] = dict(
    hand_keypoints_2d=np.zeros((21, 3)),
    hand_keypoints_3d=np.zeros((21, 4)),
    right=np.ones(()),
    hand_pose=np.zeros(48),
    betas=np.zeros(10),
    has_hand_pose=np.zeros(()),
    has_betas=np.zeros(()),
)
_NAMES = dict(hand_keypoints_2d="keypoints_2d", hand_keypoints_3d="keypoints_3d")


def evaluation_records(path: str | Path, folder: str | Path) -> list[dict]:
    """Make the records of an evaluation file. Nothing is filtered.

    Args:
        path: The ``.npz`` file.
        folder: What its image names start from.

    Returns:
        What :func:`hand_record` returns, for every hand; hands of one image have its ``img_id``.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: As in :func:`read_evaluation_file`.
    """
    names, labels = read_evaluation_file(path)
    image_ids = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [
        labels_to_record(
            f"{path}, hand {number}",
            hand,
            None,
            img_path=str(Path(folder) / name),
            img_id=image_ids[name],
            id=number,
        )
        for number, (name, hand) in enumerate(zip(names, labels, strict=True))
    ]


def read_evaluation_file(path: str | Path) -> tuple[list[str], list[HandLabels]]:
    """Read the images and labels of an evaluation file.

    Only its plain arrays are read: ``imgname``, ``center``, ``scale`` (pixels) and, where it has
    them, ``hand_keypoints_2d``, ``hand_keypoints_3d``, ``right`` (ones by default), ``hand_pose``,
    ``betas`` and their flags.

    Args:
        path: The ``.npz`` file.

    Returns:
        For every hand the name of its image below the folder of images, and its labels.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is damaged, has Python objects where numbers are needed, arrays of other
            shapes or numbers that are not finite, or ``scale`` is not in pixels.
    """
    path = Path(path)
    arrays = _read_arrays(path)
    names = _image_names(path, arrays["imgname"])
    labels = []
    for number in range(len(names)):
        fields = {_NAMES.get(key, key): arrays[key][number] for key in arrays if key != "imgname"}
        try:
            hand = parse_labels(fields, EVALUATION_BOX_UNIT)
        except HandLabelError as error:
            raise ValueError(f"{path}, hand {number}: {error}") from error
        if not hand.is_finite:
            raise ValueError(
                f"{path}, hand {number}: numbers that are not finite, or a box without a size"
            )
        labels.append(hand)
    check_boxes(str(path), np.array([hand.box_ratio for hand in labels]), "its side in pixels")
    return names, labels


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [key for key in _NEEDED if key not in stored]:
                raise ValueError(f"lacks {', '.join(missing)}; it has {', '.join(stored.files)}")
            arrays = {key: _read_array(stored, key) for key in (*_NEEDED, *_DEFAULTS)}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no evaluation file of HaMeR: {error}") from error
    count = len(arrays["imgname"])
    arrays = {
        key: np.broadcast_to(_DEFAULTS[key], (count, *_DEFAULTS[key].shape))
        if array is None
        else array
        for key, array in arrays.items()
    }
    if lengths := {key: len(array) for key, array in arrays.items() if len(array) != count}:
        raise ValueError(f"{path}: imgname has {count} entries, others differ: {lengths}")
    if not count:
        raise ValueError(f"{path} has no hands")
    return arrays


def _read_array(stored: np.lib.npyio.NpzFile, key: str) -> np.ndarray | None:
    if key not in stored:
        return None
    try:
        return np.atleast_1d(stored[key])
    except ValueError as error:
        raise ValueError(
            f"{key} is an array of Python objects, which would have to be unpickled and are not "
            "read; if you trust the file, write it again with that array as numbers or text"
        ) from error


def _image_names(path: Path, names: np.ndarray) -> list[str]:
    if names.ndim != 1 or names.dtype.kind not in "SU":
        raise ValueError(
            f"{path}: imgname must be a list of names, it is {names.dtype} {names.shape}"
        )
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()]
