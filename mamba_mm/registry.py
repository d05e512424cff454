"""One child registry a kind, all in the scope ``mamba_mm``.

Every node hangs directly under MMEngine's root and names the modules that fill it, so
a config of any toolbox writes ``type='mamba_mm.VMamba'`` and needs no ``custom_imports``.
MMEngine hides import errors of this file: keep it free of everything but MMEngine.
"""

from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, scope="mamba_mm", locations=["mamba_mm.models"])
