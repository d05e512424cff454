"""A set of rendered hands with camera, depth, joints, mesh and MANO parameters, under no licence.

The hand is ToyMANO, our own synthetic model: **numbers measured on this set say how a network
learns, not how it would do on photographs**.

=============  =======================================================================
poses.py       how far joints bend, and poses of the hand
views.py       the camera, how the hand is turned and where it is
hands.py       all of it together: hands in the frame of their camera
appearance.py  skin, light and background: the pixels
depth.py       how far everything is
freihand.py    labels in the official FreiHAND layout
coco.py        labels in COCO's format, as MMPose reads them
refusal.py     what cannot be asked for
folder.py      the whole set
=============  =======================================================================
"""

from .appearance import paint_hand
from .depth import DEPTH_UNIT, draw_depth_map
from .folder import ToyHandsConfig, write_toy_hands
from .hands import Hand, HandFactory
from .poses import GESTURES, HandAnatomy

__all__ = [
    "DEPTH_UNIT",
    "GESTURES",
    "Hand",
    "HandAnatomy",
    "HandFactory",
    "ToyHandsConfig",
    "draw_depth_map",
    "paint_hand",
    "write_toy_hands",
]
