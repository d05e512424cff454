"""The architecture of VMamba weights, read from the shapes of their tensors.

File names are no guide: the official detection and segmentation releases cross over the
names of their s1 and s2 models. Shapes cannot lie.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from mamba_mm.models.backbones.vmamba import VMAMBA_ARCHS, VMambaArch

from .arch_comparison import InferredFields, Presets

_BLOCK_KEY = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.(.+)")
_DOWNSAMPLE_KERNELS = {2: "v2", 3: "v3"}


@dataclass(frozen=True)
class InferredArch(InferredFields):
    """What the shapes of VMamba weights tell; ``None`` where a file is too incomplete.

    The field names are those of :class:`VMambaArch`, and ``dt_rank``, which follows there
    from ``dims``. Activations, norm types and training options leave no trace in shapes.
    """

    dims: tuple[int | None, ...]
    depths: tuple[int, ...]
    ssm_ratio: float | None
    d_state: int | None
    dt_rank: int | None
    gate: bool | None
    conv_bias: bool | None
    mlp_ratio: float | None
    patch_embed: str | None
    downsample: str | None


def infer_arch(tensors: Mapping[str, torch.Tensor]) -> InferredArch:
    """Read the architecture from weights in spelling A.

    Args:
        tensors (Mapping[str, torch.Tensor]): Weights; only their shapes are looked at.

    Returns:
        InferredArch: The fields that could be determined.
    """
    stages: dict[int, dict[str, torch.Tensor]] = {}
    depths: dict[int, int] = {}
    for key, tensor in tensors.items():
        match = _BLOCK_KEY.fullmatch(key)
        if match:
            stage, block = int(match.group(1)), int(match.group(2))
            depths[stage] = max(depths.get(stage, 0), block + 1)
            # One block stands for its stage; an odd one out is found by the shape check.
            stages.setdefault(stage, {}).setdefault(match.group(3), tensor)

    order = sorted(stages)
    dims = tuple(_size(stages[stage], "norm.weight", 0) for stage in order)
    first = stages[order[0]] if order else {}
    width = dims[0] if order else None
    inner = _size(first, "op.out_norm.weight", 0)
    return InferredArch(
        dims=dims,
        depths=tuple(depths[stage] for stage in order),
        ssm_ratio=_ratio(inner, width),
        d_state=_size(first, "op.A_logs", 1),
        dt_rank=_size(first, "op.dt_projs_weight", 2),
        gate=_gate(_size(first, "op.in_proj.weight", 0), inner),
        conv_bias="op.conv2d.bias" in first if "op.conv2d.weight" in first else None,
        mlp_ratio=_mlp_ratio(first, width),
        patch_embed=_patch_embed(tensors),
        downsample=_downsample(tensors),
    )


def as_inferred(arch: VMambaArch) -> InferredArch:
    """Give an architecture in the form that files are compared in.

    Args:
        arch (VMambaArch): The settings of a model.
    """
    return InferredArch(
        dims=tuple(arch.dims),
        depths=tuple(arch.depths),
        ssm_ratio=arch.ssm_ratio,
        d_state=arch.d_state,
        dt_rank=math.ceil(arch.dims[0] / 16),
        gate=arch.gate,
        conv_bias=arch.conv_bias,
        mlp_ratio=arch.mlp_ratio,
        patch_embed=arch.patch_embed,
        downsample=arch.downsample,
    )


VMAMBA_PRESETS = Presets("VMamba", {name: as_inferred(a) for name, a in VMAMBA_ARCHS.items()})
"""The presets of ``VMAMBA_ARCHS``, as files are compared with them."""

find_preset = VMAMBA_PRESETS.find
require_same_arch = VMAMBA_PRESETS.require_same


def _size(tensors: Mapping[str, torch.Tensor], name: str, dim: int) -> int | None:
    tensor = tensors.get(name)
    return tensor.shape[dim] if tensor is not None and tensor.ndim > dim else None


def _ratio(wide: int | None, narrow: int | None) -> float | None:
    return wide / narrow if wide and narrow else None


def _gate(rows: int | None, inner: int | None) -> bool | None:
    """A gated mixer projects to twice its inner width; other sizes are left to the shape check."""
    if rows is None or inner is None:
        return None
    return {inner: False, 2 * inner: True}.get(rows)


def _mlp_ratio(block: Mapping[str, torch.Tensor], width: int | None) -> float | None:
    if not block:
        return None
    if "mlp.fc1.weight" not in block:
        return 0.0
    return _ratio(_size(block, "mlp.fc1.weight", 0), width)


def _patch_embed(tensors: Mapping[str, torch.Tensor]) -> str | None:
    if "patch_embed.5.weight" in tensors:
        return "v2"
    return "v1" if "patch_embed.0.weight" in tensors else None


def _downsample(tensors: Mapping[str, torch.Tensor]) -> str | None:
    for key, tensor in tensors.items():
        if key.endswith(".downsample.reduction.weight"):
            return "v1"
        if key.endswith(".downsample.1.weight") and tensor.ndim == 4:
            return _DOWNSAMPLE_KERNELS.get(tensor.shape[-1])
    return None
