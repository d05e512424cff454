"""Pictures of triangle meshes, drawn on the processor with NumPy alone.

=============  =======================================================================
rasterizer.py  which face each pixel shows, where in that face, and how far away
shading.py     a lit surface out of it
=============  =======================================================================

Nothing here knows what the mesh is.
"""

from .rasterizer import Raster, rasterize
from .shading import Shaded, project_to_pixels, shade, vertex_normals

__all__ = ["Raster", "Shaded", "project_to_pixels", "rasterize", "shade", "vertex_normals"]
