"""A feature pyramid on top of a backbone with one resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mamba_mm.layers import NORMS
from mamba_mm.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Maps at several strides from maps at one (ViTDet, arXiv 2203.16527, section 3).

    A level of a finer stride is reached by 2x2 transposed convolutions of stride 2 (norm and
    GELU between two of them), one of a coarser stride by max-pooling. With one input map all
    levels come from it, as in ViTDet; with as many as levels, each from its own, as in BEiT's and
    Vim's segmentation. With ``out_channels`` each level then passes a 1x1 and a 3x3 convolution,
    each with a norm; without, it keeps its channels, as in segmentation.

    The scales follow from the backbone's true stride, so that Vim's "plus" models, at stride 8,
    get a pyramid at 4, 8, 16 and 32 as the others do (the official code takes the patch size
    for the stride).

    Args:
        in_channels: Channels of the input maps: a number, or a list of equal ones.
        out_channels: Channels of all levels, or ``None`` to keep those of the input.
        stride: Stride of the input maps in pixels of the image.
        out_strides: Strides of the levels, finest first, each ``stride`` times a power of two.
        num_outs: Number of levels returned; those beyond ``out_strides`` are max-pooled from
            the last with stride 2, as FPN's. By default as many as ``out_strides``.
        norm: ``"ln"``, layer norm over channels, or ``"bn"``, batch norm.
        init_cfg: As in MMEngine.

    Raises:
        ValueError: When a stride is no power of two away, or the levels do not add up.

    Example:
        >>> import torch
        >>> neck = SimpleFeaturePyramid(192, 64, stride=16)
        >>> [tuple(m.shape[2:]) for m in neck((torch.zeros(1, 192, 4, 6),))]
        [(16, 24), (8, 12), (4, 6), (2, 3)]
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | None = 256,
        stride: int = 16,
        out_strides: Sequence[int] = (4, 8, 16, 32),
        num_outs: int | None = None,
        norm: str = "ln",
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        steps = [_steps(stride, out) for out in out_strides]
        if not steps or any(fine <= coarse for fine, coarse in pairwise(steps)):
            raise ValueError(
                f"SimpleFeaturePyramid: out_strides must ascend, got {tuple(out_strides)}"
            )
        self.num_outs = len(steps) if num_outs is None else num_outs
        if self.num_outs < len(steps):
            raise ValueError(
                f"SimpleFeaturePyramid: num_outs={num_outs} for {len(steps)} out_strides"
            )
        if norm not in NORMS:
            raise ValueError(
                f"SimpleFeaturePyramid: unknown norm {norm!r}; known: {', '.join(NORMS)}"
            )
        channels = _common_channels(in_channels, len(steps))
        self.scales = nn.ModuleList(_rescale(channels, n, norm) for n in steps)
        self.projections = nn.ModuleList(
            nn.Identity() if out_channels is None else _project(channels, out_channels, norm)
            for _ in steps
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Maps (B, in_channels, H, W), one, or one a level.

        Returns:
            ``num_outs`` maps, finest first; a level at half the input's resolution has
            (ceil(H / 2), ceil(W / 2)).

        Raises:
            ValueError: When there is another number of maps.
        """
        levels = len(self.scales)
        if len(inputs) not in (1, levels):
            raise ValueError(
                f"SimpleFeaturePyramid: expected 1 map or {levels}, one a level, "
                f"got {len(inputs)}; check the backbone's out_indices"
            )
        maps = list(inputs) * (levels if len(inputs) == 1 else 1)
        outputs = [
            project(scale(x))
            for x, scale, project in zip(maps, self.scales, self.projections, strict=True)
        ]
        for _ in range(self.num_outs - levels):
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)


def _steps(stride: int, out_stride: int) -> int:
    """How many doublings of the resolution lead from one stride to another; may be negative."""
    steps = math.log2(stride / out_stride) if min(stride, out_stride) > 0 else math.nan
    if steps != steps or steps != int(steps):
        raise ValueError(
            f"SimpleFeaturePyramid: stride {out_stride} is not {stride} times a power of two"
        )
    return int(steps)


def _common_channels(in_channels: int | Sequence[int], levels: int) -> int:
    channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
    if len(set(channels)) != 1 or len(channels) not in (1, levels):
        raise ValueError(
            f"SimpleFeaturePyramid: in_channels must be one number, or {levels} equal ones, "
            f"got {in_channels}"
        )
    return channels[0]


def _rescale(channels: int, steps: int, norm: str) -> nn.Module:
    if steps == 0:
        return nn.Identity()
    if steps < 0:
        # Also what the last row and column of an odd map hold must reach the coarser level.
        return nn.MaxPool2d(2**-steps, ceil_mode=True)
    layers: list[nn.Module] = []
    for step in range(steps):
        layers.append(nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2))
        if step + 1 < steps:
            layers += [NORMS[norm](channels), nn.GELU()]
    return nn.Sequential(*layers)


def _project(channels: int, out_channels: int, norm: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel_size=1, bias=False),
        NORMS[norm](out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        NORMS[norm](out_channels),
    )
