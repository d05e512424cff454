"""Arrays of the synthetic hand model beyond its mesh."""

from __future__ import annotations

import functools

import numpy as np

from ..joint_orders import MANO_PARENTS
from ..mano_model import NUM_BETAS, NUM_JOINTS, NUM_POSE, NUM_VERTICES, MANOModel
from .mesh import ToyMesh, build_mesh
from .skeleton import DIGITS, FINGERS, MM, THUMB, WRIST, Digit

_SEED = 20260
_BLEND = 6 * MM
_THUMB_BLEND = 8 * MM
_BASE_BLEND = 1.6
_SKEW = 2 * MM


@functools.cache
def build_toy_mano() -> MANOModel:
    """Build ToyMANO, a synthetic right hand with MANO's shapes, names, tree and fingertip ids.

    It is made by a recipe of our own from round numbers, the same on every call, and carries no
    licence. It looks like a hand and bends like one, but it is no anatomical model and its
    parameters mean nothing to MANO: use it for tests and demos.

    Returns:
        The model, with ``synthetic=True``; built once a process.
    """
    rng = np.random.default_rng(_SEED)
    mesh = build_mesh()
    regressor = _joint_regressor(mesh)
    joints = regressor @ mesh.vertices
    weights = _skinning_weights(mesh.vertices)
    return MANOModel(
        v_template=mesh.vertices,
        shapedirs=_shape_directions(mesh.vertices, joints, weights, rng),
        posedirs=_pose_directions(weights, rng),
        weights=weights,
        joint_regressor=regressor,
        parents=np.array(MANO_PARENTS),
        faces=mesh.faces,
        hands_components=_pose_components(rng),
        hands_mean=_mean_pose(),
        side="right",
        synthetic=True,
    )


def _joint_regressor(mesh: ToyMesh) -> np.ndarray:
    """A joint is the mean of the ring around it; that of the thumb's first joint is fitted."""
    regressor = np.zeros((NUM_JOINTS, NUM_VERTICES))
    for joint, ring in mesh.rings.items():
        regressor[joint, ring] = 1 / len(ring)
    first = THUMB.joints[0]
    distances = np.linalg.norm(mesh.vertices - THUMB.points[0], axis=1)
    nearest = np.argsort(np.round(distances, 9), kind="stable")[:16]
    regressor[first, nearest] = _convex_weights(mesh.vertices[nearest], THUMB.points[0])
    return regressor


def _convex_weights(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights >= 0 of sum 1 whose mean of the points is the target or close to it.

    The smallest solution of the linear system, without the points that it would subtract.
    """
    kept = np.arange(len(points))
    # In millimetres, so that place and sum count alike where not both can be met.
    wanted = np.append(target / MM, 1.0)
    while True:
        system = np.vstack((points[kept].T / MM, np.ones(len(kept))))
        solution = np.linalg.lstsq(system, wanted, rcond=None)[0]
        if (solution >= 0).all():
            break
        kept = kept[solution >= 0]
    weights = np.zeros(len(points))
    weights[kept] = solution / solution.sum()
    return weights


def _skinning_weights(vertices: np.ndarray) -> np.ndarray:
    """Every vertex follows the nearest digit, the joints blending into each other along it."""
    placed = [_along(digit, vertices) for digit in DIGITS]
    nearest = np.round([distance for _, distance in placed], 9).argmin(0)
    weights = np.zeros((NUM_VERTICES, NUM_JOINTS))
    for number, digit in enumerate(DIGITS):
        own = nearest == number
        mark, distance = placed[number][0][own], placed[number][1][own]
        weights[own] = _digit_weights(digit, vertices[own], mark, distance)
    return weights


def _along(digit: Digit, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of each vertex along a digit, negative before its first joint, and its distance."""
    best_mark = np.zeros(len(vertices))
    best_distance = np.full(len(vertices), np.inf)
    for segment, direction in enumerate(digit.directions):
        start, length = digit.marks[segment], digit.marks[segment + 1] - digit.marks[segment]
        offsets = vertices - digit.points[segment]
        mark = offsets @ direction
        on_bone = np.clip(mark, 0, length)
        distance = np.linalg.norm(offsets - on_bone[:, None] * direction, axis=1)
        # The first segment goes on towards the wrist.
        mark = start + (np.minimum(mark, length) if segment == 0 else on_bone)
        nearer = distance < best_distance - 1e-9
        best_mark[nearer], best_distance[nearer] = mark[nearer], distance[nearer]
    return best_mark, best_distance


def _digit_weights(
    digit: Digit, vertices: np.ndarray, mark: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Weights of the vertices that follow a digit."""
    bone_y = np.interp(mark, digit.marks, digit.points[:, 1])
    # Without this the model is so symmetric that joints regressed from the posed mesh are those
    # of the chain, and mistaking one for the other shows nowhere.
    skew = _SKEW * np.sign(np.round(vertices[:, 1] - bone_y, 6))
    blend = np.array([_BASE_BLEND, 1.0, 1.0]) * (_THUMB_BLEND if digit is THUMB else _BLEND)
    passed = [_smoothstep((mark - digit.marks[k] - skew) / (2 * blend[k]) + 0.5) for k in range(3)]
    # What lies in the palm, far from a bone, stays with the palm.
    passed[0] = passed[0] * (1 - _smoothstep(distance / digit.radii[0] - 1.2))
    weights = np.zeros((len(vertices), NUM_JOINTS))
    previous = np.ones(len(vertices))
    for joint, share in zip((0, *digit.joints), (*passed, np.zeros(len(vertices))), strict=True):
        weights[:, joint] = previous * (1 - share)
        previous = previous * share
    return weights


def _smoothstep(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _shape_directions(
    vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Size, finger length, width, thickness, thumb size, then smooth waves."""
    directions = np.zeros((NUM_VERTICES, 3, NUM_BETAS))
    centred = vertices - joints[0]
    middle_of_palm = (WRIST[0] + FINGERS[1].points[0, 0]) / 2
    directions[..., 0] = 0.04 * centred
    directions[:, 0, 1] = -0.06 * np.maximum(0, middle_of_palm - vertices[:, 0])
    directions[:, 2, 2] = 0.05 * centred[:, 2]
    directions[:, 1, 3] = 0.06 * centred[:, 1]
    thumb = weights[:, list(THUMB.joints)].sum(1, keepdims=True)
    directions[..., 4] = 0.05 * thumb * (vertices - joints[THUMB.joints[0]])
    for number in range(5, NUM_BETAS):
        waves = rng.uniform(-60, 60, (3, 3))
        phases = rng.uniform(0, 2 * np.pi, 3)
        directions[..., number] = 0.6 * MM * np.sin(vertices @ waves + phases)
    return directions


def _pose_directions(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise where a joint bends the skin."""
    noise = 1.5e-4 * rng.standard_normal((NUM_VERTICES, 3, NUM_JOINTS - 1, 9))
    parents = list(MANO_PARENTS[1:])
    near = weights[:, 1:] + weights[:, parents]
    return (noise * near[:, None, :, None]).reshape(NUM_VERTICES, 3, -1)


def _pose_components(rng: np.random.Generator) -> np.ndarray:
    """Random orthogonal matrix; signs are fixed, which factorisations leave open."""
    q, r = np.linalg.qr(rng.standard_normal((NUM_POSE, NUM_POSE)))
    return q * np.sign(np.diag(r))


def _mean_pose() -> np.ndarray:
    """Slightly curled; a mean of zeros would hide that it was forgotten."""
    pose = np.zeros((NUM_JOINTS, 3))
    for finger in FINGERS:
        pose[list(finger.joints), 2] = (0.15, 0.25, 0.15)
    pose[list(THUMB.joints)] = ((0.05, -0.06, 0.03), (0.04, -0.05, 0.06), (0.03, -0.04, 0.08))
    return pose[1:].ravel()
