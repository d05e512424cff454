"""The architecture of VMamba weights, read from the shapes of their tensors.

File names are no guide: the official detection and segmentation releases cross over the
names of their s1 and s2 models. Shapes cannot lie.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from mamba_mm.models.backbones.vmamba import VMAMBA_ARCHS

from .errors import ArchMismatchError

_BLOCK_KEY = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.(.+)")
_DOWNSAMPLE_KERNELS = {2: "v2", 3: "v3"}


@dataclass(frozen=True)
class InferredArch:
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

    def differences(self, other: "InferredArch") -> tuple[str, ...]:
        """Names of the fields that both know and that differ."""
        return tuple(
            field.name
            for field in fields(self)
            if not _agree(getattr(self, field.name), getattr(other, field.name))
        )


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


def preset_arch(name: str) -> InferredArch:
    """Give the architecture of a preset in the form that files are compared in.

    Args:
        name (str): A key of ``VMAMBA_ARCHS``.
    """
    arch = VMAMBA_ARCHS[name]
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


def find_preset(inferred: InferredArch) -> str | None:
    """Name the preset that an architecture is, or ``None`` for one of somebody's own."""
    name = closest_preset(inferred)
    return None if preset_arch(name).differences(inferred) else name


def closest_preset(inferred: InferredArch) -> str:
    """Name the preset that differs from an architecture in the fewest fields."""
    return min(VMAMBA_ARCHS, key=lambda name: len(preset_arch(name).differences(inferred)))


def require_same_arch(
    inferred: InferredArch, expected: InferredArch, where: str, expected_name: str
) -> None:
    """Compare the architecture of a file with the one that is asked for.

    Args:
        inferred (InferredArch): Read from the file.
        expected (InferredArch): Of the model to fill, or of a preset.
        where (str): What to call the file in the message, such as its path.
        expected_name (str): What to call the expected side, such as ``'the model'``.

    Raises:
        ArchMismatchError: A field differs; the message holds a table of all fields.
    """
    if not inferred.differences(expected):
        return
    name = find_preset(inferred) or "a custom architecture"
    raise ArchMismatchError(
        f"{where} holds VMamba weights of {name}, but {expected_name} is "
        f"{find_preset(expected) or 'a custom architecture'}; nothing was loaded\n"
        + comparison_table(inferred, expected, expected_name)
    )


def comparison_table(inferred: InferredArch, expected: InferredArch, expected_name: str) -> str:
    """Lay out two architectures field by field, a ``*`` in front of what differs."""
    different = inferred.differences(expected)
    rows = [("  field", "file", expected_name)]
    for field in fields(inferred):
        mark = "* " if field.name in different else "  "
        values = (_show(getattr(side, field.name)) for side in (inferred, expected))
        rows.append((mark + field.name, *values))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def _agree(one: object, other: object) -> bool:
    """Whether two values are equal as far as both are known."""
    if one is None or other is None:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_agree, one, other))
    return one == other


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_show, value))
    return "?" if value is None else str(value)


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
