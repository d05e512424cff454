import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mamba_mm.models.body_models import MANOLayer

CAMERA = np.array([[300.0, 0, 70], [0, 300, 50], [0, 0, 1]])


def project(points, matrix=CAMERA):
    projected = points @ matrix.T
    return projected[..., :2] / projected[..., 2:]


@pytest.fixture(scope="session")
def layer():
    return MANOLayer("toy")


@pytest.fixture
def sample(layer):
    """A hand in an image of 120 x 160, labelled, and predicted 20 pixels farther right."""
    from mmpose.structures import PoseDataSample

    identity = torch.eye(3).expand(1, 16, 3, 3)
    mesh = layer(identity[:, :1], identity[:, 1:], torch.zeros(1, 10))
    # Seen from the back of the hand, with the fingers to the left.
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    joints, vertices = (points.numpy() @ turn.T for points in (mesh.joints, mesh.vertices))
    place = np.array([0.0, 0.02, 0.7])
    truth = InstanceData(
        keypoints=project(joints + place),
        keypoints_visible=np.ones((1, 21), np.float32),
        keypoints_cam=joints + place,
        keypoints_cam_valid=np.ones((1, 21), np.float32),
        vertices_cam=vertices + place,
        cam_K=CAMERA[None],
        bboxes=np.array([[25.0, 20, 115, 85]]),
        **{name: np.ones(1) for name in ("has_3d", "has_vertices", "has_cam", "is_right")},
    )
    found = InstanceData(
        keypoints=project(joints + place) + np.array([20, 0]),
        keypoint_scores=np.ones((1, 21), np.float32),
        keypoints_3d=joints,
        vertices=vertices,
        cam_translation=place[None] * 100,
        focal_length=np.array([1.0]),
        principal_point=np.array([[0.0, 0.0]]),
        crop_camera_translation=place[None] * [1, 1, 10],
        crop_focal_length=np.array([3000.0]),
        crop_principal_point=np.array([[90.0, 50.0]]),
        bboxes=np.array([[45.0, 20, 135, 85]]),
        is_right=np.ones(1),
    )
    return PoseDataSample(
        gt_instances=truth, pred_instances=found, metainfo=dict(img_path="folder/hand.jpg")
    )
