"""Official VM-UNet checkpoints as MMEngine checkpoints of this package's configs."""

from collections.abc import Mapping

import torch
from torch import nn

from mamba_mm.models.backbones.vm_unet import VMUNET_ARCHS, VMUNetEncoder
from mamba_mm.models.decode_heads.vm_unet_decoder import VMUNetDecoder

from .assignment import plan_assignment
from .errors import StateMismatchError
from .family import Converted, Family
from .vm_unet_arch import VMUNET_PRESETS, infer_vm_unet
from .vm_unet_keys import VMUNetState, is_vm_unet, split_vm_unet

_FOLDER = "configs/mmseg/vm_unet"

VMUNET_CONFIGS: dict[tuple[str, int], str] = {
    ("vm_unet", 1): f"{_FOLDER}/vm-unet_vmamba-s-in1k-pre_1xb32-300e_isic18-256x256.py",
    ("vm_unet", 9): f"{_FOLDER}/vm-unet_vmamba-s-in1k-pre_1xb32-300e_synapse-224x224.py",
}
"""The config of each released preset and number of output channels. The models of ISIC17 and
ISIC18 are alike; no weight tells which of the two a file was trained on."""


def convert_vm_unet(
    tensors: Mapping[str, torch.Tensor],
    where: str,
    arch: str | None = None,
    drop_head: bool = False,
) -> Converted:
    """Rename VM-UNet weights to those of a segmentor of MMSegmentation.

    The encoder goes to ``backbone``, the decoder to ``decode_head.decoder``, and the last
    convolution is ``decode_head.conv_seg``.

    Args:
        tensors (Mapping[str, torch.Tensor]): The whole state dict.
        where (str): What to call the file in messages, such as its path.
        arch (str, optional): The preset that the file must hold.
        drop_head (bool): Leave out everything but the encoder. Defaults to False.

    Returns:
        Converted: The weights, and the config if there is one with that many classes.

    Raises:
        ArchMismatchError: The file holds no preset, or another than ``arch``.
        StateMismatchError: Keys or shapes do not fit.
        NonFiniteWeightsError: Weights are NaN or infinite.
        CheckpointFormatError: The spelling is not known.
    """
    state = split_vm_unet(tensors, where)
    preset = VMUNET_PRESETS.require(infer_vm_unet(state), arch, where)
    classes = _num_classes(state, where)
    target = _segmentor(preset, classes)
    source = {f"backbone.{key}": value for key, value in state.encoder.items()}
    source |= {f"decode_head.{key}": value for key, value in state.head.items()}
    fitting = plan_assignment(source, target, where=where).copied
    kept = [key for key in target if key.startswith("backbone.") or not drop_head]
    return Converted(
        preset=preset,
        config=None if drop_head else VMUNET_CONFIGS.get((preset, classes)),
        spelling=state.spelling,
        state_dict={key: fitting[key] for key in kept},
        dropped=(*state.dropped, *sorted(fitting.keys() - kept)),
        meta={"out_channels": classes},
    )


VMUNET = Family("vm_unet", is_vm_unet, convert_vm_unet)


def _num_classes(state: VMUNetState, where: str) -> int:
    weight = state.head.get("conv_seg.weight")
    if weight is None or weight.ndim != 4:
        raise StateMismatchError(
            f"{where} has no weight of the last convolution", missing=["final_conv.weight"]
        )
    return weight.shape[0]


def _segmentor(preset: str, classes: int) -> dict[str, torch.Tensor]:
    """Keys and shapes of the whole model, in its order, without MMSegmentation."""
    arch = VMUNET_ARCHS[preset]
    with torch.device("meta"):
        decoder = VMUNetDecoder(arch)
        parts = {
            "backbone.": VMUNetEncoder(preset),
            "decode_head.conv_seg.": nn.Conv2d(decoder.out_channels, classes, 1),
            "decode_head.decoder.": decoder,
        }
    return {
        prefix + key: value
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }
