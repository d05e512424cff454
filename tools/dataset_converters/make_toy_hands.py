"""Draw a set of shaded hands with camera, joints, mesh and MANO parameters.

Right hands in the official FreiHAND layout, and both hands in COCO's format. The hand is a
synthetic model of our own: no licence is needed, and the set says nothing about photographs.
The same arguments give the same pixels and the same labels. A folder that already holds the set
is left as it is.

Example:
    python tools/dataset_converters/make_toy_hands.py data/toy_hands --image-size 128
"""

import sys

from mamba_mm.datasets.drawn_set import add_number, drawing_command
from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands


def add_own_arguments(parser):
    """Add the arguments that only this command has."""
    defaults = ToyHandsConfig()
    add_number(parser, defaults, "left_share", "X", "share of images that show a left hand, 0..1")
    spread = (
        "how far hands are turned at most from the palm to the camera and the fingers up; "
        "180 gives all orientations the same chance"
    )
    add_number(parser, defaults, "orientation_spread", "DEGREES", spread)


def main(arguments=None):
    """Draw the set; return the exit status."""
    return drawing_command(arguments, __doc__, ToyHandsConfig, write_toy_hands, add_own_arguments)


if __name__ == "__main__":
    sys.exit(main())
