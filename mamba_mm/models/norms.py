"""Norms that the layers of a toolbox can name: ``norm_cfg=dict(type="mamba_mm.LayerNorm2d")``.

``LN`` of MMCV norms the last dimension, which is not that of the channels of a map.
"""

from mamba_mm.layers import LayerNorm2d
from mamba_mm.registry import MODELS

MODELS.register_module(module=LayerNorm2d)
