"""Four objects as a hand can hold them: a brick, a can, a mug and a bracket.

Frames are BOP's: z up, the origin in the middle of the box. Metres. Surfaces are made of patches
with vertices of their own, so that edges between them stay sharp in the light, and fine enough for
errors that are averaged over vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

from ..object_pose.models import diameter_of

# Largest side of a triangle, about, in metres.
_GRAIN = 0.008
_AROUND = 32


@dataclass(frozen=True)
class ToyObject:
    """An object of the set.

    Attributes:
        object_id: Its number in BOP's files, from 1.
        name: What it is.
        vertices: ``(V, 3)``, metres.
        faces: ``(F, 3)``, normals outwards.
        colour: ``(3,)``, blue green red: what its colour scatters about.
        symmetries: As in ``models_info.json``, in millimetres.
    """

    object_id: int
    name: str
    vertices: np.ndarray
    faces: np.ndarray
    colour: tuple[float, float, float]
    symmetries: dict

    @property
    def diameter(self) -> float:
        """The largest distance of two vertices, in metres."""
        return diameter_of(self.vertices)


class _Surface:
    """Collects patches."""

    def __init__(self) -> None:
        self._vertices: list[np.ndarray] = []
        self._faces: list[np.ndarray] = []
        self._count = 0

    def add(self, grid: np.ndarray) -> None:
        """Add a patch: points ``(M, N, 3)``, normals along (second axis) x (first axis)."""
        rows, columns = grid.shape[:2]
        index = self._count + np.arange(rows * columns).reshape(rows, columns)
        a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
        c, d = index[1:, 1:].ravel(), index[1:, :-1].ravel()
        self._vertices.append(grid.reshape(-1, 3))
        self._faces.append(np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]))
        self._count += rows * columns

    def add_flat(self, corner: np.ndarray, along: np.ndarray, up: np.ndarray) -> None:
        """Add a parallelogram with the normal ``along`` x ``up``."""
        corner, along, up = (np.array(vector, np.float64) for vector in (corner, along, up))
        steps_along, steps_up = (
            np.linspace(0, 1, 2 + int(np.linalg.norm(side) / _GRAIN)) for side in (along, up)
        )
        self.add(corner + steps_up[:, None, None] * up + steps_along[None, :, None] * along)

    def add_block(self, low: np.ndarray, high: np.ndarray) -> None:
        """Add the six sides of a box."""
        low, high = np.array(low, np.float64), np.array(high, np.float64)
        x, y, z = np.diag(high - low)
        for corner, along, up in (
            (low, y, x),
            (low, x, z),
            (low, z, y),
            (high, -x, -y),
            (high, -z, -x),
            (high, -y, -z),
        ):
            self.add_flat(corner, along, up)

    def add_revolved(self, profile: np.ndarray) -> None:
        """Add a surface of revolution about z; ``profile`` (N, 2) of radius and height.

        The outside is to the right of the profile as it is walked, radius to the right and height
        up.
        """
        points = [np.atleast_2d(profile[0])]
        for start, end in pairwise(profile):
            steps = np.linspace(0, 1, 2 + int(np.linalg.norm(end - start) / _GRAIN))[1:, None]
            points.append(start + steps * (end - start))
        radius, height = np.concatenate(points).T
        angle = np.linspace(0, 2 * np.pi, _AROUND + 1)
        grid = np.stack(
            [
                radius[:, None] * np.cos(angle),
                radius[:, None] * np.sin(angle),
                np.broadcast_to(height[:, None], (len(height), len(angle))),
            ],
            axis=-1,
        )
        self.add(grid)

    def mesh(self) -> tuple[np.ndarray, np.ndarray]:
        """Return vertices with the origin in the middle of their box, and faces."""
        vertices = np.concatenate(self._vertices)
        faces = np.concatenate(self._faces)
        # At the axis of a surface of revolution triangles have no area.
        a, b, c = np.moveaxis(vertices[faces], 1, 0)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        faces = faces[area > 1e-12]
        return vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2, faces


def _brick() -> tuple[np.ndarray, np.ndarray]:
    surface = _Surface()
    surface.add_block((0, 0, 0), (0.100, 0.045, 0.065))
    return surface.mesh()


def _can() -> tuple[np.ndarray, np.ndarray]:
    surface = _Surface()
    for profile in (
        [(0, 0), (0.033, 0)],
        [(0.033, 0), (0.033, 0.105)],
        [(0.033, 0.105), (0, 0.105)],
    ):
        surface.add_revolved(np.array(profile))
    return surface.mesh()


def _mug() -> tuple[np.ndarray, np.ndarray]:
    surface = _Surface()
    outside, inside, height, floor = 0.038, 0.034, 0.085, 0.006
    for profile in (
        [(0, 0), (outside, 0)],
        [(outside, 0), (outside, height)],
        [(outside, height), (inside, height)],
        [(inside, height), (inside, floor)],
        [(inside, floor), (0, floor)],
    ):
        surface.add_revolved(np.array(profile))
    surface.add(_handle(middle=(outside - 0.003, height / 2), radius=0.026, thickness=0.006))
    return surface.mesh()


def _handle(middle: tuple[float, float], radius: float, thickness: float) -> np.ndarray:
    """Half a ring in the plane of x and z, with its ends in the wall of the mug."""
    bow = np.linspace(-np.pi / 2, np.pi / 2, 17)[:, None]
    around = np.linspace(0, 2 * np.pi, 13)[None]
    distance = radius + thickness * np.cos(around)
    return np.stack(
        [
            middle[0] + distance * np.cos(bow),
            thickness * np.sin(around) + 0 * bow,
            middle[1] + distance * np.sin(bow),
        ],
        axis=-1,
    )


def _bracket() -> tuple[np.ndarray, np.ndarray]:
    """An L whose arms differ in length."""
    surface = _Surface()
    depth, thick, foot, height = 0.045, 0.024, 0.085, 0.110
    x, y, z = np.eye(3)
    for corner, along, up in (
        ((0, 0, 0), depth * y, foot * x),  # bottom
        ((0, 0, 0), height * z, depth * y),  # back
        ((0, depth, thick), (height - thick) * z, thick * x),  # the sides in two parts each
        ((0, depth, 0), thick * z, foot * x),
        ((0, 0, 0), foot * x, thick * z),
        ((0, 0, thick), thick * x, (height - thick) * z),
        ((0, 0, height), thick * x, depth * y),  # top
        ((foot, 0, 0), depth * y, thick * z),  # tip of the foot
        ((thick, 0, thick), (foot - thick) * x, depth * y),  # instep
        ((thick, 0, thick), depth * y, (height - thick) * z),  # shin
    ):
        surface.add_flat(np.array(corner, np.float64), along, up)
    return surface.mesh()


def _half_turn(axis: int) -> list[float]:
    signs = -np.ones(4)
    signs[[axis, 3]] = 1
    return np.diag(signs).ravel().tolist()


_SHAPES: dict[str, tuple[Callable, tuple[float, float, float], dict]] = {
    "brick": (_brick, (60, 70, 190), dict(symmetries_discrete=[_half_turn(i) for i in range(3)])),
    "can": (
        _can,
        (190, 120, 40),
        dict(
            symmetries_discrete=[_half_turn(0)],
            symmetries_continuous=[dict(axis=[0, 0, 1], offset=[0, 0, 0])],
        ),
    ),
    "mug": (_mug, (70, 170, 70), {}),
    "bracket": (_bracket, (60, 190, 220), {}),
}

TOY_OBJECTS = tuple(_SHAPES)
"""Names of the objects; the first has the number 1 in BOP's files."""


@cache
def toy_object(name: str) -> ToyObject:
    """Return an object of :data:`TOY_OBJECTS`.

    Raises:
        ValueError: There is none of this name.
    """
    if name not in _SHAPES:
        raise ValueError(f"unknown object {name!r}; known: {', '.join(TOY_OBJECTS)}")
    make, colour, symmetries = _SHAPES[name]
    return ToyObject(TOY_OBJECTS.index(name) + 1, name, *make(), colour, symmetries)
