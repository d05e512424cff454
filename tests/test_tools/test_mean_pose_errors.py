import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmpose")

sys.path.insert(0, str(Path(__file__).parents[2] / "tools" / "analysis_tools"))

import mean_pose_errors
from mean_pose_errors import METRIC_NAMES, errors_of, mean_hand, read_evaluation, report

from mamba_mm.models.body_models import MANOLayer, axis_angle_to_matrix


class Hands:
    """A data set of hands in the same pose, of both sides."""

    def __init__(self, layer, poses, betas, sides):
        self.records = [self.record(layer, *hand) for hand in zip(poses, betas, sides, strict=True)]

    def record(self, layer, pose, betas, right):
        mirror = np.array([1, 1, 1]) if right else np.array([-1, 1, 1])
        rotations = axis_angle_to_matrix(pose.reshape(1, 16, 3))
        hand = layer(rotations[:, :1], rotations[:, 1:], betas[None])
        own = pose.reshape(16, 3).numpy() * (1 if right else np.array([1, -1, -1]))
        return dict(
            mano_pose=own.reshape(1, 48),
            mano_betas=betas[None].numpy(),
            is_right=np.float32([right]),
            has_mano=np.ones(1),
            has_3d=np.ones(1),
            has_vertices=np.ones(1),
            keypoints_cam=hand.joints.numpy() * mirror + [0, 0, 0.5],
            keypoints_cam_valid=np.ones((1, 21)),
            vertices_cam=hand.vertices.numpy() * mirror + [0, 0, 0.5],
        )

    def __len__(self):
        return len(self.records)

    def get_data_info(self, index):
        return self.records[index]


@pytest.fixture(scope="module")
def layer():
    return MANOLayer("toy").double()


def draw(count, spread):
    generator = torch.Generator().manual_seed(0)
    poses = 0.5 + spread * torch.randn(count, 48, generator=generator, dtype=torch.float64)
    return poses, torch.ones(count, 10, dtype=torch.float64)


def test_one_hand_for_all_is_right_where_all_are_the_same(layer):
    hands = Hands(layer, *draw(4, 0.0), [True, False, False, True])
    rotations, betas = mean_hand(hands)
    errors = errors_of(layer, rotations, betas, hands)
    assert errors == {f"mesh/{name}": pytest.approx(0, abs=1e-3) for name in METRIC_NAMES}


def test_the_mean_is_a_rotation_between(layer):
    poses, betas = draw(2, 0.0)
    poses[0, :3], poses[1, :3] = torch.tensor([[0, 0, 0.2], [0, 0, 0.6]]).double()
    betas[1] = 3.0
    rotations, mean = mean_hand(Hands(layer, poses, betas, [True, True]))
    expected = axis_angle_to_matrix(torch.tensor([0, 0, 0.4]).double())
    torch.testing.assert_close(rotations[0], expected)
    torch.testing.assert_close(mean, torch.full((10,), 2.0).double())


def test_the_mean_hand_of_different_hands_errs(layer):
    hands = Hands(layer, *draw(6, 0.4), [True, False] * 3)
    errors = errors_of(layer, *mean_hand(hands), hands)
    assert all(3 < error < 60 for error in errors.values())


def test_left_hands_are_compared_with_a_left_hand(layer):
    poses, betas = draw(1, 0.4)
    right = Hands(layer, poses, betas, [True])
    left = Hands(layer, poses, betas, [False])
    hand = (axis_angle_to_matrix(torch.zeros(16, 3).double()), torch.zeros(10).double())
    for name, error in errors_of(layer, *hand, right).items():
        assert errors_of(layer, *hand, left)[name] == pytest.approx(error, rel=1e-6)


def test_without_mano_parameters_there_is_no_mean(layer):
    hands = Hands(layer, *draw(1, 0.0), [True])
    hands.records[0]["has_mano"] = np.zeros(1)
    with pytest.raises(ValueError, match="no sample of the training set has MANO parameters"):
        mean_hand(hands)


def test_reads_what_the_test_printed(tmp_path):
    path = tmp_path / "evaluation.txt"
    path.write_text(
        "Epoch(val) [1][3/3] mesh/PA-MPJPE: 30.5  mesh/PA-MPVPE: 20.25\n"
        "Epoch(test) [3/3]    mesh/PA-MPJPE: 10.5  mesh/PA-MPVPE: 8.25  mesh/F@5: 0.5\n"
    )
    model = read_evaluation(path)
    assert model == {"mesh/PA-MPJPE": 10.5, "mesh/PA-MPVPE": 8.25}
    table = report({"the mean": {"mesh/PA-MPJPE": 21.0, "mesh/PA-MPVPE": 33.0}}, model)
    assert "| the mean | 21.00 (model: 50% below) | 33.00 (model: 75% below) |" in table
    path.write_text("mesh/PA-MPJPE: 10.5")
    with pytest.raises(ValueError, match="has no mesh/PA-MPVPE"):
        read_evaluation(path)


def test_a_missing_file_is_an_error_in_words(capsys):
    root = Path(__file__).parents[2]
    config = root / "configs" / "mmpose" / "hamba" / "hamba_vmamba-nano_toy-hands-128x96.py"
    assert mean_pose_errors.main([str(config), "--evaluation", "nowhere.txt"]) == 1
    assert "nowhere.txt" in capsys.readouterr().err
