"""From the files that a data set is released as to the folders that a toolbox reads."""

from .isic import convert_isic
from .synapse import convert_synapse

__all__ = ["convert_isic", "convert_synapse"]
