"""VM-UNet: Vision Mamba UNet for Medical Image Segmentation (Ruan et al., arXiv 2402.02491).

The encoder is a first-generation VMamba whose maps are taken where they enter the stages. The
decoder, which mirrors it, is in ``decode_heads``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mamba_mm.layers import memory_format_of
from mamba_mm.registry import MODELS

from .vmamba import PATCH_SIZE, VMAMBA_ARCHS, VMamba, VMambaArch


@dataclass(frozen=True)
class VMUNetArch(VMambaArch):
    """What tells one VM-UNet from another.

    Attributes:
        decoder_depths: Blocks of each decoder layer, from the coarsest to the finest. The
            blocks of both halves are alike, and a decoder layer is as wide as the encoder
            stage that it mirrors.

    The other attributes are those of :class:`VMambaArch`, ``dims`` and ``depths`` being the
    encoder's.

    Raises:
        ValueError: When a value is out of range.
    """

    decoder_depths: tuple[int, ...] = (2, 2, 2, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "decoder_depths", tuple(self.decoder_depths))
        if len(self.decoder_depths) != len(self.depths) or min(self.decoder_depths) < 1:
            raise ValueError(
                "VMUNetArch: decoder_depths needs one positive entry a stage, "
                f"got {self.decoder_depths} for {len(self.depths)} stages"
            )
        if self.dims[0] % PATCH_SIZE:
            raise ValueError(
                f"VMUNetArch: dims[0] must be a multiple of {PATCH_SIZE}, by which the last "
                f"expansion divides it, got {self.dims[0]}"
            )


def _mirror(encoder: VMambaArch, decoder_depths: Sequence[int]) -> VMUNetArch:
    return VMUNetArch(**vars(encoder), decoder_depths=tuple(decoder_depths))


VMUNET_ARCHS: dict[str, VMUNetArch] = {
    "vm_unet": _mirror(VMAMBA_ARCHS["vmunet_encoder"], (2, 2, 2, 1)),
    "vm_unet_deep": _mirror(VMAMBA_ARCHS["v0_tiny"], (2, 9, 2, 2)),
    "nano": VMUNetArch(
        dims=32,
        depths=(1, 1, 1, 1),
        decoder_depths=(1, 1, 1, 1),
        ssm_ratio=1.0,
        d_state=4,
        gate=True,
        conv_bias=True,
        scan_float32=True,
        mlp_ratio=0.0,
        patch_embed="v1",
        downsample="v1",
    ),
}
"""``vm_unet``, the model of all official configs; ``vm_unet_deep``, the defaults of the official
class, which no official config uses; and ``nano``, our own, for tests and demos on a CPU."""


@MODELS.register_module()
class VMUNetEncoder(VMamba):
    """The encoder of VM-UNet: VMamba with skip connections, for images of any size.

    An image whose sides are no multiples of 32 is padded with zeros at the bottom and on the
    right, so that all stages halve evenly. The maps are those of the padded image. The decoder
    needs to know what to crop away: the image itself, as it came, is the last of the maps.

    =====  ==========================  ===========  ==========
    index  map                         channels     resolution
    =====  ==========================  ===========  ==========
    0      embedded patches            dims[0]      1/4
    1      input of stage 1, a skip    dims[1]      1/8
    2      input of stage 2, a skip    dims[2]      1/16
    3      input of stage 3, a skip    dims[3]      1/32
    4      output of stage 3           dims[3]      1/32
    5      the image, not padded       in_channels  1
    =====  ==========================  ===========  ==========

    Args:
        arch: Name of a preset of :data:`VMUNET_ARCHS`, or a dict of the fields of
            :class:`VMUNetArch`, perhaps with a preset as ``base``. Give the head the same.
        in_channels: Channels of the image. Where it is 3, an image of one channel will do: it
            is repeated.
        out_indices: Which maps are returned, ascending, by the table above.
        frozen_stages: As in :class:`VMamba`.
        norm_eval: As in :class:`VMamba`.
        with_cp: As in :class:`VMamba`.
        drop_path_rate: As in :class:`VMamba`.
        init_cfg: As in :class:`VMamba`, with one thing more: ``Pretrained`` also takes a VMamba
            of the first generation that is deeper, such as the ImageNet weights of Vanilla-
            VMamba-S that the authors start from. The first blocks of each stage are copied.

    Raises:
        ValueError: When a name or field is unknown, or an index or a size out of range.

    Example:
        >>> import torch
        >>> maps = VMUNetEncoder("nano")(torch.zeros(1, 3, 50, 90))
        >>> [tuple(m.shape) for m in maps[:3]]
        [(1, 32, 16, 24), (1, 64, 8, 12), (1, 128, 4, 6)]
        >>> [tuple(m.shape) for m in maps[3:]]
        [(1, 256, 2, 3), (1, 256, 2, 3), (1, 3, 50, 90)]
    """

    archs = VMUNET_ARCHS

    def __init__(
        self,
        arch: str | Mapping = "vm_unet",
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3, 4, 5),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(
            arch,
            in_channels,
            out_indices,
            frozen_stages,
            norm_eval,
            with_cp,
            drop_path_rate,
            taps="stage_input",
            output_norms=False,
            init_cfg=init_cfg,
        )

    @property
    def tap_channels(self) -> tuple[int, ...]:
        """Channels of every map that ``out_indices`` can name."""
        return (*super().tap_channels, self.in_channels)

    @property
    def size_divisor(self) -> int:
        """What the sides of an image are padded to multiples of."""
        return PATCH_SIZE * 2 ** (self.num_stages - 1)

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        """Load weights as ``init_cfg`` of type ``Pretrained`` does, strictly."""
        from mamba_mm.models.utils.checkpoint import load_pretrained_vm_unet_encoder

        load_pretrained_vm_unet_encoder(self, checkpoint, prefix)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps in ``out_indices``.

        Args:
            x: Images of shape (B, in_channels, H, W), or (B, 1, H, W) where ``in_channels``
                is 3.

        Returns:
            The maps by the table of the class. Those of the padded image have
            ceil(H / 32) * 8, * 4, * 2 and * 1 rows, and columns likewise.

        Raises:
            ValueError: When the shape is another.
        """
        image = x
        if x.dim() == 4 and x.shape[1] == 1 and self.in_channels == 3:
            x = x.expand(-1, 3, -1, -1)
        bottom, right = (-size % self.size_divisor for size in x.shape[-2:])
        x = F.pad(x, (0, right, 0, bottom))
        self._check_input(x)
        maps = [*self._stage_inputs(self.patch_embed(x)), image]
        layout = memory_format_of(image)
        return tuple(maps[i].contiguous(memory_format=layout) for i in self.out_indices)
