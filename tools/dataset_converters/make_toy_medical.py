"""Draw a set of toy images that look medical, in the folders that MMSegmentation reads.

Lesions on skin, two classes, or organs in a slice of an abdomen, seven. The same arguments give
the same pixels and the same labels. A folder that already holds the set is left as it is.

Example:
    python tools/dataset_converters/make_toy_medical.py lesions data/toy_lesions
"""

import sys

from mamba_mm.datasets.drawn_set import drawing_command
from mamba_mm.datasets.toy_medical import KINDS, ToyMedicalConfig, write_toy_medical


def add_kind(parser):
    """Add the argument that only this command has."""
    parser.add_argument("kind", choices=tuple(KINDS), help="what to draw")


def main(arguments=None):
    """Draw the set; return the exit status."""
    return drawing_command(arguments, __doc__, ToyMedicalConfig, write_toy_medical, add_kind)


if __name__ == "__main__":
    sys.exit(main())
