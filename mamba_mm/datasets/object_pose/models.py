"""Meshes of rigid objects."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from .symmetries import symmetry_transforms

METRES = {"mm": 0.001, "m": 1.0}

MODELS_INFO = "models_info.json"


@dataclass(frozen=True)
class ObjectModel:
    """A rigid object; metres, in its own frame.

    Attributes:
        object_id: Its number in BOP's sets.
        name: What to call it.
        vertices: ``(V, 3)``.
        faces: ``(F, 3)``.
        diameter: The largest distance of two vertices.
        symmetries: ``(S, 4, 4)``: motions that leave it as it is, the identity first.
        sha256: Of the mesh file.
    """

    object_id: int
    name: str
    vertices: np.ndarray
    faces: np.ndarray
    diameter: float
    symmetries: np.ndarray
    sha256: str

    @property
    def is_symmetric(self) -> bool:
        """Whether a motion other than none leaves it as it is."""
        return len(self.symmetries) > 1


def read_models(
    folder: str | Path, object_ids: Sequence[int] | None = None, symmetry_steps: int = 24
) -> dict[int, ObjectModel]:
    """Read ``obj_000001.ply`` and ``models_info.json`` of a BOP set, in millimetres.

    Args:
        folder: The folder of the models.
        object_ids: Which; ``None`` for all that ``models_info.json`` names.
        symmetry_steps: Into how many turns an axis of symmetry is divided.

    Returns:
        The objects by their number.

    Raises:
        FileNotFoundError: ``models_info.json`` or a mesh is not there.
        ValueError: An object is not in the file, or a file has unusable content.
    """
    folder = Path(folder)
    path = folder / MODELS_INFO
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is no folder of models in BOP layout")
    infos = {int(number): info for number, info in json.loads(path.read_text()).items()}
    wanted = sorted(infos) if object_ids is None else list(object_ids)
    if unknown := sorted(set(wanted) - infos.keys()):
        raise ValueError(f"{path} has no objects {unknown}; it has {sorted(infos)}")
    return {
        number: _read(folder / f"obj_{number:06d}.ply", number, infos[number], symmetry_steps)
        for number in wanted
    }


def read_mesh_file(path: str | Path, unit: str = "mm", object_id: int = 1) -> ObjectModel:
    """Read a single mesh, such as a ``.ply`` or ``.obj``, as an object without symmetries.

    Args:
        path: The file, of any format that trimesh reads.
        unit: ``"mm"`` or ``"m"``.
        object_id: The number that it gets.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The unit is unknown, or the file holds no triangles.
    """
    if unit not in METRES:
        raise ValueError(f"unknown unit {unit!r}; known: {', '.join(METRES)}")
    path = Path(path)
    vertices, faces = _triangles(path)
    vertices = vertices * METRES[unit]
    return ObjectModel(
        object_id, path.stem, vertices, faces, diameter_of(vertices), np.eye(4)[None], _hash(path)
    )


def diameter_of(points: np.ndarray) -> float:
    """Return the largest distance of two of the points ``(N, 3)``, which span a volume."""
    return float(pdist(points[ConvexHull(points).vertices]).max())


def load_trimesh() -> ModuleType:
    """Return the module trimesh, which only those who have objects need.

    Raises:
        ImportError: It is not installed.
    """
    if importlib.util.find_spec("trimesh") is None:
        raise ImportError(
            "meshes of objects are read with trimesh, which is not installed: pip install trimesh",
            name="trimesh",
        )
    return importlib.import_module("trimesh")


def _read(path: Path, number: int, info: Mapping, symmetry_steps: int) -> ObjectModel:
    vertices, faces = _triangles(path)
    vertices = vertices * METRES["mm"]
    diameter = float(info.get("diameter", np.nan)) * METRES["mm"]
    extent = np.linalg.norm(np.ptp(vertices, axis=0))
    # The diameter lies between the largest side of the box and its diagonal.
    if not 0.5 * extent <= diameter <= 1.01 * extent:
        raise ValueError(
            f"{path.with_name(MODELS_INFO)}: object {number} has the diameter "
            f"{info.get('diameter')}, but the diagonal of its mesh's box is {extent * 1000:.4g} mm;"
            " both must be in millimetres"
        )
    try:
        symmetries = symmetry_transforms(info, symmetry_steps, METRES["mm"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path.with_name(MODELS_INFO)}, object {number}: {error}") from error
    name = info.get("name", path.stem)
    return ObjectModel(number, name, vertices, faces, diameter, symmetries, _hash(path))


def _triangles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no mesh {path}")
    trimesh = load_trimesh()
    # process=False keeps the vertices of the file, whose number and order errors depend on.
    mesh = trimesh.load(path, force="mesh", process=False)
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    if not len(faces) or not np.isfinite(vertices).all():
        raise ValueError(f"{path}: expected a mesh of triangles with finite vertices")
    return vertices, faces


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
