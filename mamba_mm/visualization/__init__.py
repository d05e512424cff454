"""Pictures of predicted hand meshes, through MMPose's visualizer. Needs MMPose."""

from .hand_mesh_visualizer import HandMeshLocalVisualizer

__all__ = ["HandMeshLocalVisualizer"]
