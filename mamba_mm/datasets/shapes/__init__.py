"""A COCO-format set of textured shapes, drawn rather than photographed.

=============  =======================================================================
outlines.py    the categories: outline, keypoints and skeleton of each
textures.py    colour patterns, and the cluttered background
scene.py       where the shapes of one image go, what of each stays visible, the pixels
coco.py        annotations, and the folder that MMDetection and pycocotools read
=============  =======================================================================
"""

from .coco import ShapesConfig, write_shapes_coco
from .outlines import CATEGORIES, ShapeCategory
from .scene import PlacedShape, Scene, draw_scene

__all__ = [
    "CATEGORIES",
    "PlacedShape",
    "Scene",
    "ShapeCategory",
    "ShapesConfig",
    "draw_scene",
    "write_shapes_coco",
]
