"""Which few points represent a surface best.

*Best* is the least mean distance of a point of the surface to its nearest keypoint. Farthest-point
sampling, the usual choice for object pose (PVNet, Peng et al., CVPR 2019), makes the *largest* such
distance small: it puts points on the tips of an object and leaves the middle of its faces far from
all. Here it is the start; then every point moves to the middle of the part of the surface that is
nearest to it, until none moves (k-medoids by Lloyd's rule), and after that single points are moved
to wherever that helps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from .keypoint_file import ObjectKeypoints
from .models import ObjectModel, load_trimesh

SELECTION_METHODS = ("medoids", "farthest")
DEFAULT_SAMPLES = 2000

_MOST_ROUNDS = 100
# Of the points that a keypoint is tried at when single points are moved.
_TRIED = 64


@dataclass(frozen=True)
class Coverage:
    """How well keypoints represent a surface, in units of the object's diameter.

    Attributes:
        mean: Mean distance of the surface to the nearest keypoint.
        largest: The largest such distance.
        lever: Spread (root mean square) of the keypoints along the direction in which it is
            least. An error of the keypoints turns the recovered pose by about error / lever, and
            keypoints in one plane have none.
    """

    mean: float
    largest: float
    lever: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name, rounded to what they mean."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def surface_samples(model: ObjectModel, count: int = DEFAULT_SAMPLES, seed: int = 0) -> np.ndarray:
    """Draw points of the surface, as many on every square millimetre.

    Args:
        model: The object.
        count: How many.
        seed: Where chance starts; the same gives the same points.

    Returns:
        ``(count, 3)``, metres.
    """
    trimesh = load_trimesh()
    mesh = trimesh.Trimesh(model.vertices, model.faces, process=False)
    points, _ = trimesh.sample.sample_surface(mesh, count, seed=seed)
    return np.asarray(points)


def select_keypoints(
    model: ObjectModel,
    count: int = 8,
    *,
    samples: int = DEFAULT_SAMPLES,
    method: str = "medoids",
    seed: int = 0,
) -> np.ndarray:
    """Choose the points of an object's surface that represent it best.

    Keypoints come in the order of the shortest path through all of them, since the scans of
    Hamba's blocks walk from one to the next, and start at the upper end of the path.

    Args:
        model: The object.
        count: How many; for the pose at least 4.
        samples: How many points of the surface there are to choose from.
        method: ``"medoids"``, or ``"farthest"`` for farthest-point sampling alone.
        seed: Of the samples. The same arguments choose the same points.

    Returns:
        ``(count, 3)``, metres, in the object's frame.

    Raises:
        ValueError: The method is unknown, there are fewer samples than points or fewer than 4
            points, or more than 12, whose shortest path would take long to find.
    """
    if method not in SELECTION_METHODS:
        raise ValueError(f"unknown method {method!r}; known: {', '.join(SELECTION_METHODS)}")
    if not 4 <= count <= min(12, samples):
        raise ValueError(
            f"count must be from 4, as a pose needs, to 12, and at most samples={samples}; "
            f"got {count}"
        )
    surface = surface_samples(model, samples, seed)
    chosen = _farthest(surface, count)
    if method == "medoids":
        chosen = _improved(surface, _lloyd(surface, chosen))
    return _along_shortest_path(surface[chosen])


def keypoints_of(
    model: ObjectModel,
    mesh: str,
    count: int = 8,
    *,
    samples: int = DEFAULT_SAMPLES,
    method: str = "medoids",
) -> ObjectKeypoints:
    """Choose keypoints and describe them, as a file of keypoints has them.

    Args:
        model: The object.
        mesh: Name of its mesh file.
        count: As in :func:`select_keypoints`.
        samples: As in :func:`select_keypoints`.
        method: As in :func:`select_keypoints`.

    Raises:
        ValueError: As in :func:`select_keypoints`.
    """
    points = select_keypoints(model, count, samples=samples, method=method)
    return ObjectKeypoints(
        name=model.name,
        mesh=mesh,
        sha256=model.sha256,
        diameter=model.diameter,
        symmetries=len(model.symmetries),
        method=method,
        coverage=coverage(model, points).as_dict(),
        keypoints=points,
    )


def coverage(model: ObjectModel, points: np.ndarray, samples: int = DEFAULT_SAMPLES) -> Coverage:
    """Measure how well points ``(N, 3)``, metres, represent an object.

    The samples are others than those that :func:`select_keypoints` chooses from.
    """
    distances, _ = cKDTree(points).query(surface_samples(model, samples, seed=1))
    spreads = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / len(points) ** 0.5
    return Coverage(*(np.array([distances.mean(), distances.max(), spreads[2]]) / model.diameter))


def box_corners(points: np.ndarray) -> np.ndarray:
    """Return the corners ``(8, 3)`` of the box around points ``(N, 3)``, along the axes."""
    sides = np.stack([points.min(axis=0), points.max(axis=0)])
    choice = np.indices((2, 2, 2)).reshape(3, 8).T
    return sides[choice, np.arange(3)]


def _farthest(surface: np.ndarray, count: int) -> np.ndarray:
    """Choose points each of which is as far as possible from those before; return indices."""
    chosen = [int(np.argmax(np.linalg.norm(surface - surface.mean(axis=0), axis=1)))]
    nearest = np.full(len(surface), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.linalg.norm(surface - surface[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def _lloyd(surface: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Move every point to the medoid of what is nearest to it, until none moves."""
    for _ in range(_MOST_ROUNDS):
        owner = cdist(surface, surface[chosen]).argmin(axis=1)
        moved = chosen.copy()
        for index in range(len(chosen)):
            members = np.flatnonzero(owner == index)
            moved[index] = members[cdist(surface[members], surface[members]).sum(axis=0).argmin()]
        if np.array_equal(moved, chosen):
            break
        chosen = moved
    return chosen


def _improved(surface: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Move single points elsewhere, and all after them, as long as the mean distance falls."""
    tried = _farthest(surface, min(_TRIED, len(surface)))
    to_tried = cdist(surface, surface[tried])
    best = cdist(surface, surface[chosen]).min(axis=1).mean()
    for _ in range(_MOST_ROUNDS):
        # What the mean distance would be with point i at place j.
        distances = cdist(surface, surface[chosen])
        others = np.stack([np.delete(distances, i, axis=1).min(axis=1) for i in range(len(chosen))])
        means = np.stack([np.minimum(rest[:, None], to_tried).mean(axis=0) for rest in others])
        index, place = np.unravel_index(means.argmin(), means.shape)
        candidate = chosen.copy()
        candidate[index] = tried[place]
        candidate = _lloyd(surface, candidate)
        mean = cdist(surface, surface[candidate]).min(axis=1).mean()
        if mean >= best * (1 - 1e-6):
            break
        chosen, best = candidate, mean
    return chosen


def _along_shortest_path(points: np.ndarray) -> np.ndarray:
    """Sort points ``(N, 3)`` along the shortest open path, exactly (Held and Karp, 1962)."""
    count, steps = len(points), cdist(points, points)
    # Shortest path through a set of points, given as bits, that ends at its second key.
    shortest = {(1 << i, i): (0.0, (i,)) for i in range(count)}
    for visited in range(1, 1 << count):
        for last in range(count):
            if (visited, last) not in shortest:
                continue
            length, path = shortest[visited, last]
            for following in range(count):
                key = (visited | 1 << following, following)
                if visited >> following & 1:
                    continue
                longer = length + steps[last, following]
                if key not in shortest or longer < shortest[key][0]:
                    shortest[key] = (longer, (*path, following))
    everything = (1 << count) - 1
    _, path = min(shortest[everything, last] for last in range(count))
    ordered = points[list(path)]
    return ordered if ordered[0, 2] >= ordered[-1, 2] else ordered[::-1]
