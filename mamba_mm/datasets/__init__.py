"""Data sets of toolboxes, whose classes need theirs, and the drawing of the project's own."""

from mamba_mm.registry import DATASETS, register_on_demand

for _name in ("ISICDataset", "SynapseVolumeDataset"):
    register_on_demand(DATASETS, _name, "mamba_mm.datasets.medical", "mmseg")
