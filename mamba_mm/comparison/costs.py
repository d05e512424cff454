"""What a model costs before it runs: parameters, and operations with the scans counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from mmengine.analysis import FlopAnalyzer
from torch import nn

from mamba_mm.comparison.models import TensorForward
from mamba_mm.layers import SSMixer1D, SSMixer2D
from mamba_mm.ops.backends import choose_backend

SCANS = ("selective_scan_fwd", "route_scan_fwd")
FAILURES = (RuntimeError, AssertionError, ValueError, IndexError, MemoryError)
"""What models raise for images that they cannot take, or that do not fit in memory."""


@dataclass(frozen=True)
class Operations:
    """Operations for one image; a multiply-add is one, as MMEngine counts.

    Attributes:
        total: All that are counted; ``None`` where they cannot be.
        scans: Those of the state-space scans.
        uncounted: Operators from outside PyTorch that the count leaves out.
        failure: Why there is no total, else empty.
    """

    total: int | None = None
    scans: int | None = None
    uncounted: tuple[str, ...] = ()
    failure: str = ""


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_operations(model: TensorForward, height: int, width: int) -> Operations:
    """Count the operations of one image on the CPU.

    MMEngine's analyser counts, extended by the scans (``mamba_mm/ops/flops.py``) and by fused
    attention, which it does not know. Like all such counts it leaves out element-wise
    functions, and the NMS and pooling of regions in detectors.

    Args:
        model: A model on the CPU, in eval mode.
        height: Rows of the image.
        width: Columns of the image.
    """
    if _has_scans(model) and choose_backend(None, "cpu") != "cpu":
        return Operations(
            failure="the scans run as many plain PyTorch operators here, which are counted in "
            "another way; the compiled scan is needed: see python -m mamba_mm"
        )
    torch.manual_seed(0)
    with torch.no_grad():
        analyzer = FlopAnalyzer(model, torch.randn(1, 3, height, width))
        analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analyzer.set_op_handle("aten::scaled_dot_product_attention", _attention_operations)
        try:
            by_operator = analyzer.by_operator()
        except FAILURES as error:
            return Operations(failure=describe(error))
    return Operations(
        total=int(sum(by_operator.values())),
        scans=int(sum(by_operator[name] for name in SCANS)),
        uncounted=tuple(sorted(filter(_is_foreign, analyzer.unsupported_ops()))),
    )


def describe(error: Exception) -> str:
    """Put an error into one line."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return f"{type(error).__name__}: {lines[0]}"


def _has_scans(model: nn.Module) -> bool:
    return any(isinstance(module, SSMixer1D | SSMixer2D) for module in model.modules())


def _is_foreign(operator: str) -> bool:
    return operator.startswith("prim::PythonOp.") or not operator.startswith(("aten::", "prim::"))


def _attention_operations(inputs: list, outputs: list) -> int:
    """Count the two matrix products of queries, keys (..., S, E) and values (..., S, F)."""
    query, key, value = (inputs[i].type().sizes() for i in range(3))
    *heads, length, width = query
    return math.prod(heads) * length * key[-2] * (width + value[-1])
