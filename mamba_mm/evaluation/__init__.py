"""Metrics that the toolboxes do not have."""

from .case_seg_metric import EMPTY_RULES, CaseSegMetric, EmptyRule
from .hand_mesh_metric import HandMeshMetric

__all__ = ["EMPTY_RULES", "CaseSegMetric", "EmptyRule", "HandMeshMetric"]
