"""Necks: from the maps of a backbone to those that a head wants."""

from .simple_feature_pyramid import SimpleFeaturePyramid

__all__ = ["SimpleFeaturePyramid"]
