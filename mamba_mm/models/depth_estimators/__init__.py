"""Networks that ``mamba_mm.EstimateDepth`` can run. This package has and ships no weights."""

from .torch_script import TorchScriptDepthEstimator

__all__ = ["TorchScriptDepthEstimator"]
