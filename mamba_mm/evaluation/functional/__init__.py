"""The mathematics of the metrics, as functions of NumPy arrays that need no toolbox."""

from .hand_alignment import (
    ALIGNMENTS,
    SimilarityTransform,
    freihand_transform,
    procrustes_freihand,
    similarity_align,
    similarity_transform,
)
from .hand_scores import fscore, mean_error, nearest_distances, pck, pck_auc, pck_curve
from .hand_submission import (
    SUBMISSIONS,
    read_submission,
    submission_order,
    write_submission,
)

__all__ = [
    "ALIGNMENTS",
    "SUBMISSIONS",
    "SimilarityTransform",
    "freihand_transform",
    "fscore",
    "mean_error",
    "nearest_distances",
    "pck",
    "pck_auc",
    "pck_curve",
    "procrustes_freihand",
    "read_submission",
    "similarity_align",
    "similarity_transform",
    "submission_order",
    "write_submission",
]
