"""Mesh of the synthetic right hand: a palm tube, four finger tubes and a thumb tube.

All tubes are made of closed loops of vertices that run the same way round (thumb side, back,
little finger's side, palm), so that joining a loop to the next one always gives triangles that
face outward.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..joint_orders import TIP_VERTICES
from ..mano_model import NUM_VERTICES
from ..wrist_cap import boundary_loop
from .skeleton import FINGERS, MM, THUMB, WRIST, WRIST_HALF_HEIGHT, WRIST_HALF_WIDTH, Digit

COLUMNS = 12
LOOP = 2 * COLUMNS + 2
PALM_LOOPS = 9
WRIST_VERTICES = 16
FINGER_SIDES = 8
THUMB_SIDES = 12

# Where along the three segments the rings of a digit lie. The zeros are rings around the joints.
_FINGER_RINGS = ((0, 0.25, 0.5, 0.75), (0, 1 / 3, 2 / 3), (0, 0.35, 0.65, 0.88))
_THUMB_RINGS = ((0.66, 0.78, 0.89), (0, 0.25, 0.5, 0.75), (0, 0.25, 0.5, 0.72, 0.9))
_BASE_GAP = 10 * MM


@dataclass(frozen=True)
class ToyMesh:
    """The mesh and what is known about its vertices.

    Attributes:
        vertices: Metres, (778, 3).
        faces: Facing outward, (1538, 3).
        rings: Of the wrist and of every joint but 13, the vertices of the loop around it.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rings: dict[int, np.ndarray]


class _Sculptor:
    """Collects vertices and faces."""

    def __init__(self) -> None:
        self.vertices: list[np.ndarray] = []
        self.faces: list[tuple[int, int, int]] = []
        self.rings: dict[int, list[int]] = {}
        self.tips: list[tuple[int, list[int]]] = []

    def add(self, points: np.ndarray) -> list[int]:
        """Add vertices and return their indices."""
        start = len(self.vertices)
        self.vertices.extend(points)
        return list(range(start, len(self.vertices)))

    def quad(self, a: int, b: int, c: int, d: int) -> None:
        """Add two triangles, counter-clockwise seen from outside like the corners."""
        self.faces += [(a, b, c), (a, c, d)]

    def tube(self, near: Sequence[int], far: Sequence[int]) -> None:
        """Join two loops of equal length, the second one nearer to the fingertips."""
        for i in range(len(near)):
            j = (i + 1) % len(near)
            self.quad(near[i], near[j], far[j], far[i])

    def cone(self, loop: Sequence[int], tip: int) -> None:
        """Join a loop to a point."""
        for i, vertex in enumerate(loop):
            self.faces.append((vertex, loop[(i + 1) % len(loop)], tip))


def build_mesh() -> ToyMesh:
    """Build the mesh: 753 vertices by construction, 25 by splitting long edges."""
    sculptor = _Sculptor()
    loops = _add_palm(sculptor)
    _add_wrist(sculptor, loops[0])
    tips = [_add_thumb(sculptor, loops)]
    tips += [
        _add_digit(sculptor, finger, base, _FINGER_RINGS, _finger_ring_axes(finger))
        for finger, base in zip(FINGERS, _finger_bases(sculptor, loops[-1]), strict=True)
    ]
    vertices, faces = np.stack(sculptor.vertices), np.array(sculptor.faces)
    used = np.unique(faces)
    places = np.full(len(vertices), -1)
    places[used] = np.arange(len(used))
    vertices, faces = _split_long_edges(vertices[used], places[faces])
    numbers = _renumber([(places[tip], places[ring]) for tip, ring in tips])
    renumbered = np.empty_like(vertices)
    renumbered[numbers] = vertices
    rings = {joint: numbers[places[ring]] for joint, ring in sculptor.rings.items()}
    return ToyMesh(renumbered, numbers[faces], rings)


def _across(finger: Digit) -> np.ndarray:
    """Unit vector across a finger, in the plane of the hand, towards the thumb."""
    x, _, z = finger.directions[0]
    return np.array([z, 0.0, -x])


def _add_palm(sculptor: _Sculptor) -> list[list[int]]:
    """Add the tube from near the wrist to the finger bases; return its loops."""
    near, far = _palm_profile_at_wrist(), _palm_profile_at_fingers()
    fractions = np.linspace(0.08, 1.0, PALM_LOOPS)
    loops = [sculptor.add(near + f * (far - near)) for f in fractions]
    for loop, following in itertools.pairwise(loops):
        sculptor.tube(loop, following)
    return loops


def _loop(
    back: np.ndarray, far_side: np.ndarray, palm: np.ndarray, thumb_side: np.ndarray
) -> np.ndarray:
    """Order a palm loop: thumb side, back, side of the little finger, palm."""
    return np.concatenate((thumb_side[None], back, far_side[None], palm[::-1]))


def _palm_profile_at_wrist() -> np.ndarray:
    """Rounded rectangle of 26 points in the plane of the wrist."""
    across = np.linspace(0.86, -0.86, COLUMNS)
    height = 16.5 * MM * (1 - np.abs(across) ** 2.5) ** (1 / 2.5)
    back = np.stack((np.zeros(COLUMNS), height, WRIST_HALF_WIDTH * across), axis=1)
    palm = back * (1, -1.05, 1)
    side = np.array([0.0, 0.0, WRIST_HALF_WIDTH])
    return WRIST + _loop(back, -side, palm, side)


def _palm_profile_at_fingers() -> np.ndarray:
    """26 points around the four finger bases, 10 mm short of the first joints."""
    columns, heights, sides = [], [], []
    for finger in FINGERS:
        centre = finger.points[0] - _BASE_GAP * finger.directions[0]
        reach = finger.radii[0] * _across(finger)
        columns += [centre + 0.72 * reach, centre, centre - 0.72 * reach]
        heights += [0.8, 1.0, 0.8]
        sides.append((centre + reach, centre - reach))
    up = 9.5 * MM * np.outer(heights, (0.0, 1.0, 0.0))
    return _loop(columns + up, sides[-1][1], columns - 1.12 * up, sides[0][0])


def _add_wrist(sculptor: _Sculptor, palm_loop: list[int]) -> None:
    """Add the ellipse around the wrist, the boundary of the mesh, and stitch it on."""
    angles = 2 * np.pi * np.arange(WRIST_VERTICES) / WRIST_VERTICES
    ellipse = np.stack(
        (0 * angles, WRIST_HALF_HEIGHT * np.sin(angles), WRIST_HALF_WIDTH * np.cos(angles)), axis=1
    )
    wrist = sculptor.add(WRIST + ellipse)
    sculptor.rings[0] = wrist
    # Always advance on the loop that is behind, in the angle around the wrist.
    wrist_marks = np.append(angles, 2 * np.pi)
    palm_marks = _angles_around(np.stack([sculptor.vertices[v] for v in palm_loop]))
    i = j = 0
    while i < WRIST_VERTICES or j < LOOP:
        a, b = wrist[i % WRIST_VERTICES], palm_loop[j % LOOP]
        if j == LOOP or (i < WRIST_VERTICES and wrist_marks[i + 1] <= palm_marks[j + 1]):
            i += 1
            sculptor.faces.append((a, wrist[i % WRIST_VERTICES], b))
        else:
            j += 1
            sculptor.faces.append((a, palm_loop[j % LOOP], b))


def _angles_around(points: np.ndarray) -> np.ndarray:
    """Angle of each point of a loop around the arm, from 0 on, and 2 pi for its end."""
    y, z = (points[:, 1] / WRIST_HALF_HEIGHT, points[:, 2] / WRIST_HALF_WIDTH)
    angles = np.mod(np.arctan2(y, z), 2 * np.pi)
    angles[0] = 0.0
    return np.append(angles, 2 * np.pi)


def _finger_bases(sculptor: _Sculptor, last_loop: list[int]) -> list[list[int]]:
    """Close the palm between the fingers; return the loop of eight at each finger's base."""
    thumb_side, far_side = last_loop[0], last_loop[COLUMNS + 1]
    back = last_loop[1 : COLUMNS + 1]
    palm = last_loop[: COLUMNS + 1 : -1]
    middles = {}
    for number, finger in enumerate(FINGERS):
        centre = finger.points[0] - (_BASE_GAP - 2 * MM) * finger.directions[0]
        reach = finger.radii[0] * _across(finger)
        if number > 0:
            (middles[3 * number],) = sculptor.add([centre + reach])
        if number < 3:
            (middles[3 * number + 2],) = sculptor.add([centre - reach])
    for column in (2, 5, 8):
        left, right = middles[column], middles[column + 1]
        sculptor.quad(back[column], back[column + 1], right, left)
        sculptor.quad(palm[column + 1], palm[column], left, right)
    bases = []
    for first in range(0, COLUMNS, 3):
        columns = slice(first, first + 3)
        towards_thumb = middles.get(first, thumb_side)
        away = middles.get(first + 2, far_side)
        bases.append([towards_thumb, *back[columns], away, *palm[columns][::-1]])
    return bases


def _finger_ring_axes(finger: Digit) -> tuple[np.ndarray, np.ndarray]:
    """First and second axis of a finger's rings: towards the thumb, and up."""
    return _across(finger), np.array([0.0, 1.0, 0.0])


def _add_thumb(sculptor: _Sculptor, loops: list[list[int]]) -> tuple[int, list[int]]:
    """Cut a patch of 3 x 3 quads out of the thumb side of the palm and grow the thumb there."""
    # Two columns of the palm, the thumb side, one column of the back; loops 2 to 5.
    patch = {loop[i] for loop in loops[2:6] for i in (LOOP - 2, LOOP - 1, 0, 1)}
    removed = [face for face in sculptor.faces if patch.issuperset(face)]
    sculptor.faces = [face for face in sculptor.faces if not patch.issuperset(face)]
    rim = boundary_loop(np.array(removed))
    # Start both the rim and the rings on the side of the palm next to the wrist.
    start = rim.index(loops[2][LOOP - 2])
    rim = rim[start:] + rim[:start]
    points = np.stack([sculptor.vertices[v] for v in rim])
    spokes = points - points.mean(0)
    axis = THUMB.directions[0]
    first = spokes[0] - axis * (axis @ spokes[0])
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    if second @ spokes[THUMB_SIDES // 4] < 0:
        second = -second
    return _add_digit(sculptor, THUMB, rim, _THUMB_RINGS, (first, second))


def _add_digit(
    sculptor: _Sculptor,
    digit: Digit,
    base: list[int],
    fractions: Sequence[Sequence[float]],
    axes: tuple[np.ndarray, np.ndarray],
) -> tuple[int, list[int]]:
    """Extrude a base through rings to a tip; return the tip and the last ring."""
    angles = 2 * np.pi * np.arange(len(base)) / len(base)
    ring = base
    for segment in range(3):
        for fraction in fractions[segment]:
            centre = digit.points[segment] + fraction * (
                digit.points[segment + 1] - digit.points[segment]
            )
            radius = digit.radii[segment] + fraction * (
                digit.radii[segment + 1] - digit.radii[segment]
            )
            if segment == 2:
                radius *= np.sqrt(1 - max(0.0, (fraction - 0.5) / 0.55) ** 2)
            first, second = _ring_axes(digit, segment, fraction, axes)
            following = sculptor.add(
                centre
                + radius * (np.outer(np.cos(angles), first) + np.outer(np.sin(angles), second))
            )
            sculptor.tube(ring, following)
            ring = following
            if fraction == 0:
                sculptor.rings[digit.joints[segment]] = ring
    (tip,) = sculptor.add([digit.points[3]])
    sculptor.cone(ring, tip)
    return tip, ring


def _ring_axes(
    digit: Digit, segment: int, fraction: float, axes: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn the axes so that a ring is upright on its segment, or halfway at a joint."""
    normal = digit.directions[segment]
    if fraction == 0 and segment > 0:
        normal = normal + digit.directions[segment - 1]
        normal = normal / np.linalg.norm(normal)
    first = axes[0] - normal * (normal @ axes[0])
    first = first / np.linalg.norm(first)
    second = axes[1] - normal * (normal @ axes[1]) - first * (first @ axes[1])
    return first, second / np.linalg.norm(second)


def _split_long_edges(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split the longest inner edge until there are 778 vertices."""
    points, triangles = list(vertices), [tuple(face) for face in faces.tolist()]
    while len(points) < NUM_VERTICES:
        neighbours = defaultdict(list)
        for index, (a, b, c) in enumerate(triangles):
            for edge in ((a, b), (b, c), (c, a)):
                neighbours[tuple(sorted(edge))].append(index)
        inner = sorted(edge for edge, owners in neighbours.items() if len(owners) == 2)
        ends = np.stack(points)[np.array(inner)]
        # Rounded, so that ties are broken by index on every machine.
        lengths = np.round(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1), 9)
        a, b = inner[int(lengths.argmax())]
        middle = len(points)
        points.append((points[a] + points[b]) / 2)
        for index in neighbours[a, b]:
            face = triangles[index]
            triangles[index] = tuple(middle if v == a else v for v in face)
            triangles.append(tuple(middle if v == b else v for v in face))
    return np.stack(points), np.array(triangles)


def _renumber(tips: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """New number of each vertex: tips, and some of the rings below them, have MANO's.

    In every set of :data:`~mamba_mm.models.body_models.TIP_VERTICES` the ids then are at
    fingertips.
    """
    numbers = np.full(NUM_VERTICES, -1)
    for digit, (tip, ring) in enumerate(tips):
        wanted = list(dict.fromkeys(ids[digit] for ids in TIP_VERTICES.values()))
        numbers[[tip, *ring[: len(wanted) - 1]]] = wanted
    free = np.setdiff1d(np.arange(NUM_VERTICES), numbers)
    numbers[numbers < 0] = free
    return numbers
