"""A linear layer over the channels of a map, and onto a residual."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from mamba_mm.ops import linear_add


class Linear2d(nn.Linear):
    """``nn.Linear`` over the channels of an NCHW map: a 1x1 convolution.

    The parameters have the shapes of ``nn.Linear``, so checkpoints of channel-last models
    fit. A weight saved as a convolution, (out, in, 1, 1), is accepted on load.
    """

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Map (B, in_features, H, W) to (B, out_features, H, W), and add ``residual``."""
        # The maps here mostly lie channel-last, as layer norm leaves them: the permutations
        # are views then, and the plain matrix product is faster than a convolution.
        x = x.permute(0, 2, 3, 1)
        if residual is None:
            y = F.linear(x, self.weight, self.bias)
        else:
            y = linear_add(x, self.weight, self.bias, residual.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        key = prefix + "weight"
        saved = state_dict.get(key)
        if saved is not None and saved.shape[2:] == (1, 1):
            state_dict[key] = saved.flatten(1)
        super()._load_from_state_dict(state_dict, prefix, *args)
