"""Pose estimators of MMPose. Their classes need it, their names in the registry do not."""

from mamba_mm.registry import MODELS, register_on_demand

for _name, _module in dict(
    AdversarialHandMeshEstimator="adversarial_hand_mesh",
    HandObjectEstimator="hand_object",
    TopdownHandMeshEstimator="topdown_hand_mesh",
    TopdownObjectPoseEstimator="topdown_object_pose",
).items():
    register_on_demand(MODELS, _name, f"mamba_mm.models.pose_estimators.{_module}", "mmpose")
register_on_demand(
    MODELS, "HandMeshTTAModel", "mamba_mm.models.pose_estimators.hand_mesh_tta", "mmpose"
)
