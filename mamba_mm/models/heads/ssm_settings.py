"""How the state-space blocks of a head are built, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mamba_mm.layers import SSMixer2D, VSSBlock

from ..backbones.vmamba import init_linear_layers

DIRECTIONS: dict[int, tuple[str, ...]] = {
    1: ("row",),
    2: ("row", "~row"),
    4: ("row", "col", "~row", "~col"),
}
"""The walks of a number of directions, each with parameters of its own."""


@dataclass(frozen=True)
class SSMSettings:
    """Settings of the VSS blocks of a head.

    The defaults are VMamba's presets at width 512 (arXiv 2401.10166): Hamba's own are in a file
    that is not public.

    Attributes:
        d_state: States per channel and direction.
        ssm_ratio: Inner channels of the mixer over its channels.
        dt_rank: Rank of the step-size projection; ``None`` is a 16th of the channels.
        conv_size: Size of the depthwise convolution: its side on a map, its length along a list
            of tokens. A pair is taken as it is.
        conv_bias: Whether that convolution has a bias.
        mlp_ratio: Hidden channels of the feed-forward branch over its channels.
        drop_path: Stochastic depth of every block; 0.1 to 0.2 for long trainings.
    """

    d_state: int = 1
    ssm_ratio: float = 2.0
    dt_rank: int | None = None
    conv_size: int | tuple[int, int] = 3
    conv_bias: bool = False
    mlp_ratio: float = 4.0
    drop_path: float = 0.0

    @classmethod
    def of(cls, settings: Mapping[str, Any] | SSMSettings | None) -> SSMSettings:
        """Make settings of the fields that differ from the defaults.

        Raises:
            ValueError: When a field is unknown.
        """
        if isinstance(settings, cls):
            return settings
        settings = dict(settings or {})
        known = [field.name for field in fields(cls)]
        if unknown := sorted(settings.keys() - known):
            raise ValueError(f"ssm: unknown settings {unknown}; known: {', '.join(known)}")
        return cls(**settings)

    def map_block(self, channels: int, walks: Sequence[str]) -> VSSBlock:
        """Make a block for maps (B, channels, H, W)."""
        return self._block(channels, walks, self.conv_size)

    def list_block(self, channels: int, walks: Sequence[str]) -> VSSBlock:
        """Make a block for lists of L tokens that lie as maps (B, channels, L, 1).

        The kernel is as narrow as the map: further columns would see nothing but padding.
        """
        size = (self.conv_size, 1) if isinstance(self.conv_size, int) else self.conv_size
        return self._block(channels, walks, size)

    def _block(
        self, channels: int, walks: Sequence[str], conv_size: int | tuple[int, int]
    ) -> VSSBlock:
        mixer = SSMixer2D(
            channels,
            d_state=self.d_state,
            ssm_ratio=self.ssm_ratio,
            dt_rank=self.dt_rank,
            conv_size=conv_size,
            conv_bias=self.conv_bias,
            routes=list(walks),
        )
        block = VSSBlock(mixer, channels, mlp_ratio=self.mlp_ratio, drop_path=self.drop_path)
        init_linear_layers(block)
        return block


def walks_of(num_directions: int, user: str) -> tuple[str, ...]:
    """Return the walks of a number of directions.

    Args:
        num_directions: 1, 2 or 4.
        user: Who asks, for the error.

    Raises:
        ValueError: When it is another number.
    """
    if num_directions not in DIRECTIONS:
        raise ValueError(f"{user}: num_directions must be 1, 2 or 4, got {num_directions}")
    return DIRECTIONS[num_directions]
