"""One child registry a kind, all in the scope ``mamba_mm``.

Every node hangs directly under MMEngine's root and names the modules that fill it, so
a config of any toolbox writes ``type='mamba_mm.VMamba'`` and needs no ``custom_imports``.
MMEngine hides import errors of this file: keep it free of everything but MMEngine.
"""

import importlib
import importlib.util

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="mamba_mm", locations=["mamba_mm.models"])
DATASETS = Registry(
    "dataset", parent=MMENGINE_DATASETS, scope="mamba_mm", locations=["mamba_mm.datasets"]
)
TRANSFORMS = Registry(
    "transform",
    parent=MMENGINE_TRANSFORMS,
    scope="mamba_mm",
    locations=["mamba_mm.datasets.transforms"],
)
METRICS = Registry(
    "metric", parent=MMENGINE_METRICS, scope="mamba_mm", locations=["mamba_mm.evaluation"]
)
VISUALIZERS = Registry(
    "visualizer",
    parent=MMENGINE_VISUALIZERS,
    scope="mamba_mm",
    locations=["mamba_mm.visualization"],
)
HOOKS = Registry("hook", parent=MMENGINE_HOOKS, scope="mamba_mm", locations=["mamba_mm.engine"])
LOOPS = Registry("loop", parent=MMENGINE_LOOPS, scope="mamba_mm", locations=["mamba_mm.engine"])
MODEL_WRAPPERS = Registry(
    "model wrapper",
    parent=MMENGINE_MODEL_WRAPPERS,
    scope="mamba_mm",
    locations=["mamba_mm.engine"],
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope="mamba_mm",
    locations=["mamba_mm.engine"],
)


def _keypoint_codecs() -> Registry:
    """Return the node of codecs, under MMPose's own: MMEngine's root has none.

    Without a working MMPose (its version checks are assertions) nobody asks for a codec, and
    everything else must work.
    """
    try:
        from mmpose.registry import KEYPOINT_CODECS as parent
    except (ImportError, AssertionError):
        parent = None
    return Registry("codec", parent=parent, scope="mamba_mm", locations=["mamba_mm.codecs"])


KEYPOINT_CODECS = _keypoint_codecs()


def register_on_demand(registry: Registry, name: str, module: str, toolbox: str) -> None:
    """Register a class of a module that is imported only when the class is built.

    So a class can derive from one of a toolbox, and those who have another toolbox, or none, do
    not notice.

    Args:
        registry: Where to register it.
        name: Name of the class.
        module: The module that defines it.
        toolbox: The toolbox that the module imports, such as ``"mmseg"``.
    """

    def build(**settings):
        require_toolbox(toolbox, f"mamba_mm.{name}")
        return getattr(importlib.import_module(module), name)(**settings)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Build a ``{module}.{name}``."
    registry.register_module(name=name, module=build)


def require_toolbox(toolbox: str, user: str) -> None:
    """Stop with an explanation where a toolbox is missing.

    Args:
        toolbox: The name it is imported by.
        user: What needs it.

    Raises:
        ImportError: The toolbox is not installed.
    """
    if importlib.util.find_spec(toolbox) is None:
        from mamba_mm.apis.toolbox_scripts import TOOLBOXES

        known = TOOLBOXES[toolbox]
        raise ImportError(
            f"{user} needs {known.title}, which is not installed: {known.install}", name=toolbox
        )
