"""Transforms that move the 3-D labels of a hand along with its image."""

from .channel_gain import ChannelGain
from .hand_mesh_flip import HandMeshRandomFlip
from .mesh_rotate import MeshRotate

__all__ = ["ChannelGain", "HandMeshRandomFlip", "MeshRotate"]
