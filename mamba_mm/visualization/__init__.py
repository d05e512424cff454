"""Pictures of predicted hand meshes, through MMPose's visualizer. Needs MMPose."""

from .hand_mesh_visualizer import HandMeshLocalVisualizer
from .hand_scene_visualizer import HandSceneVisualizer
from .object_visualizer import ObjectPoseLocalVisualizer

__all__ = ["HandMeshLocalVisualizer", "HandSceneVisualizer", "ObjectPoseLocalVisualizer"]
