"""Data sets of toolboxes, whose classes need theirs, and the drawing of the project's own."""

from mamba_mm.registry import DATASETS, register_on_demand

from .hand_mesh.metainfo import hand_metainfo

for _name in ("ISICDataset", "SynapseVolumeDataset"):
    register_on_demand(DATASETS, _name, "mamba_mm.datasets.medical", "mmseg")

for _name, _module, _title in (
    ("FreiHANDMeshDataset", "freihand", "freihand_mesh"),
    ("HandMeshCocoDataset", "coco_style", "hand_mesh"),
    ("RHDMeshDataset", "coco_style", "rhd_mesh"),
):
    register_on_demand(DATASETS, _name, f"mamba_mm.datasets.hand_mesh.{_module}", "mmpose")
    # MMPose's inferencers read this of what is registered, without building the data set.
    DATASETS.module_dict[_name].METAINFO = hand_metainfo(_title)
