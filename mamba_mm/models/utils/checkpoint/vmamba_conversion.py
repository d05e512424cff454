"""Official VMamba checkpoints as MMEngine checkpoints of this package's configs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from mamba_mm.models.backbones.vmamba import VMAMBA_ARCHS, VMamba

from .assignment import plan_assignment, refuse_non_finite
from .containers import select_backbone
from .errors import ArchMismatchError, StateMismatchError, bullets
from .family import Converted, Family
from .vmamba import PlacedNorms, canonical_vmamba, has_classifier, output_norms, place_norms
from .vmamba_arch import (
    InferredArch,
    closest_preset,
    comparison_table,
    find_preset,
    infer_arch,
    preset_arch,
    require_same_arch,
)
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

NUM_CLASSES = 1000
"""Classes of those configs' heads."""

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
    preset = _require_preset(infer_arch(source.tensors), arch, where)
    norms = output_norms(source.tensors)
    placed = _fit_backbone(source.tensors, norms, preset, where)
    # A file with output norms is no classifier, even if a classifier was left in it.
    writes_classifier = has_classifier(source.tensors) and not norms and not drop_head
    others = {} if drop_head else selection.others
    refuse_non_finite(where, others, others)
    dropped = {*placed.dropped, *selection.others} if drop_head else set(placed.dropped)
    if writes_classifier:
        head = {key: source.tensors[key] for key in dropped if key.startswith(_HEAD)}
        others = others | _fit_head(head, VMAMBA_ARCHS[preset].dims[-1], where)
        dropped -= head.keys()
    return Converted(
        preset=preset,
        config=VMAMBA_CONFIGS.get(preset) if writes_classifier else None,
        spelling=f"D/{source.spelling}" if selection.prefix else source.spelling,
        state_dict={f"backbone.{key}": value for key, value in placed.tensors.items()} | others,
        dropped=tuple(sorted(dropped)),
    )


VMAMBA = Family("vmamba", is_vmamba, convert_vmamba)


def _require_preset(inferred: InferredArch, asserted: str | None, where: str) -> str:
    """Name the preset of a file, after comparing it with the one that the user asserts."""
    if asserted is not None:
        if asserted not in VMAMBA_ARCHS:
            raise ArchMismatchError(
                f"There is no VMamba preset {asserted!r}" + bullets("known", VMAMBA_ARCHS)
            )
        require_same_arch(inferred, preset_arch(asserted), where, f"the asserted {asserted}")
        return asserted
    preset = find_preset(inferred)
    if preset is None:
        closest = closest_preset(inferred)
        raise ArchMismatchError(
            f"{where} holds a VMamba of no released size; the closest is {closest}. "
            "Load it directly with init_cfg into a backbone of its arch instead.\n"
            + comparison_table(inferred, preset_arch(closest), closest)
        )
    return preset


def _fit_backbone(
    tensors: Mapping[str, torch.Tensor], norms: Iterable[int], preset: str, where: str
) -> PlacedNorms:
    """Check the weights against a model of the preset, and put them in that model's order."""
    last = len(VMAMBA_ARCHS[preset].depths) - 1
    # A classifier has one norm after the last stage, as a body without any norm should have.
    out_indices = [stage for stage in sorted(norms) if stage <= last] or [last]
    with torch.device("meta"):
        target = VMamba(preset, out_indices=out_indices).state_dict()
    placed = place_norms(tensors, target)
    plan_assignment(placed.tensors, target, where=where)
    return replace(placed, tensors={key: placed.tensors[key] for key in target})


def _fit_head(
    head: Mapping[str, torch.Tensor], channels: int, where: str
) -> dict[str, torch.Tensor]:
    """Rename the official linear head to MMPretrain's, if it has as many classes."""
    target = {
        f"{_HEAD}weight": torch.empty(NUM_CLASSES, channels, device="meta"),
        f"{_HEAD}bias": torch.empty(NUM_CLASSES, device="meta"),
    }
    classes = {tuple(tensor.shape[:1]) for tensor in head.values()}
    if classes and classes != {(NUM_CLASSES,)}:
        raise StateMismatchError(
            f"{where} has a head of other classes than the config's {NUM_CLASSES}; "
            "pass --drop-head to convert the backbone alone",
            mismatched=[
                f"{key}: {tuple(tensor.shape)}, {tuple(target[key].shape)}"
                for key, tensor in head.items()
                if key in target
            ],
        )
    fitting = plan_assignment(head, target, where=where).copied
    return {key.replace(_HEAD, "head.fc."): fitting[key] for key in target}
