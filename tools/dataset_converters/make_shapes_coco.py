"""Draw a COCO-format set of textured shapes on cluttered backgrounds.

Boxes, polygons and keypoints, a train and a val split. The same arguments give the same
pixels and the same annotations. A folder that already holds the set is left as it is.

Example:
    python tools/dataset_converters/make_shapes_coco.py data/shapes --train-images 1600
"""

import sys

from mamba_mm.datasets.drawn_set import drawing_command
from mamba_mm.datasets.shapes import ShapesConfig, write_shapes_coco


def main(arguments=None):
    """Draw the set; return the exit status."""
    return drawing_command(arguments, __doc__, ShapesConfig, write_shapes_coco)


if __name__ == "__main__":
    sys.exit(main())
