import numpy as np
from scipy.spatial.transform import Rotation

from mamba_mm.evaluation.functional.nearest_rotation import nearest_rotation

RANDOM = np.random.default_rng(0)


def test_a_rotation_is_nearest_to_itself_at_any_scale():
    rotations = Rotation.random(6, random_state=0).as_matrix().reshape(2, 3, 3, 3)
    np.testing.assert_allclose(nearest_rotation(rotations), rotations, atol=1e-12)
    np.testing.assert_allclose(nearest_rotation(3 * rotations), rotations, atol=1e-12)


def test_no_other_rotation_is_nearer_not_even_to_a_mirroring_matrix():
    matrices = RANDOM.normal(size=(20, 3, 3))
    assert {-1, 1} == set(np.sign(np.linalg.det(matrices)))
    found = nearest_rotation(matrices)
    np.testing.assert_allclose(np.linalg.det(found), 1)
    np.testing.assert_allclose(
        found @ found.swapaxes(1, 2), np.tile(np.eye(3), (20, 1, 1)), atol=1e-9
    )
    least = np.square(found - matrices).sum(axis=(1, 2))
    for other in Rotation.random(500, random_state=1).as_matrix():
        assert (np.square(other - matrices).sum(axis=(1, 2)) >= least).all()


def test_it_brings_points_onto_others():
    source = RANDOM.normal(size=(8, 3))
    rotation = Rotation.random(random_state=2).as_matrix()
    np.testing.assert_allclose(
        nearest_rotation((source @ rotation.T).T @ source), rotation, atol=1e-12
    )
