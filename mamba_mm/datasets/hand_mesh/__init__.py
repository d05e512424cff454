"""Hands with 3-D labels, every set as the same record. The data set classes need MMPose."""

from .metainfo import hand_metainfo
from .record import check_plausible_hands, hand_record

__all__ = ["check_plausible_hands", "hand_metainfo", "hand_record"]
