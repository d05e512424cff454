import numpy as np
import pytest

from mamba_mm.models.body_models import build_toy_mano
from mamba_mm.models.body_models.wrist_cap import close_wrist
from mamba_mm.rendering.obj_file import write_obj

VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, -0.1234567]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


def read(path):
    """Arrays by the first word of their lines; of ``1//1``, the part before the slashes."""
    lines = [line.split() for line in path.read_text().splitlines()]
    numbers = {kind: [] for kind, *_ in lines}
    for kind, *words in lines:
        numbers[kind].append([float(word.split("/")[0]) for word in words])
    return {kind: np.array(rows) for kind, rows in numbers.items()}


def volume(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return np.einsum("fi,fi->", a, np.cross(b, c)) / 6


def test_vertices_and_faces_from_one(tmp_path):
    path = tmp_path / "new" / "mesh.obj"
    write_obj(path, VERTICES, FACES)
    assert path.read_text().splitlines() == [
        "v 0.000000 0.000000 0.000000",
        "v 1.000000 0.000000 0.000000",
        "v 0.000000 1.000000 0.000000",
        "v 0.000000 0.000000 -0.123457",
        "f 1 2 3",
        "f 1 3 4",
    ]
    assert list(path.parent.iterdir()) == [path]


def test_a_mirrored_hand_faces_outward_when_flipped(tmp_path):
    model = build_toy_mano()
    faces = close_wrist(model.faces)
    for side, flip in ((1, False), (-1, True)):
        write_obj(tmp_path / "hand.obj", model.v_template * [side, 1, 1], faces, flip_faces=flip)
        content = read(tmp_path / "hand.obj")
        assert volume(content["v"], content["f"].astype(int) - 1) > 1e-4


@pytest.mark.parametrize("flip", [False, True])
def test_normals_point_to_where_the_faces_look(tmp_path, flip):
    write_obj(tmp_path / "mesh.obj", VERTICES, FACES[:1], normals=True, flip_faces=flip)
    content = read(tmp_path / "mesh.obj")
    np.testing.assert_array_equal(content["vn"][:3], [[0, 0, -1 if flip else 1]] * 3)
    assert (tmp_path / "mesh.obj").read_text().splitlines()[-1] == (
        "f 1//1 3//3 2//2" if flip else "f 1//1 2//2 3//3"
    )


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (VERTICES[:, :2], FACES, r"vertices must be \(N, 3\), got \(4, 2\)"),
        (VERTICES, FACES[0], r"faces must be \(N, 3\), got \(3,\)"),
        (VERTICES, FACES * 1.0, "faces must be integers"),
        (VERTICES, FACES + 1, r"faces name vertices 1..4 of 4"),
        (VERTICES, FACES - 1, r"faces name vertices -1..2 of 4"),
        (VERTICES * np.nan, FACES, "not finite"),
    ],
)
def test_bad_meshes_are_refused(tmp_path, vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        write_obj(tmp_path / "mesh.obj", vertices, faces)
    assert not list(tmp_path.iterdir())
