"""The meshes of a set's classes, in the order of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .keypoint_file import read_keypoints
from .models import ObjectModel, read_models

KEYPOINTS_FILE = "keypoints.json"


def read_class_models(
    folder: str | Path, object_ids: Sequence[int] | None = None, symmetry_steps: int = 24
) -> list[ObjectModel]:
    """Read the models of all classes, numbered as ``BOPObjectDataset`` numbers them.

    Args:
        folder: The folder of the models, in BOP's layout.
        object_ids: The ``object_ids`` of the data set. ``None``, as there, takes the objects of
            the folder's ``keypoints.json`` in the order of their numbers; of a folder without
            that file, all objects.
        symmetry_steps: As in :func:`read_models`.

    Returns:
        The model of every label.

    Raises:
        FileNotFoundError: As in :func:`read_models`.
        ValueError: As in :func:`read_models`, or the file of keypoints is unusable.
    """
    keypoints = Path(folder) / KEYPOINTS_FILE
    if object_ids is None and keypoints.is_file():
        object_ids = sorted(read_keypoints(keypoints))
    return list(read_models(folder, object_ids, symmetry_steps).values())
