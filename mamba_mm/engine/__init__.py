"""What runs beside training and testing. The hook needs MMPose, its name here does not."""

from mamba_mm.registry import HOOKS, LOOPS, register_on_demand

from .adversarial_ddp import AdversarialDistributedDataParallel
from .adversarial_optim import AdversarialOptimWrapperConstructor
from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .strict_load_hook import StrictLoadHook

register_on_demand(
    HOOKS, "MeshVisualizationHook", "mamba_mm.engine.mesh_visualization_hook", "mmpose"
)
register_on_demand(LOOPS, "HandMeshTestLoop", "mamba_mm.engine.hand_mesh_test_loop", "mmpose")

__all__ = [
    "AdversarialDistributedDataParallel",
    "AdversarialOptimWrapperConstructor",
    "LayerDecayOptimWrapperConstructor",
    "StrictLoadHook",
]
