"""The decoder of VM-UNet, without the part that belongs to a toolbox."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mamba_mm.layers import PatchExpand2d, VSSBlock
from mamba_mm.ops.routes import route_sets

from ..backbones.vm_unet import VMUNetArch
from ..backbones.vmamba import PATCH_SIZE, build_vss_block, init_linear_layers


class VSSUpStage(nn.Module):
    """The way up from the stage below, and blocks at one resolution.

    Args:
        upsample: What leads here from the stage below; ``None`` in the first.
        blocks: The blocks, in order.
    """

    def __init__(self, upsample: nn.Module | None, blocks: Sequence[VSSBlock]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C', H, W) to (B, C, H', W'), twice as large where there is a way up."""
        if self.upsample is not None:
            x = self.upsample(x)
        return self.blocks(x)


class VMUNetDecoder(nn.Module):
    """The decoder of VM-UNet (arXiv 2402.02491, section 3.1), up to the last convolution.

    ::

        bottleneck ─ layers_up.0 ─(+ skip 3)─ layers_up.1 ─(+ skip 2)─ layers_up.2 ─(+ skip 1)─
            ─ layers_up.3 ─ final_up

    A skip is added to what enters a layer, hence before that layer's expansion. Stochastic depth
    falls linearly to 0 at the last block, as it rises in the encoder.

    The parameters are named as in the official state dict, except that the blocks are named as
    VMamba's are.

    Args:
        arch: Both halves of the model.
        with_cp: Whether the activations of each block are recomputed in the backward pass.
    """

    def __init__(self, arch: VMUNetArch, with_cp: bool = False) -> None:
        super().__init__()
        self.arch_settings = arch
        count = sum(arch.decoder_depths)
        rates = [arch.drop_path_rate * (1 - i / max(count - 1, 1)) for i in range(count)]
        settings = iter(zip(rates, route_sets(arch.routes, count), strict=True))
        self.layers_up = nn.ModuleList()
        below = None
        for channels, depth in zip(reversed(arch.dims), arch.decoder_depths, strict=True):
            upsample = None if below is None else PatchExpand2d(below, channels, 2, arch.norm)
            blocks = [
                build_vss_block(arch, channels, *next(settings), with_cp) for _ in range(depth)
            ]
            self.layers_up.append(VSSUpStage(upsample, blocks))
            below = channels
        self.final_up = PatchExpand2d(below, self.out_channels, PATCH_SIZE, arch.norm)
        init_linear_layers(self)

    @property
    def in_channels(self) -> tuple[int, ...]:
        """Channels of the skips, the finest first, and of the bottleneck."""
        return (*self.arch_settings.dims[1:], self.arch_settings.dims[-1])

    @property
    def out_channels(self) -> int:
        """Channels of the result."""
        return self.arch_settings.dims[0] // PATCH_SIZE

    def forward(self, skips: Sequence[Tensor], bottleneck: Tensor) -> Tensor:
        """Decode the maps of one batch.

        Args:
            skips: Inputs of the encoder's stages but the first, from fine to coarse:
                (B, dims[i], H / 2^(i+2), W / 2^(i+2)).
            bottleneck: Output of its last stage, of the shape of the last skip.

        Returns:
            A map (B, dims[0] / 4, H, W).

        Raises:
            ValueError: When number, channels or sizes of the maps do not fit.
        """
        self._check_inputs([*skips, bottleneck])
        x = self.layers_up[0](bottleneck)
        for layer, skip in zip(self.layers_up[1:], reversed(skips), strict=True):
            x = layer(x + skip)
        return self.final_up(x)

    def _check_inputs(self, maps: Sequence[Tensor]) -> None:
        channels = tuple(m.shape[1] for m in maps)
        if channels != self.in_channels:
            raise ValueError(
                f"VMUNetDecoder: expected maps of {self.in_channels} channels (skips, bottleneck), "
                f"got {channels}; give encoder and decoder the same arch"
            )
        sizes = [tuple(m.shape[2:]) for m in maps]
        height, width = sizes[-1]
        halved = [(height * 2**i, width * 2**i) for i in reversed(range(len(maps) - 1))]
        if sizes != [*halved, sizes[-1]]:
            raise ValueError(
                f"VMUNetDecoder: every map must be half as large as the one before, and the last "
                f"as the one before; got {sizes}. mamba_mm.VMUNetEncoder pads images for that"
            )
