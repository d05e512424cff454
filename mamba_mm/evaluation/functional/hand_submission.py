"""The prediction files that the servers of FreiHAND and HO3D take."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Output i is OpenPose joint number i of the list: MANO's 16 joints, then the five tips.
_MANO_ORDER = (0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Submission:
    """How a server wants joints and vertices.

    Attributes:
        joint_order: OpenPose joint at each position of the file.
        axes: Factors of x, y and z from our camera frame (x right, y down, z forward).
    """

    joint_order: tuple[int, ...]
    axes: tuple[float, float, float]


SUBMISSIONS = {
    "freihand": Submission(tuple(range(21)), (1.0, 1.0, 1.0)),
    # OpenGL's camera frame: y up, z backwards.
    "ho3d": Submission(_MANO_ORDER, (1.0, -1.0, -1.0)),
}
"""By the name in configs. HO3D's v2 and v3 take the same file."""


def write_submission(
    path: str | Path, joints: np.ndarray, vertices: Iterable[np.ndarray], submission: str
) -> Path:
    """Write a prediction file and, beside it, the zip archive that the server takes.

    The file is a list of two lists: joints and vertices of all samples. The archive holds it as
    ``pred.json``, in no folder. Both appear whole or not at all.

    Args:
        path: The JSON file; the archive has the ending ``.zip`` instead.
        joints: ``(samples, 21, 3)``, metres, in OpenPose order, in our camera frame.
        vertices: ``(V, 3)`` for each sample.
        submission: A key of :data:`SUBMISSIONS`.

    Returns:
        The path of the archive.
    """
    path = Path(path)
    target = SUBMISSIONS[submission]
    axes = np.array(target.axes)
    parts = (
        (np.asarray(sample, np.float64)[list(target.joint_order)] * axes for sample in joints),
        (np.asarray(sample, np.float64) * axes for sample in vertices),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".json.part")
    # A sample at a time: as one list the numbers of FreiHAND would take gigabytes.
    with unfinished.open("w") as file:
        file.write("[")
        for index, part in enumerate(parts):
            file.write(", [" if index else "[")
            file.writelines(_separated(part))
            file.write("]")
        file.write("]")
    archive = path.with_suffix(".zip")
    unfinished_archive = path.with_suffix(".zip.part")
    with zipfile.ZipFile(unfinished_archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(unfinished, "pred.json")
    os.replace(unfinished, path)
    os.replace(unfinished_archive, archive)
    return archive


def read_submission(path: str | Path, submission: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Read a prediction file back: the inverse of :func:`write_submission`.

    Args:
        path: The JSON file.
        submission: A key of :data:`SUBMISSIONS`.

    Returns:
        Joints ``(samples, 21, 3)`` in OpenPose order, and vertices ``(V, 3)`` for each sample;
        metres, in our camera frame.
    """
    target = SUBMISSIONS[submission]
    axes = np.array(target.axes)
    joints, vertices = json.loads(Path(path).read_text())
    ours = np.empty((len(joints), 21, 3))
    ours[:, list(target.joint_order)] = np.array(joints).reshape(-1, 21, 3)
    return ours * axes, [np.array(sample) * axes for sample in vertices]


def _separated(samples: Iterable[np.ndarray]) -> Iterator[str]:
    """The samples as JSON, with commas between them."""
    for index, sample in enumerate(samples):
        yield ", " if index else ""
        yield json.dumps(sample.tolist())
