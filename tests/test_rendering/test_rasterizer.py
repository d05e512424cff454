"""The rasteriser against one that asks every face about every pixel."""

from fractions import Fraction

import numpy as np
import pytest

from mamba_mm.rendering import rasterize
from mamba_mm.rendering import rasterizer as module

QUAD = np.array([[0, 1, 2], [0, 2, 3]])


def slow(vertices, faces, height, width):
    """Exact, in fractions of integers; faces must lie in front of the camera."""
    index = np.full((height, width), -1)
    weights = np.zeros((height, width, 3))
    depth = np.full((height, width), np.inf)
    grid = np.rint(vertices[:, :2] * 256).astype(int)
    for row in range(height):
        for column in range(width):
            for number, face in enumerate(faces):
                corners = [tuple(int(x) for x in grid[i]) for i in face]
                area = cross(corners[0], corners[1], corners[2])
                if area == 0:
                    continue
                sign = 1 if area > 0 else -1
                point = (256 * column, 256 * row)
                areas, inside = [], True
                for k in range(3):
                    start, end = corners[(k + 1) % 3], corners[(k + 2) % 3]
                    value = sign * cross(start, end, point)
                    to_the_right = sign * (start[1] - end[1])
                    downwards = sign * (end[0] - start[0])
                    owned = to_the_right > 0 or (to_the_right == 0 and downwards > 0)
                    inside &= value > 0 or (value == 0 and owned)
                    areas.append(value)
                if not inside:
                    continue
                shares = [
                    Fraction(a, abs(area)) / Fraction(float(vertices[i, 2]))
                    for a, i in zip(areas, face, strict=True)
                ]
                if float(1 / sum(shares)) < depth[row, column]:
                    depth[row, column] = float(1 / sum(shares))
                    index[row, column] = number
                    weights[row, column] = [float(s / sum(shares)) for s in shares]
    return index, weights, depth


def cross(origin, end, point):
    one = (end[0] - origin[0], end[1] - origin[1])
    other = (point[0] - origin[0], point[1] - origin[1])
    return one[0] * other[1] - one[1] * other[0]


def soup(seed, count, height, width, snap=None):
    """Random triangles, many of them partly or wholly outside the picture."""
    rng = np.random.default_rng(seed)
    vertices = np.column_stack(
        [
            rng.uniform(-10, width + 10, 3 * count),
            rng.uniform(-10, height + 10, 3 * count),
            rng.uniform(0.3, 3.0, 3 * count),
        ]
    )
    if snap:
        vertices[:, :2] = np.rint(vertices[:, :2] / snap) * snap
    return vertices, rng.permutation(3 * count).reshape(-1, 3)


@pytest.mark.parametrize(("seed", "snap"), [(0, None), (1, None), (2, 1.0), (3, 4.0)])
def test_it_agrees_with_asking_every_face_about_every_pixel(seed, snap):
    vertices, faces = soup(seed, 12, 17, 23, snap)  # with snap: centres on edges and corners
    index, weights, depth = slow(vertices, faces, 17, 23)
    raster = rasterize(vertices, faces, 17, 23)
    assert len(np.unique(index)) > 4
    np.testing.assert_array_equal(raster.face_index, index)
    np.testing.assert_allclose(raster.barycentric, weights, atol=1e-6)
    np.testing.assert_allclose(raster.depth, depth, rtol=1e-6)
    assert (raster.face_index.dtype, raster.barycentric.dtype, raster.depth.dtype) == (
        np.int32,
        np.float32,
        np.float32,
    )


def test_pixel_centres_are_at_integers():
    vertices = np.array([[2.0, 1.0, 1], [5.0, 1.0, 1], [5.0, 3.0, 1], [2.0, 3.0, 1]])
    covered = rasterize(vertices, QUAD, 6, 8).face_index >= 0
    # The left and upper borders belong to the rectangle, the right and lower ones do not.
    assert np.argwhere(covered).tolist() == [[r, c] for r in (1, 2) for c in (2, 3, 4)]


@pytest.mark.parametrize("seed", range(4))
def test_shared_edges_are_neither_open_nor_claimed_twice(seed):
    """A fan round one point, with corners on the centres of pixels and between them."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 16))
    rim = 15 + 12 * np.column_stack([np.cos(angles), np.sin(angles)])
    points = np.vstack([[[15, 15]], np.rint(rim) if seed % 2 else rim])
    vertices = np.column_stack([points, rng.uniform(0.5, 1, 17)])
    fan = np.array([[0, i + 1, (i + 1) % 16 + 1] for i in range(16)])
    turned = np.where(rng.integers(0, 2, (16, 1)), fan, fan[:, ::-1])  # orientation is no matter

    times = sum(
        (rasterize(vertices, face[None], 32, 32).face_index >= 0).astype(int) for face in turned
    )
    together = rasterize(vertices, turned, 32, 32).face_index >= 0
    assert times.max() == 1
    np.testing.assert_array_equal(times > 0, together)
    assert together[15, 15]
    outline = rim if not seed % 2 else np.rint(rim)
    area = (
        abs(
            np.dot(outline[:, 0], np.roll(outline[:, 1], 1))
            - np.dot(outline[:, 1], np.roll(outline[:, 0], 1))
        )
        / 2
    )
    assert together.sum() == pytest.approx(area, abs=20)


def test_barycentrics_are_those_of_the_surface_and_not_of_the_picture():
    """Half-way across the picture is a quarter of the way to a corner three times as far."""
    vertices = np.array([[0.0, 0, 1], [16.0, 0, 3], [0.0, 16, 1]])
    raster = rasterize(vertices, np.array([[0, 1, 2]]), 10, 17)
    np.testing.assert_allclose(raster.barycentric[0, 8], [0.75, 0.25, 0], atol=1e-6)
    assert raster.depth[0, 8] == pytest.approx(1.5)


def test_crossing_faces_hide_each_other_by_turns():
    near_left = np.array([[0.0, 0, 1], [0.0, 20, 1], [20.0, 10, 3]])
    near_right = np.array([[20.0, 0, 1], [20.0, 20, 1], [0.0, 10, 3]])
    raster = rasterize(np.vstack([near_left, near_right]), np.arange(6).reshape(2, 3), 21, 21)
    assert (raster.face_index[10, 1:9] == 0).all()
    assert (raster.face_index[10, 12:19] == 1).all()


def test_of_equal_faces_the_first_is_shown_and_again_if_they_come_in_several_batches(monkeypatch):
    vertices, faces = soup(5, 8, 20, 20)
    twice = np.vstack([faces, faces[::-1]])
    expected = rasterize(vertices, faces, 20, 20)
    for limit in (module._FRAGMENTS_AT_ONCE, 7):
        monkeypatch.setattr(module, "_FRAGMENTS_AT_ONCE", limit)
        raster = rasterize(vertices, twice, 20, 20)
        np.testing.assert_array_equal(raster.face_index, expected.face_index)
        np.testing.assert_array_equal(raster.depth, expected.depth)


def test_faces_that_reach_behind_the_camera_are_left_out_and_others_are_not():
    vertices = np.array(
        [
            [1.0, 1, 1], [8.0, 1, 1], [1.0, 8, 1],
            [np.nan, np.inf, 0.0], [5.0, 9, -1.0], [9.0, 9, 0.5], [9.0, 1, 0.5],
        ]
    )  # fmt: skip
    raster = rasterize(vertices, np.array([[3, 5, 6], [5, 6, 4], [0, 1, 2]]), 10, 10)
    assert set(np.unique(raster.face_index)) == {-1, 2}


def test_faces_outside_the_picture_or_without_area_or_absurdly_far_show_nothing():
    vertices = np.array(
        [
            [-9.0, 2, 1], [-2.0, 2, 1], [-2.0, 9, 1], [2.0, 2, 1], [5.0, 5, 1], [8.0, 8, 1],
            [30.0, 2, 1], [2.0, 40.0, 1], [40.0, 40, 1], [3e6, 0, 1], [0, 3e6, 1],
        ]
    )  # fmt: skip
    faces = np.array([[0, 1, 2], [3, 4, 5], [3, 3, 4], [6, 7, 8], [3, 9, 10]])
    raster = rasterize(vertices, faces, 10, 10)
    assert (raster.face_index == -1).all()
    assert np.isinf(raster.depth).all()
    assert not raster.barycentric.any()


def test_a_face_much_larger_than_the_picture_fills_it():
    vertices = np.array([[-1e6, -1e6, 1], [1e6, -1e6, 1], [0.0, 1e6, 1]])
    assert (rasterize(vertices, np.array([[0, 1, 2]]), 5, 7).face_index == 0).all()


def test_no_faces_are_an_empty_picture():
    raster = rasterize(np.zeros((0, 3)), np.zeros((0, 3), int), 4, 6)
    assert raster.face_index.shape == (4, 6)
    assert (raster.face_index == -1).all()


@pytest.mark.parametrize(
    ("vertices", "faces", "size", "message"),
    [
        (np.zeros((3, 2)), np.zeros((1, 3), int), (4, 4), r"vertices_px must be \(N, 3\), got"),
        (np.ones((3, 3)), np.zeros((1, 4), int), (4, 4), r"faces must be \(N, 3\), got \(1, 4\)"),
        (np.ones((3, 3)), np.zeros((1, 3)), (4, 4), "faces must be integers, got float64"),
        (np.ones((3, 3)), np.array([[0, 1, 3]]), (4, 4), r"0\.\.3, but there are 3"),
        (np.ones((3, 3)), np.array([[0, 1, -1]]), (4, 4), r"-1\.\.1, but there are 3"),
        (np.ones((3, 3)), np.array([[0, 1, 2]]), (0, 4), "at least one pixel, got 0x4"),
        (np.full((3, 3), np.nan), np.array([[0, 1, 2]]), (4, 4), "3 vertices .* not finite"),
        (np.array([[1, np.inf, 1.0]]), np.zeros((0, 3), int), (4, 4), "the first is 0"),
    ],
)
def test_impossible_input_is_refused(vertices, faces, size, message):
    with pytest.raises(ValueError, match=message):
        rasterize(vertices, faces, *size)
