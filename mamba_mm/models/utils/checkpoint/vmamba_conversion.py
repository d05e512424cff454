"""Official VMamba checkpoints as MMEngine checkpoints of this package's configs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from mamba_mm.models.backbones.vmamba import VMAMBA_ARCHS, VMamba

from .assignment import plan_assignment, refuse_non_finite
from .containers import select_backbone
from .family import Converted, Family
from .linear_head import fit_linear_head
from .loading import Placed
from .vmamba import canonical_vmamba, has_classifier, output_norms, place_norms
from .vmamba_arch import VMAMBA_PRESETS, infer_arch
from .vmamba_keys import is_vmamba_block_key

VMAMBA_CONFIGS: dict[str, str] = {
    "v0_tiny": "configs/mmpretrain/vmamba/vmamba-v0-tiny_8xb128_in1k.py",
    "v0_small": "configs/mmpretrain/vmamba/vmamba-v0-small_8xb128_in1k.py",
    "v0_base": "configs/mmpretrain/vmamba/vmamba-v0-base_8xb128_in1k.py",
    "tiny_s2l5": "configs/mmpretrain/vmamba/vmamba-tiny-s2l5_8xb128_in1k.py",
    "small_s2l15": "configs/mmpretrain/vmamba/vmamba-small-s2l15_8xb128_in1k.py",
    "base_s2l15": "configs/mmpretrain/vmamba/vmamba-base-s2l15_8xb128_in1k.py",
    "tiny_s1l8": "configs/mmpretrain/vmamba/vmamba-tiny-s1l8_8xb128_in1k.py",
    "small_s1l20": "configs/mmpretrain/vmamba/vmamba-small-s1l20_8xb128_in1k.py",
    "base_s1l20": "configs/mmpretrain/vmamba/vmamba-base-s1l20_8xb128_in1k.py",
}
"""The classifier config of each released preset."""

_HEAD = "classifier.head."


def is_vmamba(keys: Iterable[str]) -> bool:
    """Tell whether the keys of a state dict, of any spelling, are a VMamba's.

    VM-UNet has the same blocks and a decoder, ``layers_up``, beside them.
    """
    keys = tuple(keys)
    has_blocks = any(map(is_vmamba_block_key, keys))
    return has_blocks and not any("layers_up." in key for key in keys)


def convert_vmamba(
    tensors: Mapping[str, torch.Tensor],
    where: str,
    arch: str | None = None,
    drop_head: bool = False,
) -> Converted:
    """Rename VMamba weights to those of an MMEngine model.

    A classification file becomes a classifier of MMPretrain: ``classifier.norm`` is
    ``backbone.outnorm3`` there, and ``classifier.head`` is ``head.fc``. A file with output
    norms, such as the official detectors, becomes ``backbone.*`` with those norms, and the
    modules beside the backbone (neck, heads) keep their keys: they are MMDetection's or
    MMSegmentation's own.

    Args:
        tensors (Mapping[str, torch.Tensor]): The whole state dict.
        where (str): What to call the file in messages, such as its path.
        arch (str, optional): The preset that the file must hold.
        drop_head (bool): Leave out everything but the backbone. Defaults to False.

    Returns:
        Converted: The weights, and the config if they fill a classifier, head included.

    Raises:
        ArchMismatchError: The file holds no released preset, or another than ``arch``.
        StateMismatchError: Keys or shapes do not fit, or the head has other classes.
        NonFiniteWeightsError: Weights are NaN or infinite.
        CheckpointFormatError: The spelling is not known, or it is a Mamba-2 variant.
    """
    selection = select_backbone(tensors, where=where)
    source = canonical_vmamba(selection.tensors, where)
    preset = VMAMBA_PRESETS.require(infer_arch(source.tensors), arch, where)
    norms = output_norms(source.tensors)
    placed = _fit_backbone(source.tensors, norms, preset, where)
    # A file with output norms is no classifier, even if a classifier was left in it.
    writes_classifier = has_classifier(source.tensors) and not norms and not drop_head
    others = {} if drop_head else selection.others
    refuse_non_finite(where, others, others)
    dropped = {*placed.dropped, *selection.others} if drop_head else set(placed.dropped)
    if writes_classifier:
        head = {key: source.tensors[key] for key in dropped if key.startswith(_HEAD)}
        others = others | fit_linear_head(head, _HEAD, VMAMBA_ARCHS[preset].dims[-1], where)
        dropped -= head.keys()
    return Converted(
        preset=preset,
        config=VMAMBA_CONFIGS.get(preset) if writes_classifier else None,
        spelling=selection.spelling(source.spelling),
        state_dict={f"backbone.{key}": value for key, value in placed.tensors.items()} | others,
        dropped=tuple(sorted(dropped)),
    )


VMAMBA = Family("vmamba", is_vmamba, convert_vmamba)


def _fit_backbone(
    tensors: Mapping[str, torch.Tensor], norms: Iterable[int], preset: str, where: str
) -> Placed:
    """Check the weights against a model of the preset, and put them in that model's order."""
    last = len(VMAMBA_ARCHS[preset].depths) - 1
    # A classifier has one norm after the last stage, as a body without any norm should have.
    out_indices = [stage for stage in sorted(norms) if stage <= last] or [last]
    with torch.device("meta"):
        target = VMamba(preset, out_indices=out_indices).state_dict()
    placed = place_norms(tensors, target)
    plan_assignment(placed.tensors, target, where=where)
    return replace(placed, tensors={key: placed.tensors[key] for key in target})
