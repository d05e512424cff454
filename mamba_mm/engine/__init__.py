"""What runs beside training and testing. The hook needs MMPose, its name here does not."""

from mamba_mm.registry import HOOKS, register_on_demand

register_on_demand(
    HOOKS, "MeshVisualizationHook", "mamba_mm.engine.mesh_visualization_hook", "mmpose"
)
