"""Data sets of toolboxes, whose classes need theirs, and the drawing of the project's own."""

from mamba_mm.registry import DATASETS, register_on_demand

from .hand_mesh.mano_poses import MANOPoses, ToyMANOPoses
from .hand_mesh.metainfo import hand_metainfo
from .object_pose.metainfo import object_metainfo

for _name in ("ISICDataset", "SynapseVolumeDataset"):
    register_on_demand(DATASETS, _name, "mamba_mm.datasets.medical", "mmseg")

for _name, _module, _title in (
    ("FreiHANDMeshDataset", "freihand", "freihand_mesh"),
    ("HandMeshCocoDataset", "coco_style", "hand_mesh"),
    ("RHDMeshDataset", "coco_style", "rhd_mesh"),
    ("InterHandMeshDataset", "interhand", "interhand_mesh"),
    ("HO3DMeshDataset", "ho3d", "ho3d_mesh"),
    ("DexYCBMeshDataset", "dexycb", "dexycb_mesh"),
    ("HaMeRTarDataset", "hamer_archives", "hamer_mesh"),
    ("HaMeREvalDataset", "hamer_evaluation", "hamer_eval_mesh"),
    ("HIntDataset", "hint", "hint_mesh"),
    ("COCOWholeBodyHandMeshDataset", "wholebody", "coco_wholebody_hand_mesh"),
    ("OneHand10KMeshDataset", "onehand10k", "onehand10k_mesh"),
):
    register_on_demand(DATASETS, _name, f"mamba_mm.datasets.hand_mesh.{_module}", "mmpose")
    # MMPose's inferencers read this of what is registered, without building the data set.
    DATASETS.module_dict[_name].METAINFO = hand_metainfo(_title)

register_on_demand(DATASETS, "BOPObjectDataset", "mamba_mm.datasets.object_pose.bop", "mmpose")
DATASETS.module_dict["BOPObjectDataset"].METAINFO = object_metainfo("object_pose")

__all__ = ["MANOPoses", "ToyMANOPoses"]
