"""Growing the height and width of a map between two stages of a decoder."""

from __future__ import annotations

from torch import Tensor, nn

from .linear import Linear2d
from .norm import NORMS


class PatchExpand2d(nn.Module):
    """Swin-Unet's patch expanding, the inverse of patch merging: linear map, space, norm.

    The linear map makes ``factor ** 2`` vectors of every position, which become a square of
    positions. They lie one after another, rows of the square first: ``(p1, p2, c)``. That is
    not the order of :func:`torch.nn.functional.pixel_shuffle`, which is ``(c, p1, p2)``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels C of the output.
        factor: By how much height and width grow.
        norm: ``"ln"`` or ``"bn"``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, factor: int = 2, norm: str = "ln"
    ) -> None:
        super().__init__()
        self.factor = factor
        self.expand = Linear2d(in_channels, factor**2 * out_channels, bias=False)
        self.norm = NORMS[norm](out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, C, factor * H, factor * W)."""
        x = self.expand(x).permute(0, 2, 3, 1)
        x = x.unflatten(-1, (self.factor, self.factor, -1))  # (B, H, W, p1, p2, C)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return self.norm(x.permute(0, 3, 1, 2))
