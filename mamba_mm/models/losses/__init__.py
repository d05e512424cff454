"""Losses: of MMSegmentation, whose classes need it while their names do not, and of hand meshes."""

from mamba_mm.registry import MODELS, register_on_demand

from .hand_discriminator import HandDiscriminator
from .hand_mesh import (
    Keypoint2DL1Loss,
    ParameterL2Loss,
    RootAlignedKeypoint3DL1Loss,
    VertexL1Loss,
)
from .hand_prior import AdversarialHandPrior
from .object_points import CentredKeypoint3DL1Loss

for _name in ("BinaryDiceLoss", "ClassDiceLoss"):
    register_on_demand(MODELS, _name, "mamba_mm.models.losses.dice", "mmseg")

__all__ = [
    "AdversarialHandPrior",
    "CentredKeypoint3DL1Loss",
    "HandDiscriminator",
    "Keypoint2DL1Loss",
    "ParameterL2Loss",
    "RootAlignedKeypoint3DL1Loss",
    "VertexL1Loss",
]
