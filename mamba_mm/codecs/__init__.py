"""Codecs of MMPose's head and pipelines; importing them needs MMPose."""

from .mano_label import MANOLabel

__all__ = ["MANOLabel"]
