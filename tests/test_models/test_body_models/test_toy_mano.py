"""The synthetic hand: exactly MANO's format, and a hand to look at."""

import time
from collections import Counter

import numpy as np
import pytest
import torch

from mamba_mm.models.body_models import (
    MANO_PARENTS,
    TIP_VERTICES,
    MANOLayer,
    axis_angle_to_matrix,
    build_toy_mano,
    close_wrist,
)
from mamba_mm.models.body_models.toy_mano.skeleton import DIGITS
from mamba_mm.models.body_models.wrist_cap import boundary_loop

MM = 1e-3


@pytest.fixture(scope="module")
def toy():
    return build_toy_mano()


def directed_edges(faces):
    return np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))


def corners(toy, faces=None):
    return [toy.v_template[(toy.faces if faces is None else faces)[:, i]] for i in range(3)]


def joints_with_fingers_curled(angle):
    pose = torch.zeros(1, 16, 3)
    pose[:, 1:13, 2] = angle
    rotations = axis_angle_to_matrix(pose)
    return MANOLayer("toy")(rotations[:, :1], rotations[:, 1:], torch.zeros(1, 10)).joints[0]


def test_shapes(toy):
    assert {
        name: getattr(toy, name).shape
        for name in toy.__dataclass_fields__
        if name not in ("side", "synthetic")
    } == {
        "v_template": (778, 3),
        "shapedirs": (778, 3, 10),
        "posedirs": (778, 3, 135),
        "weights": (778, 16),
        "joint_regressor": (16, 778),
        "parents": (16,),
        "faces": (1538, 3),
        "hands_components": (45, 45),
        "hands_mean": (45,),
    }
    assert tuple(toy.parents) == MANO_PARENTS
    assert toy.side == "right"
    assert toy.synthetic


def test_it_is_built_once_and_fast_and_always_the_same(toy):
    assert build_toy_mano() is toy
    start = time.perf_counter()
    again = build_toy_mano.__wrapped__()
    assert time.perf_counter() - start < 1.5
    for name in ("v_template", "faces", "weights", "posedirs", "hands_components"):
        assert np.array_equal(getattr(again, name), getattr(toy, name))


def test_mesh_is_one_disc(toy):
    edges = directed_edges(toy.faces)
    # Every edge is run along once in each direction: manifold, and oriented consistently.
    assert max(Counter(map(tuple, edges.tolist())).values()) == 1
    sides = Counter(map(frozenset, edges.tolist()))
    assert max(sides.values()) == 2
    assert set(np.unique(toy.faces)) == set(range(778))
    assert 778 - len(sides) + 1538 == 1
    assert sum(count == 1 for count in sides.values()) == 16
    assert len(boundary_loop(toy.faces)) == 16
    neighbours = {v: set() for v in range(778)}
    for a, b in edges.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    reached, waiting = {0}, [0]
    while waiting:
        new = neighbours[waiting.pop()] - reached
        reached |= new
        waiting += new
    assert len(reached) == 778


def test_closed_mesh_has_the_volume_of_a_hand(toy):
    closed = close_wrist(toy.faces)
    assert closed.shape == (1552, 3)
    assert set(Counter(map(frozenset, directed_edges(closed).tolist())).values()) == {2}
    assert max(Counter(map(tuple, directed_edges(closed).tolist())).values()) == 1
    a, b, c = corners(toy, closed)
    # Positive: the faces look outward.
    volume = (a * np.cross(b, c)).sum() / 6
    assert 150e-6 < volume < 220e-6
    cap = closed[1538:]
    assert toy.v_template[cap][..., 0].min() == pytest.approx(90 * MM)


def test_faces_look_away_from_the_bones(toy):
    """Outward one by one, not only on the whole."""
    bones = np.concatenate([np.linspace(d.points[0], d.points[3], 30) for d in DIGITS[1:]])
    a, b, c = corners(toy)
    centre, normal = (a + b + c) / 3, np.cross(b - a, c - a)
    on_finger = toy.weights[toy.faces][:, :, 1:13].sum((1, 2)) > 2.9
    nearest = bones[np.linalg.norm(centre[:, None] - bones, axis=-1).argmin(1)]
    outward = ((centre - nearest) * normal).sum(1)
    assert on_finger.sum() > 500
    assert (outward[on_finger] > 0).all()


def test_triangles_are_of_even_size(toy):
    a, b, c = corners(toy)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    lengths = np.linalg.norm(a - b, axis=1)
    assert areas.min() > 5e-6
    assert areas.max() < 90e-6
    assert lengths.min() > 1.2 * MM
    assert lengths.max() < 17 * MM


def test_sizes(toy):
    joints = toy.joint_regressor @ toy.v_template
    tip = toy.v_template[TIP_VERTICES["smplx"][2]]
    assert np.linalg.norm(tip - joints[0]) == pytest.approx(183 * MM, abs=0.2 * MM)
    assert np.ptp(toy.v_template, axis=0) == pytest.approx([0.183, 0.053, 0.133], abs=4 * MM)
    assert joints[0] == pytest.approx([0.09, 0, 0], abs=1e-12)


def test_frame(toy):
    """Fingers along -x, thumb on the side of +z, as in MANO."""
    joints = toy.joint_regressor @ toy.v_template
    thumb, index, middle, ring, pinky = toy.v_template[list(TIP_VERTICES["smplx"])]
    assert thumb[2] > index[2] > middle[2] > ring[2] > pinky[2]
    assert max(index[0], middle[0], ring[0], pinky[0]) < joints[1:13, 0].min() + 0.05
    assert middle[0] < joints[4, 0] < joints[0, 0]


def test_regressor(toy):
    joints = toy.joint_regressor @ toy.v_template
    for digit in DIGITS:
        assert joints[list(digit.joints)] == pytest.approx(digit.points[:3], abs=1e-12)
    assert (toy.joint_regressor >= 0).all()
    assert toy.joint_regressor.sum(1) == pytest.approx(np.ones(16), abs=1e-12)
    used = (toy.joint_regressor > 0).sum(1)
    assert used[0] == 16
    assert used[1:13].tolist() == [8] * 12
    assert used[14:].tolist() == [12, 12]
    assert used[13] <= 16


def test_tips(toy):
    for ids in TIP_VERTICES.values():
        for digit, vertex in zip(DIGITS, ids, strict=True):
            assert np.linalg.norm(toy.v_template[vertex] - digit.points[3]) < 8 * MM
            assert toy.weights[vertex, digit.joints[2]] == 1
    for digit, vertex in zip(DIGITS, TIP_VERTICES["smplx"], strict=True):
        assert toy.v_template[vertex] == pytest.approx(digit.points[3])
    # So that taking the wrong set moves tips.
    ids = np.array(list(TIP_VERTICES.values()))
    for first, second in ((0, 2), (1, 2)):
        different = ids[first] != ids[second]
        offsets = toy.v_template[ids[first]] - toy.v_template[ids[second]]
        assert np.linalg.norm(offsets[different], axis=1).min() > 1 * MM


def test_weights(toy):
    assert toy.weights.sum(1) == pytest.approx(np.ones(778), abs=1e-12)
    assert toy.weights.min() >= 0
    assert (toy.weights > 0).sum(1).max() <= 3
    assert (toy.weights > 0.99).any(0).all()
    rim = np.array(boundary_loop(toy.faces))
    assert (toy.weights[rim, 0] == 1).all()


def test_fingers_curl_towards_the_palm():
    flat, curled = joints_with_fingers_curled(0.0), joints_with_fingers_curled(0.4)
    tips = [8, 12, 16, 20]
    assert (curled[tips, 1] < flat[tips, 1] - 30 * MM).all()
    assert (curled[tips, 0] > flat[tips, 0] + 10 * MM).all()
    stretched = joints_with_fingers_curled(-0.2)
    assert (stretched[tips, 1] > flat[tips, 1]).all()


def test_it_is_asymmetric_enough_to_reveal_regressed_joints(toy):
    pose = torch.zeros(1, 16, 3)
    for first in (1, 4, 7, 10):
        pose[0, first : first + 3, 2] = torch.tensor([0.6, 0.8, 0.5])
    rotations = axis_angle_to_matrix(pose)
    arguments = rotations[:, :1], rotations[:, 1:], torch.zeros(1, 10)
    chain = MANOLayer("toy")(*arguments).joints_mano
    regressed = MANOLayer("toy", joint_source="regressed")(*arguments).joints_mano
    distances = (chain - regressed).norm(dim=-1)[0, 1:13]
    assert distances.min() > 0.3 * MM
    assert distances.max() < 1.5 * MM


def test_shapes_are_of_plausible_size(toy):
    rms = np.sqrt((toy.shapedirs**2).sum(1).mean(0))
    assert rms.min() > 0.5 * MM
    assert rms.max() < 4.5 * MM
    singular = np.linalg.svd(toy.shapedirs.reshape(-1, 10), compute_uv=False)
    assert singular[-1] > 0.05 * singular[0]


def test_pose_correctives_are_small_but_there(toy):
    pose = 0.4 * torch.randn(32, 15, 3, generator=torch.Generator().manual_seed(0))
    feature = (axis_angle_to_matrix(pose) - torch.eye(3)).flatten(1).numpy()
    moved = np.linalg.norm(np.einsum("vcp,bp->bvc", toy.posedirs, feature), axis=-1)
    assert 0.2 * MM < moved.mean() < 0.6 * MM
    assert moved.max() < 2.5 * MM


def test_mean_pose_is_not_zero_and_components_are_a_basis(toy):
    mean = toy.hands_mean.reshape(15, 3)
    assert (np.linalg.norm(mean, axis=1) > 0.05).all()
    assert mean[:12, 2].min() >= 0.15
    assert toy.hands_components @ toy.hands_components.T == pytest.approx(np.eye(45), abs=1e-12)


def test_boundary_loop_of_other_meshes():
    square = np.array([[0, 1, 2], [0, 2, 3]])
    assert boundary_loop(square) == [0, 1, 2, 3]
    assert close_wrist(square).tolist()[2:] == [[0, 2, 1], [0, 3, 2]]
    two = np.concatenate((square, square + 4))
    with pytest.raises(ValueError, match=r"expected one hole.*4 vertices among 8"):
        boundary_loop(two)
    with pytest.raises(ValueError, match="closed"):
        boundary_loop(close_wrist(square))
