"""From a feature vector to named parameters."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class ReadOut(nn.Module):
    """Linear layers that read one vector out as several named ones.

    Args:
        in_channels: Length of the feature vector.
        sizes: Length of every output, by name.
        hidden_dims: Units of a hidden layer with ReLU that the outputs share; ``None`` for none.
        init_gain: Gain of the Xavier initialisation of the output layers, whose biases are then
            zero. With a small one the outputs, which are offsets from mean parameters, start
            near nothing, and a training with a plausible hand. ``None`` leaves PyTorch's
            initialisation, as HaMeR does.

    Raises:
        ValueError: When a size is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        sizes: Mapping[str, int],
        hidden_dims: int | None = None,
        init_gain: float | None = 0.01,
    ) -> None:
        super().__init__()
        if hidden_dims is not None and hidden_dims < 1:
            raise ValueError(f"ReadOut: hidden_dims must be positive or None, got {hidden_dims}")
        if not sizes or min(sizes.values()) < 1:
            raise ValueError(f"ReadOut: every output must have a positive size, got {dict(sizes)}")
        self.hidden = nn.Identity()
        if hidden_dims is not None:
            self.hidden = nn.Sequential(nn.Linear(in_channels, hidden_dims), nn.ReLU(inplace=True))
        width = in_channels if hidden_dims is None else hidden_dims
        self.outputs = nn.ModuleDict({name: nn.Linear(width, n) for name, n in sizes.items()})
        if init_gain is not None:
            for layer in self.outputs.values():
                nn.init.xavier_uniform_(layer.weight, gain=init_gain)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map vectors (B, in_channels) to a tensor (B, size) for each name."""
        x = self.hidden(x)
        return {name: layer(x) for name, layer in self.outputs.items()}
