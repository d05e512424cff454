"""A set of rendered scenes of a hand and an object with poses, meshes and cameras, no licence.

The hand is ToyMANO and the objects are four shapes of our own: **numbers measured on this set say
how a network learns, not how it would do on photographs**.

=============  =======================================================================
shapes.py      the objects: two with symmetries, two without
contact.py     how far an object can come towards a hand
scenes.py      a hand, an object that it holds or that lies before or behind it, a camera
appearance.py  colours, light and background: the pixels, and what hides what
bop.py         labels of the objects in BOP's layout
folder.py      the whole set; hands in COCO's format, as drawn hands have them
=============  =======================================================================
"""

from .appearance import Picture, paint_scene
from .folder import ToyScenesConfig, write_toy_scenes
from .scenes import Scene, draw_scene
from .shapes import TOY_OBJECTS, ToyObject, toy_object

__all__ = [
    "TOY_OBJECTS",
    "Picture",
    "Scene",
    "ToyObject",
    "ToyScenesConfig",
    "draw_scene",
    "paint_scene",
    "toy_object",
    "write_toy_scenes",
]
