"""A first set of parameters from the whole map: Hamba's Joints Regressor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mamba_mm.layers import LayerNorm2d
from mamba_mm.registry import MODELS

from .read_out import ReadOut
from .ssm_settings import SSMSettings, walks_of

MODES = ("vss", "mlp")


@MODELS.register_module()
class JointsRegressor(nn.Module):
    """Parameters of an object from a map of features, in one pass (Hamba, arXiv 2407.09646, 3.2).

    ``"vss"`` is the paper's: state-space blocks on the map, layer norm, the mean over the
    positions, a linear layer for every output. ``"mlp"`` is light: the mean comes first, and one
    residual MLP takes the place of the blocks.

    What the outputs mean is not known here: they are offsets, to which an output model such as
    :class:`mamba_mm.MANOOutputModel` adds its mean parameters.

    Args:
        channels: Channels of the map.
        output_sizes: Length of every output, by name.
        mode: ``"vss"`` or ``"mlp"``.
        depth: Number of blocks; for ``"vss"``.
        num_directions: 1, 2 or 4 walks over the map; for ``"vss"``.
        ssm: Settings of the blocks that differ from those of :class:`SSMSettings`.
        hidden_dims: Units of a hidden layer before the outputs; ``None``, as released, for none.
        init_gain: As in :class:`ReadOut`.

    Raises:
        ValueError: When the mode, the number of directions or a setting is not one of those
            known, or a size is not positive.

    Example:
        >>> import torch
        >>> regressor = JointsRegressor(32, dict(points=24, cam=3), depth=1)
        >>> {name: tuple(t.shape) for name, t in regressor(torch.zeros(2, 32, 4, 3)).items()}
        {'points': (2, 24), 'cam': (2, 3)}
    """

    def __init__(
        self,
        channels: int,
        output_sizes: Mapping[str, int],
        *,
        mode: str = "vss",
        depth: int = 4,
        num_directions: int = 4,
        ssm: Mapping[str, Any] | SSMSettings | None = None,
        hidden_dims: int | None = None,
        init_gain: float | None = 0.01,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"JointsRegressor: unknown mode {mode!r}; known: {', '.join(MODES)}")
        if depth < 1:
            raise ValueError(f"JointsRegressor: depth must be at least 1, got {depth}")
        settings = SSMSettings.of(ssm)
        walks = walks_of(num_directions, "JointsRegressor")
        self.mode = mode
        if mode == "vss":
            self.blocks = nn.Sequential(
                *(settings.map_block(channels, walks) for _ in range(depth))
            )
            self.norm = LayerNorm2d(channels)
        else:
            self.mlp = nn.Sequential(
                nn.LayerNorm(channels),
                nn.Linear(channels, channels),
                nn.GELU(),
                nn.Linear(channels, channels),
            )
            self.norm = nn.LayerNorm(channels)
        self.read_out = ReadOut(channels, output_sizes, hidden_dims, init_gain)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map features (B, channels, H, W) to a tensor (B, size) for each output."""
        if self.mode == "vss":
            feature = self.norm(self.blocks(x)).mean(dim=(2, 3))
        else:
            mean = x.mean(dim=(2, 3))
            feature = self.norm(mean + self.mlp(mean))
        return self.read_out(feature)
