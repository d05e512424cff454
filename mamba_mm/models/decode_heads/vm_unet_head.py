"""VM-UNet's decoder as a decode head of MMSegmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from ..backbones.vm_unet import VMUNET_ARCHS
from ..backbones.vmamba import resolve_arch
from ..strict_init import StrictInit
from .vm_unet_decoder import VMUNetDecoder


class VMUNetHead(StrictInit, BaseDecodeHead):
    """The decoder of VM-UNet for :class:`mamba_mm.VMUNetEncoder`.

    It takes the skips, the bottleneck and the image, whose height and width it crops the logits
    to: an image whose sides are no multiples of 32 was padded by the encoder.

    Args:
        arch: Name of a preset of :data:`VMUNET_ARCHS`, or a dict of its fields; the encoder's.
        num_classes: Number of classes, the background included.
        in_index: Where among the encoder's maps its maps 1 to 5 are: those that it has with its
            default ``out_indices``.
        image_channels: Channels of the image.
        drop_path_rate: Stochastic depth of the first block, which falls linearly to 0 at the
            last. ``None`` takes that of ``arch``.
        with_cp: Whether the activations of each block are recomputed in the backward pass.
        out_channels: Channels of the logits: ``num_classes``, which is the default, or 1 for two
            classes told apart by a sigmoid.
        threshold: From which probability on a single channel means foreground; by default 0.5.
        dropout_ratio: Dropout before the last convolution; VM-UNet has none.
        loss_decode: As in MMSegmentation.
        ignore_index: As in MMSegmentation.
        sampler: As in MMSegmentation.
        align_corners: As in MMSegmentation.
        init_cfg: As in MMEngine. ``Pretrained`` goes through the strict loader of this package.
            It takes a VM-UNet, of which the decoder is copied, and a VMamba of the first
            generation, such as the ImageNet weights that the encoder starts from: its last stage
            goes to the first layer and so on, and all but the blocks stays as it is.

    Raises:
        ValueError: When a name or field is unknown or the numbers of channels do not fit.
    """

    def __init__(
        self,
        arch: str | Mapping = "vm_unet",
        *,
        num_classes: int,
        in_index: Sequence[int] = (1, 2, 3, 4, 5),
        image_channels: int = 3,
        drop_path_rate: float | None = None,
        with_cp: bool = False,
        out_channels: int | None = None,
        threshold: float | None = None,
        dropout_ratio: float = 0.0,
        loss_decode: Mapping | Sequence[Mapping] = (
            dict(type="CrossEntropyLoss", avg_non_ignore=True),
        ),
        ignore_index: int | None = 255,
        sampler: Mapping | None = None,
        align_corners: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        decoder = VMUNetDecoder(resolve_arch(arch, drop_path_rate, VMUNET_ARCHS), with_cp)
        in_channels = [*decoder.in_channels, image_channels]
        if len(in_index) != len(in_channels):
            raise ValueError(
                f"VMUNetHead: in_index must name {len(in_channels)} maps (skips, bottleneck, "
                f"image), got {tuple(in_index)}"
            )
        single = 1 in (num_classes, out_channels)
        super().__init__(
            in_channels=in_channels,
            channels=decoder.out_channels,
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=0.5 if single and threshold is None else threshold,
            dropout_ratio=dropout_ratio,
            in_index=list(in_index),
            input_transform="multiple_select",
            loss_decode=loss_decode,
            ignore_index=ignore_index,
            sampler=sampler,
            align_corners=align_corners,
            init_cfg=init_cfg,
        )
        self.decoder = decoder

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        """Load weights as ``init_cfg`` of type ``Pretrained`` does, strictly."""
        from mamba_mm.models.utils.checkpoint import load_pretrained_vm_unet_head

        load_pretrained_vm_unet_head(self, checkpoint, prefix)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Decode the encoder's maps.

        Args:
            inputs: The encoder's maps; those of ``in_index`` are used.

        Returns:
            Logits (B, out_channels, H, W), H and W being the image's.

        Raises:
            ValueError: When the maps do not fit each other or the model.
        """
        if len(inputs) <= max(self.in_index):
            raise ValueError(
                f"VMUNetHead: in_index {tuple(self.in_index)} names maps that the encoder does "
                f"not return: it returned {len(inputs)}; see its out_indices"
            )
        *skips, bottleneck, image = self._transform_inputs(inputs)
        logits = self.cls_seg(self.decoder(skips, bottleneck))
        return logits[..., : image.shape[2], : image.shape[3]]
