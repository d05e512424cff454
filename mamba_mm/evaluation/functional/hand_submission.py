"""The prediction files that the servers of FreiHAND and HO3D take."""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

# Output i is OpenPose joint number i of the list: MANO's 16 joints, then the five tips.
_MANO_ORDER = (0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Submission:
    """How a server wants joints and vertices.

    Attributes:
        joint_order: OpenPose joint at each position of the file.
        axes: Factors of x, y and z from our camera frame (x right, y down, z forward).
        num_samples: How many samples a server's list may have.
    """

    joint_order: tuple[int, ...]
    axes: tuple[float, float, float]
    num_samples: tuple[int, ...]


SUBMISSIONS = {
    "freihand": Submission(tuple(range(21)), (1.0, 1.0, 1.0), (3960,)),
    # OpenGL's camera frame: y up, z backwards. Versions 2 and 3 take the same file.
    "ho3d": Submission(_MANO_ORDER, (1.0, -1.0, -1.0), (11524, 20137)),
}
"""By the name in configs. HO3D's version 3 has 103,462 images, of which 83,325 are for training."""


def submission_order(places: Sequence[int], total: int) -> list[int]:
    """Return the order in which samples go into a prediction file, which does not name them.

    Args:
        places: Of each sample at hand its place in the server's list, numbered from 0.
        total: Number of samples that there must be.

    Returns:
        Indices into ``places``: first that of place 0.

    Raises:
        ValueError: A place is taken twice, empty, or beyond the list.
    """
    counts = Counter(places)
    twice = sorted(place for place, count in counts.items() if count > 1)
    missing = [place for place in range(total) if place not in counts]
    beyond = sorted(place for place in counts if not 0 <= place < total)
    for wrong, what in (
        (twice, "are there more than once"),
        (beyond, f"are not in a list of {total}"),
        (missing, "are missing"),
    ):
        if wrong:
            named = ", ".join(map(str, wrong[:5])) + (", ..." if len(wrong) > 5 else "")
            raise ValueError(
                f"no prediction file: {len(wrong)} of its samples {what} (id {named}). The file "
                "needs every sample of the evaluation list once, numbered from 0 by their id; "
                "evaluate the whole split, without indices, sequences or sample_interval"
            )
    return sorted(range(len(places)), key=lambda index: places[index])


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

    Raises:
        ValueError: There are not as many vertices as joints, a shape is wrong, or a number is not
            finite.
    """
    path = Path(path)
    target = SUBMISSIONS[submission]
    axes = np.array(target.axes)
    unfinished = path.with_suffix(".json.part")
    archive = path.with_suffix(".zip")
    unfinished_archive = path.with_suffix(".zip.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A sample at a time: as one list the numbers of FreiHAND would take gigabytes.
        with unfinished.open("w") as file:
            file.write("[[")
            ordered = (_points(sample, 21)[list(target.joint_order)] for sample in joints)
            num_joints = _write_samples(file, (sample * axes for sample in ordered))
            file.write("], [")
            num_vertices = _write_samples(file, (_points(sample) * axes for sample in vertices))
            file.write("]]")
        if num_joints != num_vertices:
            raise ValueError(
                f"a prediction file needs joints and vertices of the same samples, got "
                f"{num_joints} and {num_vertices}"
            )
        with zipfile.ZipFile(unfinished_archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(unfinished, "pred.json")
        os.replace(unfinished, path)
        os.replace(unfinished_archive, archive)
    finally:
        unfinished.unlink(missing_ok=True)
        unfinished_archive.unlink(missing_ok=True)
    return archive


def read_submission(path: str | Path, submission: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Read a prediction file back: the inverse of :func:`write_submission`.

    Args:
        path: The JSON file.
        submission: A key of :data:`SUBMISSIONS`.

    Returns:
        Joints ``(samples, 21, 3)`` in OpenPose order, and vertices ``(V, 3)`` for each sample;
        metres, in our camera frame.

    Raises:
        ValueError: The file is no list of two lists, joints and vertices of the same samples.
    """
    target = SUBMISSIONS[submission]
    axes = np.array(target.axes)
    content = json.loads(Path(path).read_text())
    lists = isinstance(content, list) and all(isinstance(part, list) for part in content)
    if not lists or len(content) != 2 or len(content[0]) != len(content[1]):
        raise ValueError(f"{path} is no prediction file: expected two lists of the same length")
    ours = np.empty((len(content[0]), 21, 3))
    for index, sample in enumerate(content[0]):
        ours[index, list(target.joint_order)] = _points(sample, 21)
    return ours * axes, [_points(sample) * axes for sample in content[1]]


def _points(sample: np.ndarray | list, count: int | None = None) -> np.ndarray:
    """Points of a sample in float64, checked."""
    points = np.asarray(sample, np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or count not in (None, len(points)):
        raise ValueError(
            f"points of a prediction file must have the shape ({count or 'vertices'}, 3), got "
            f"{points.shape}"
        )
    if not np.isfinite(points).all():
        raise ValueError("a prediction file cannot hold points that are not finite")
    return points


def _write_samples(file: TextIO, samples: Iterable[np.ndarray]) -> int:
    """Write samples as JSON, with commas between them; return how many."""
    count = 0
    for sample in samples:
        file.write((", " if count else "") + json.dumps(sample.tolist()))
        count += 1
    return count
