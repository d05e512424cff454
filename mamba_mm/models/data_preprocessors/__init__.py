"""Data preprocessors of MMPose. Their classes need it, their names in the registry do not."""

from mamba_mm.registry import MODELS, register_on_demand

register_on_demand(
    MODELS,
    "RGBDPoseDataPreprocessor",
    "mamba_mm.models.data_preprocessors.rgbd_pose",
    "mmpose",
)
