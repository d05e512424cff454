"""Transforms that move the 3-D labels of a hand along with its image, and augmentations."""

from mamba_mm.registry import TRANSFORMS, register_on_demand

from .channel_gain import ChannelGain
from .depth_perturbation import DepthPerturbation
from .estimate_depth import EstimateDepth
from .hand_blur import HandBlur
from .hand_mesh_flip import HandMeshRandomFlip
from .hand_occlusion import HandOcclusion
from .hand_truncation import HandTruncation
from .load_depth import LoadDepth
from .mesh_rotate import MeshRotate
from .rot_scale_test_time_aug import RotScaleTestTimeAug

__all__ = [
    "ChannelGain",
    "DepthPerturbation",
    "EstimateDepth",
    "HandBlur",
    "HandMeshRandomFlip",
    "HandOcclusion",
    "HandTruncation",
    "LoadDepth",
    "MeshRotate",
    "RotScaleTestTimeAug",
]

register_on_demand(TRANSFORMS, "AppendDepth", "mamba_mm.datasets.transforms.append_depth", "mmpose")
