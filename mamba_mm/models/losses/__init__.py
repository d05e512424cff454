"""Losses of MMSegmentation. Their classes need it, their names in the registry do not."""

from mamba_mm.registry import MODELS, register_on_demand

for _name in ("BinaryDiceLoss", "ClassDiceLoss"):
    register_on_demand(MODELS, _name, "mamba_mm.models.losses.dice", "mmseg")
