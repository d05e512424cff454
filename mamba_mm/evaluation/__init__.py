"""Metrics that the toolboxes do not have."""

from .case_seg_metric import EMPTY_RULES, CaseSegMetric, EmptyRule

__all__ = ["EMPTY_RULES", "CaseSegMetric", "EmptyRule"]
