"""Codecs of MMPose's head and pipelines; importing them needs MMPose."""

from .mano_label import MANOLabel
from .object_keypoints import ObjectKeypointLabel

__all__ = ["MANOLabel", "ObjectKeypointLabel"]
