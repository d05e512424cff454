"""Metrics that the toolboxes do not have."""

from .case_seg_metric import EMPTY_RULES, CaseSegMetric, EmptyRule
from .hand_keypoint_pck import HandKeypointPCK
from .hand_mesh_metric import HandMeshMetric
from .object_pose_metric import ObjectPoseMetric
from .scene_hand_metric import SceneHandMeshMetric

__all__ = [
    "EMPTY_RULES",
    "CaseSegMetric",
    "EmptyRule",
    "HandKeypointPCK",
    "HandMeshMetric",
    "ObjectPoseMetric",
    "SceneHandMeshMetric",
]
