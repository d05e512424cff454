"""Sets of poses without images."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hand_mesh_samples import LAYER, write_freihand

from mamba_mm.datasets.hand_mesh.mano_poses import collect_freihand_poses
from mamba_mm.datasets.toy_hands.poses import HandAnatomy
from mamba_mm.models.body_models import build_toy_mano
from mamba_mm.registry import DATASETS

TOOL = Path(__file__).parents[2] / "tools" / "dataset_converters" / "freihand_poses.py"


def build(name, **settings):
    return DATASETS.build(dict(type=f"mamba_mm.{name}", **settings))


def arrays(count=4):
    rng = np.random.default_rng(0)
    return dict(hand_pose=rng.normal(size=(count, 48)), betas=rng.normal(size=(count, 10)))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "poses.npz"
    np.savez(path, **arrays(), extra=np.array(["HaMeR's has more"]))
    return path


def test_the_global_orientation_is_dropped(file):
    poses = build("MANOPoses", path=str(file))
    assert len(poses) == 4
    assert poses.hand_pose.dtype == poses.betas.dtype == np.float32
    np.testing.assert_array_equal(poses.hand_pose, np.float32(arrays()["hand_pose"][:, 3:]))
    np.testing.assert_array_equal(poses.betas, np.float32(arrays()["betas"]))


def test_draws(file):
    poses = build("MANOPoses", path=str(file))
    hand_pose, betas = poses.draw(np.random.default_rng(0), 400)
    chosen = [int(np.flatnonzero((poses.betas == row).all(1))[0]) for row in betas]
    np.testing.assert_array_equal(hand_pose, poses.hand_pose[chosen])
    assert np.bincount(chosen).min() > 70


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(betas=None), r"expected betas of the shape \(N, 10\), got nothing"),
        (dict(hand_pose=np.zeros((4, 45))), r"hand_pose of the shape \(N, 48\), got \(4, 45\)"),
        (dict(betas=np.zeros(10)), r"got \(10,\)"),
        (dict(betas=np.full((4, 10), np.nan)), "betas must hold finite floats"),
        (dict(betas=np.zeros((4, 10), int)), "betas must hold finite floats"),
        (dict(betas=np.zeros((3, 10))), "as many poses as shapes"),
        (dict(hand_pose=np.zeros((0, 48)), betas=np.zeros((0, 10))), "and some"),
        (dict(betas=np.full((4, 10), None)), r"no \.npz of plain arrays"),
    ],
)
def test_bad_files(change, message, tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, **{k: v for k, v in (arrays() | change).items() if v is not None})
    with pytest.raises(ValueError, match=message):
        build("MANOPoses", path=str(path))


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "poses.npz"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(ValueError, match=r"no \.npz of plain arrays"):
        build("MANOPoses", path=str(path))
    np.save(tmp_path / "one.npy", np.zeros((4, 48)))
    with pytest.raises(ValueError, match=r"no \.npz of plain arrays"):
        build("MANOPoses", path=str(tmp_path / "one.npy"))
    with pytest.raises(FileNotFoundError, match="freihand_poses"):
        build("MANOPoses", path=str(tmp_path / "absent.npz"))


def test_toy_poses_are_within_the_limits_and_repeat():
    poses = build("ToyMANOPoses", count=30)
    assert (len(poses), poses.hand_pose.shape) == (30, (30, 45))
    anatomy = HandAnatomy(build_toy_mano())
    angles = np.stack([anatomy.angles_of(pose) for pose in poses.hand_pose])
    assert (angles > anatomy.limits[..., 0] - 1e-5).all()
    assert (angles < anatomy.limits[..., 1] + 1e-5).all()
    assert np.abs(poses.betas).max() <= 2
    assert angles.std(axis=0)[:, 0].min() > 0.1  # every joint flexes
    same, other = build("ToyMANOPoses", count=30), build("ToyMANOPoses", count=30, seed=1)
    np.testing.assert_array_equal(poses.hand_pose, same.hand_pose)
    assert (other.hand_pose != poses.hand_pose).mean() > 0.9  # both may be at a limit
    with pytest.raises(ValueError, match="count must be 1 or more"):
        build("ToyMANOPoses", count=0)


# --- from FreiHAND's labels ------------------------------------------------------------------


def test_poses_of_freihand_are_absolute(tmp_path):
    hands = write_freihand(tmp_path, poses=3, versions=1, names=("mano",))
    destination = tmp_path / "new" / "poses.npz"
    assert collect_freihand_poses(tmp_path, destination, np.array(LAYER.hands_mean)) == 3
    poses = build("MANOPoses", path=str(destination))
    for i, hand in enumerate(hands):
        np.testing.assert_allclose(poses.hand_pose[i], hand["mano_pose"][3:], atol=1e-6)
        np.testing.assert_allclose(poses.betas[i], hand["mano_betas"], atol=1e-6)
    assert [path.name for path in destination.parent.iterdir()] == ["poses.npz"]


def test_the_command(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("freihand_poses", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    destination = tmp_path / "poses.npz"
    command = [str(tmp_path), str(destination), "--mano", "toy"]
    assert tool.main(command) == 1
    assert "training_mano.json is not there" in capsys.readouterr().err
    assert not destination.exists()
    write_freihand(tmp_path, poses=2, versions=1, names=("mano",))
    assert tool.main(command) == 0
    assert "wrote 2 hands" in capsys.readouterr().out
    assert tool.main(command) == 1
    assert "--force" in capsys.readouterr().err
    assert tool.main([*command, "--force"]) == 0
