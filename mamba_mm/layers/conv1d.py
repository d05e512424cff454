"""Depthwise convolution of a token sequence, in either direction, without flipping it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

CONV_DOMAINS = ("causal", "anticausal", "centred")


def depthwise_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, domain: str) -> Tensor:
    r"""Convolve every channel of a sequence with a kernel of its own.

    With k taps, :math:`w` the kernel and zeros beyond the ends of the sequence,

    .. math::
        y_t = b + \sum_{j<k} w_j\, x_{t-(k-1)+j} \;\text{(causal)}, \quad
        y_t = b + \sum_{j<k} w_j\, x_{t+(k-1)-j} \;\text{(anticausal)}, \quad
        y_t = b + \sum_{j<k} w_j\, x_{t-(k-1)/2+j} \;\text{(centred)}

    The anticausal convolution is the causal one of the reversed sequence, read backwards. It
    is computed on the sequence as it lies: the kernel of k numbers is flipped instead.

    Args:
        x: Tokens (B, L, E), in any memory format.
        weight: Kernels (E, 1, k), as of ``nn.Conv1d``; k is odd for ``"centred"``.
        bias: Of shape (E,), or none.
        domain: ``"causal"``, ``"anticausal"`` or ``"centred"``.

    Returns:
        Tokens (B, L, E), a view of a sequence that is k - 1 longer unless centred.
    """
    length, taps = x.shape[1], weight.shape[2]
    if domain == "anticausal":
        weight = weight.flip(-1)
    # As a map of one row whose channels lie side by side: a copy-free view of the tokens, and
    # the layout for which the depthwise kernel of the CPU is ten times that of conv1d.
    row = x.transpose(1, 2).unsqueeze(2)
    pad = taps // 2 if domain == "centred" else taps - 1
    y = F.conv2d(row, weight.unsqueeze(2), bias, padding=(0, pad), groups=x.shape[2])
    y = y.squeeze(2).transpose(1, 2)
    start = taps - 1 if domain == "anticausal" else 0
    return y[:, start : start + length]
