"""Pose estimators of MMPose. Their classes need it, their names in the registry do not."""

from mamba_mm.registry import MODELS, register_on_demand

register_on_demand(
    MODELS,
    "TopdownHandMeshEstimator",
    "mamba_mm.models.pose_estimators.topdown_hand_mesh",
    "mmpose",
)
