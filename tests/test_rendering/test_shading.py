import numpy as np
import pytest

from mamba_mm.rendering import project_to_pixels, rasterize, shade, vertex_normals

CAMERA = (100.0, np.array([16.0, 12.0]))
# Seen from the origin along +z, y down: corners run counter-clockwise.
WALL = np.array([[-1.0, -1, 4], [-1.0, 1, 4], [1.0, 1, 4], [1.0, -1, 4]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def draw(vertices, faces, **options):
    return shade(vertices, faces, project_to_pixels(vertices, *CAMERA), 24, 32, **options)


def test_points_are_seen_through_a_pinhole():
    points = np.array([[0.1, -0.2, 2.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, -2.0]])
    pixels = project_to_pixels(points, np.array([100.0, 50.0]), np.array([16.0, 12.0]))
    np.testing.assert_allclose(pixels[:2], [[21, 7, 2], [16, 12, 1]])
    assert np.isnan(pixels[2:, :2]).all()
    assert pixels[2:, 2].tolist() == [0, -2]


def test_normals_are_means_by_area_and_point_to_the_counter_clockwise_side():
    np.testing.assert_allclose(vertex_normals(WALL, FACES), [[0, 0, -1]] * 4)
    # A roof of one steep and one flat face, the flat one twice as large.
    roof = np.array([[0.0, 0, 0], [1.0, 0, 0], [0.0, 1, 0], [0.0, 0, 2], [9.0, 9, 9]])
    normals = vertex_normals(roof, np.array([[0, 1, 2], [0, 1, 3]]))
    np.testing.assert_allclose(normals[0], np.array([0, -2, 1]) / np.sqrt(5))
    np.testing.assert_allclose(normals[2], [0, 0, 1])
    np.testing.assert_array_equal(normals[4], 0)


def test_light_falls_as_the_cosine_and_never_below_the_ambient_share():
    for angle in (0.0, 0.6, 1.2, 2.5):
        light = (np.sin(angle) * 3, 0.0, -np.cos(angle) * 3)
        drawn = draw(WALL, FACES, colour=(100, 200, 50), towards_light=light, ambient=0.4)
        strength = 0.4 + 0.6 * max(np.cos(angle), 0.0)
        expected = np.rint(np.array([100, 200, 50]) * strength)
        assert drawn.mask.all()
        np.testing.assert_allclose(drawn.image[12, 16], expected, atol=1)


def test_the_back_of_a_face_is_lit_as_a_front():
    light = dict(towards_light=(0.5, 0.2, -1.0))
    front = draw(WALL, FACES, **light)
    np.testing.assert_array_equal(draw(WALL, FACES[:, ::-1], **light).image, front.image)


def test_normals_are_interpolated():
    """Over the ridge of a roof the light changes smoothly and not at once."""
    ridge = np.array(
        [[-1.0, -2, 4.5], [-1.0, 2, 4.5], [0.0, 2, 4], [0.0, -2, 4], [1.0, 2, 4.5], [1.0, -2, 4.5]]
    )
    faces = np.array([[0, 1, 2], [0, 2, 3], [3, 2, 4], [3, 4, 5]])
    row = draw(ridge, faces, towards_light=(-1.0, 0, -1)).image[12, :, 0].astype(int)
    assert row[0] > row[-1] + 20
    assert np.abs(np.diff(row)).max() < 12


def test_colours_of_vertices_are_interpolated_and_the_rest_is_black():
    colours = np.array([[200.0, 0, 0], [200.0, 0, 0], [0, 0, 100.0], [0, 0, 100.0]])
    narrow = WALL * [0.4, 0.2, 1.0]
    drawn = draw(narrow, FACES, colour=colours)
    np.testing.assert_allclose(drawn.image[12, 16], [100, 0, 50], atol=6)
    assert drawn.image[12, 8, 0] > 170
    mask = rasterize(project_to_pixels(narrow, *CAMERA), FACES, 24, 32).face_index >= 0
    np.testing.assert_array_equal(drawn.mask, mask)
    np.testing.assert_allclose(drawn.depth[mask], 4)
    assert not drawn.image[~mask].any()
    assert drawn.image.dtype == np.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ambient": 1.5}, "a share of the light, 0..1, got 1.5"),
        ({"towards_light": (0, 0, 0)}, r"must be a direction \(3,\), got \[0.0, 0.0, 0.0\]"),
        ({"towards_light": (0, 1)}, r"must be a direction \(3,\)"),
        ({"towards_light": (0, np.nan, 1)}, "must be a direction"),
        ({"colour": np.zeros((3, 3))}, r"that of every vertex \(4, 3\), got \(3, 3\)"),
    ],
)
def test_impossible_light_or_colour_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        draw(WALL, FACES, **options)
