"""What runs beside training and testing. The hook needs MMPose, its name here does not."""

from mamba_mm.registry import HOOKS, register_on_demand

from .layer_decay_constructor import LayerDecayOptimWrapperConstructor

register_on_demand(
    HOOKS, "MeshVisualizationHook", "mamba_mm.engine.mesh_visualization_hook", "mmpose"
)

__all__ = ["LayerDecayOptimWrapperConstructor"]
