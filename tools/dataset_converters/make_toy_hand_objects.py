"""Draw a set of scenes of an object with a hand: poses, cameras, joints, MANO parameters.

Objects in BOP's layout, and hands in COCO's format. Hand and objects are of our own: no licence is
needed, and the set says nothing about photographs. The same arguments give the same pixels and the
same labels. A folder that already holds the set is left as it is.

Example:
    python tools/dataset_converters/make_toy_hand_objects.py data/toy_scenes --image-size 128
"""

import sys

from mamba_mm.datasets.drawn_set import add_number, drawing_command
from mamba_mm.datasets.toy_objects import ToyScenesConfig, write_toy_scenes


def add_own_arguments(parser):
    """Add the arguments that only this command has."""
    defaults = ToyScenesConfig()
    add_number(parser, defaults, "hand_share", "X", "share of images that show a hand, 0..1")
    spread = (
        "how far objects are turned at most from upright, and hands from the palm to the camera; "
        "180 gives all orientations the same chance"
    )
    add_number(parser, defaults, "orientation_spread", "DEGREES", spread)


def main(arguments=None):
    """Draw the set; return the exit status."""
    return drawing_command(arguments, __doc__, ToyScenesConfig, write_toy_scenes, add_own_arguments)


if __name__ == "__main__":
    sys.exit(main())
