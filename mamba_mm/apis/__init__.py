"""What a user calls: the toolboxes' scripts, the report on the environment, hand inference."""

from __future__ import annotations

_INFERENCERS = ("HandMeshInferencer", "DetectedHands", "WholeBodyHands")


def __getattr__(name: str) -> type:
    # Those need MMPose, the rest of this package does not.
    if name in _INFERENCERS:
        from mamba_mm.registry import require_toolbox

        require_toolbox("mmpose", f"mamba_mm.apis.{name}")
        from . import inferencers

        return getattr(inferencers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
