"""Tokens of a map at points of the image: Hamba's Token Sampler."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.registry import MODELS

PADDING_MODES = ("border", "zeros")


@MODELS.register_module()
class TokenSampler(nn.Module):
    """Bilinear samples of a map at points of the network's input (Hamba, arXiv 2407.09646, 3.2).

    Where a token lies in the image is a matter of the backbone. Token i of a row is centred at
    pixel ``offset + i * stride``: with patches side by side at half a stride, in ViTPose's ViT,
    whose 16-pixel patches start 2 pixels outside of the image, at 6 instead of 8. Convolutions of
    stride 2 with padding 1, such as VMamba's second patch embedding, centre theirs near 0.

    Hamba's released code takes the map for one of the square crop, of which it covers only the
    middle columns, and so reads up to a quarter of the width beside the joint; this is not
    repeated here.

    Args:
        channels: Channels of the map.
        input_size: Width and height of the network's input in pixels.
        token_offset: Pixel (or pixels: x, y) at which the first token is centred; ``None`` is
            half a stride. Pixel p covers [p, p + 1).
        token_stride: Pixels (or x, y) from one token to the next; ``None`` is the size of the
            input over that of the map.
        mlp: Whether a pointwise MLP of two layers follows.
        detach: Whether no gradient flows to the points.
        padding_mode: What points outside read: the tokens of the ``"border"``, or ``"zeros"``.

    Raises:
        ValueError: When the padding mode is unknown or a size is not positive.

    Example:
        >>> import torch
        >>> sampler = TokenSampler(8, (192, 256), token_offset=6.0)
        >>> sampler(torch.zeros(2, 8, 16, 12), torch.full((2, 21, 2), 70.0)).shape
        torch.Size([2, 21, 8])
    """

    def __init__(
        self,
        channels: int,
        input_size: Sequence[int],
        *,
        token_offset: float | Sequence[float] | None = None,
        token_stride: float | Sequence[float] | None = None,
        mlp: bool = True,
        detach: bool = True,
        padding_mode: str = "border",
    ) -> None:
        super().__init__()
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"TokenSampler: unknown padding_mode {padding_mode!r}; known: "
                f"{', '.join(PADDING_MODES)}"
            )
        self.input_size = _pair("input_size", input_size)
        self.token_offset = None if token_offset is None else _pair("token_offset", token_offset)
        self.token_stride = None if token_stride is None else _pair("token_stride", token_stride)
        if min(self.input_size) <= 0 or (self.token_stride and min(self.token_stride) <= 0):
            raise ValueError(
                "TokenSampler: input_size and token_stride must be positive, got "
                f"{self.input_size} and {self.token_stride}"
            )
        self.detach = detach
        self.padding_mode = padding_mode
        self.mlp = nn.Identity()
        if mlp:
            self.mlp = nn.Sequential(
                nn.Conv1d(channels, channels, 1),
                nn.BatchNorm1d(channels),
                nn.ReLU(inplace=True),
                nn.Conv1d(channels, channels, 1),
            )

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        """Sample tokens.

        Args:
            x: Map (B, channels, H, W).
            points: Points (B, K, 2), x and y in pixels of the network's input.

        Returns:
            Tokens (B, K, channels), in the order of the points.

        Raises:
            ValueError: When the stride has to be guessed and cannot be: the input is no multiple
                of the map.
        """
        if self.detach:
            points = points.detach()
        grid = self.grid(points, x.shape[2:])
        # Positions need more than the 8 bits of bfloat16, and both must have the same type.
        precision = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            samples = F.grid_sample(
                x.to(precision),
                grid.to(precision).unsqueeze(2),
                padding_mode=self.padding_mode,
                align_corners=False,
            )
        return self.mlp(samples.squeeze(3).to(x.dtype)).transpose(1, 2)

    def grid(self, points: Tensor, map_size: Sequence[int]) -> Tensor:
        """Map pixels to the coordinates of ``grid_sample`` without aligned corners.

        Args:
            points: Points (..., 2) in pixels of the network's input.
            map_size: Height and width of the map.

        Returns:
            Coordinates (..., 2): -1 and 1 are the outer edges of the first and the last token.
        """
        size = (map_size[1], map_size[0])
        stride = self.token_stride or self._derived_stride(size)
        offset = self.token_offset or tuple(s / 2 for s in stride)
        tokens = (points - points.new_tensor(offset)) / points.new_tensor(stride)
        return (2 * tokens + 1) / points.new_tensor(size) - 1

    def _derived_stride(self, map_size: tuple[int, int]) -> tuple[float, float]:
        """Size of the input over that of the map, both (W, H)."""
        strides = tuple(i / m for i, m in zip(self.input_size, map_size, strict=True))
        if any(stride != int(stride) for stride in strides):
            raise ValueError(
                f"TokenSampler: an input of {self.input_size} pixels (W, H) is no multiple of a "
                f"map of {map_size}; say how far its tokens lie apart with token_stride"
            )
        return strides


def _pair(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"TokenSampler: {name} must be one number or two (x, y), got {value!r}")
    return pair
