"""What a config can name. Importing it needs MMEngine and no toolbox."""

from . import data_preprocessors, depth_estimators, losses, norms, pose_estimators
from .backbones import (
    VIM_ARCHS,
    VMAMBA_ARCHS,
    VMUNET_ARCHS,
    VimArch,
    VisionMamba,
    VMamba,
    VMambaArch,
    VMUNetArch,
    VMUNetEncoder,
)
from .body_models import MANOLayer
from .decode_heads import VMUNetDecoder
from .heads import (
    ChannelReduction,
    DirectOutputModel,
    GSSBlock,
    HandGraphConv,
    JointsRegressor,
    MANOOutputModel,
    TokenSampler,
)
from .necks import SimpleFeaturePyramid

__all__ = [
    "VIM_ARCHS",
    "VMAMBA_ARCHS",
    "VMUNET_ARCHS",
    "ChannelReduction",
    "DirectOutputModel",
    "GSSBlock",
    "HandGraphConv",
    "JointsRegressor",
    "MANOLayer",
    "MANOOutputModel",
    "SimpleFeaturePyramid",
    "TokenSampler",
    "VMUNetArch",
    "VMUNetDecoder",
    "VMUNetEncoder",
    "VMamba",
    "VMambaArch",
    "VimArch",
    "VisionMamba",
    "data_preprocessors",
    "depth_estimators",
    "losses",
    "norms",
    "pose_estimators",
]
