"""State-space vision models for the OpenMMLab toolboxes."""

from .version import __version__

__all__ = ["__version__"]
