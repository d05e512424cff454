"""The keypoints of a set of objects as a file.

::

    {"format": "mamba_mm object keypoints", "version": 1, "unit": "m",
     "objects": {"1": {"name": "mug", "mesh": "obj_000001.ply", "sha256": "...",
                       "diameter": 0.13, "symmetries": 1, "method": "medoids",
                       "coverage": {"mean": 0.1, "largest": 0.3, "lever": 0.2},
                       "keypoints": [[x, y, z], ...]}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..hand_mesh.whole_file import whole_file

FORMAT = "mamba_mm object keypoints"
VERSION = 1

# A tenth of a micrometre.
_DIGITS = 7


@dataclass(frozen=True)
class ObjectKeypoints:
    """The keypoints of one object.

    Attributes:
        name: Of the object.
        mesh: Name of the mesh file.
        sha256: Of the mesh file, which tells whether the points are those of another mesh.
        diameter: Of the object, metres.
        symmetries: Number of motions that leave the object as it is; 1 for an object without
            symmetry. Of keypoints of a symmetric object no image tells which is which.
        method: How they were chosen.
        coverage: How well they represent the surface, as
            :class:`~mamba_mm.datasets.object_pose.Coverage` says.
        keypoints: ``(K, 3)``, metres, in the object's frame.
    """

    name: str
    mesh: str
    sha256: str
    diameter: float
    symmetries: int
    method: str
    coverage: Mapping[str, float]
    keypoints: np.ndarray


def write_keypoints(path: str | Path, objects: Mapping[int, ObjectKeypoints]) -> None:
    """Write the file; it appears whole or not at all."""
    path = Path(path)
    content = dict(
        format=FORMAT,
        version=VERSION,
        unit="m",
        objects={
            str(number): {
                **vars(entry),
                "coverage": dict(entry.coverage),
                "keypoints": np.round(entry.keypoints, _DIGITS).tolist(),
            }
            for number, entry in objects.items()
        },
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def read_keypoints(path: str | Path) -> dict[int, ObjectKeypoints]:
    """Read the file.

    Returns:
        The keypoints by the object's number.

    Raises:
        FileNotFoundError: There is no such file; the message says how to make it.
        ValueError: It has unusable content.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no keypoints {path}; choose them with "
            f"python tools/dataset_converters/select_object_keypoints.py {path.parent} {path}"
        )
    content = json.loads(path.read_text())
    found = {key: content.get(key) for key in ("format", "version", "unit")}
    if found != dict(format=FORMAT, version=VERSION, unit="m"):
        raise ValueError(
            f"{path} says {found}, expected format {FORMAT!r}, version {VERSION}, unit 'm'"
        )
    objects = {}
    names = {entry.name for entry in fields(ObjectKeypoints)}
    for number, entry in content["objects"].items():
        if entry.keys() != names:
            raise ValueError(
                f"{path}: object {number} has {sorted(entry)}, expected {sorted(names)}"
            )
        points = np.array(entry["keypoints"], dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(
                f"{path}: the keypoints of object {number} must be (K, 3) finite numbers, got "
                f"{points.shape}"
            )
        objects[int(number)] = ObjectKeypoints(**{**entry, "keypoints": points})
    return objects
