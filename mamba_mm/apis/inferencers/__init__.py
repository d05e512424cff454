"""Hand meshes of any picture. Needs MMPose, and MMDetection for detectors.

======================  ============================================================
inputs.py               pictures: files, folders, videos, cameras, arrays
hand_boxes.py           where the hands are: boxes with a side
box_file.py             boxes from an annotation file
hand_detection.py       boxes from MMDetection's detectors or MMPose's whole bodies
given_cameras.py        intrinsics that the caller knows
batching.py             the hands of several pictures in one batch
hand_mesh_inferencer.py all of it together
results_json.py         predictions as JSON, and back
result_files.py         pictures, videos and meshes as files
result_writer.py        the folder of results
window.py               a window on the screen
======================  ============================================================
"""

from .box_file import BoxFile
from .hand_boxes import GivenBoxes, HandBox, HandBoxes, WholeImage
from .hand_detection import DetectedHands, WholeBodyHands
from .hand_mesh_inferencer import HandMeshInferencer
from .results_json import read_results

__all__ = [
    "BoxFile",
    "DetectedHands",
    "GivenBoxes",
    "HandBox",
    "HandBoxes",
    "HandMeshInferencer",
    "WholeBodyHands",
    "WholeImage",
    "read_results",
]
