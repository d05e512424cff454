"""A first layer that reads more channels than the weights that it starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NEW_WEIGHTS = ("zero", "mean")


class ExtendedInputConv2d(nn.Conv2d):
    """A convolution that takes weights for fewer channels, where weights are loaded.

    Whatever loads a state dict, ``init_cfg``, ``load_from`` or ``load_state_dict``, a weight for
    the first ``pretrained_channels`` of its inputs is extended to all of them. With zeros, the
    function stays the same, whatever the new channels hold. Weights for all channels load as ever.
    It shares the parameters of the convolution that it is made of, so it has their initial values
    as long as nothing is loaded.

    Args:
        conv: The convolution to stand in for.
        pretrained_channels: Channels that weights may be for.
        new_weights: The weights of the new channels: ``"zero"``, or ``"mean"``, the mean of the
            others, with which the function changes, but the new channel has an effect from the
            start.

    Raises:
        ValueError: ``new_weights`` is unknown, or there are no new channels.
    """

    def __init__(
        self, conv: nn.Conv2d, pretrained_channels: int = 3, new_weights: str = "zero"
    ) -> None:
        if new_weights not in NEW_WEIGHTS:
            raise ValueError(
                f"ExtendedInputConv2d: unknown new_weights {new_weights!r}; known: "
                f"{', '.join(NEW_WEIGHTS)}"
            )
        if not 0 < pretrained_channels < conv.in_channels or conv.groups != 1:
            raise ValueError(
                f"ExtendedInputConv2d: cannot extend weights for {pretrained_channels} channels to "
                f"those of {conv}; it must have more, and one group"
            )
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            stride=conv.stride,
            padding=conv.padding,
            dilation=conv.dilation,
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.pretrained_channels = pretrained_channels
        self.new_weights = new_weights

    def extended(self, weight: Tensor) -> Tensor:
        """Extend a weight to all channels of the input.

        Args:
            weight: A weight as it was saved.

        Returns:
            The same, if it is not one for the first channels alone.

        Raises:
            ValueError: The weight fits neither with nor without the new channels.
        """
        out_channels, in_channels, *kernel = self.weight.shape
        fitting = [(out_channels, n, *kernel) for n in (self.pretrained_channels, in_channels)]
        if tuple(weight.shape) not in fitting:
            raise ValueError(
                f"the saved weight of the first layer has the shape {tuple(weight.shape)}; "
                f"expected {fitting[0]}, which is extended by {self.new_weights} weights, or "
                f"{fitting[1]}"
            )
        new = in_channels - weight.shape[1]
        if new == 0:
            return weight
        others = weight.mean(dim=1, keepdim=True).expand(-1, new, -1, -1)
        return torch.cat(
            [weight, others if self.new_weights == "mean" else torch.zeros_like(others)], dim=1
        )

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        key = prefix + "weight"
        if key in state_dict:
            state_dict[key] = self.extended(state_dict[key])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Add to what a convolution says of itself."""
        return (
            f"{super().extra_repr()}, pretrained_channels={self.pretrained_channels}, "
            f"new_weights={self.new_weights!r}"
        )
