"""Selective scans that PyTorch users write without a kernel, to compare against.

Each materialises the decays and inputs of every state, (B, D, N, L), and differs in how it
solves ``h[t] = a[t] h[t-1] + b[t]``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._higher_order_ops.associative_scan import associative_scan


def odd_even_recurrence(a: Tensor, b: Tensor) -> Tensor:
    """Solve the recurrence along the last dimension in 2 log2(L) levels (Blelloch, 1990)."""
    length = a.shape[-1]
    if length == 1:
        return b
    pairs = length // 2
    a_even, a_odd = a[..., 0::2], a[..., 1::2]
    b_even, b_odd = b[..., 0::2], b[..., 1::2]
    odd = odd_even_recurrence(
        a_even[..., :pairs] * a_odd, torch.addcmul(b_odd, a_odd, b_even[..., :pairs])
    )
    later = b_even.shape[-1] - 1
    even = torch.cat(
        [b_even[..., :1], torch.addcmul(b_even[..., 1:], a_even[..., 1:], odd[..., :later])], -1
    )
    joined = torch.stack([even[..., :pairs], odd], -1).flatten(-2)
    return joined if length % 2 == 0 else torch.cat([joined, even[..., -1:]], -1)


def associative_recurrence(a: Tensor, b: Tensor) -> Tensor:
    """Solve the recurrence with PyTorch's ``associative_scan``."""

    def combine(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    return associative_scan(combine, (a, b), dim=-1, combine_mode="generic")[1]


def materialised_scan(recurrence, u, delta, A, B, C, D, delta_bias) -> Tensor:
    """Run the selective scan with softplus on top of a solver of the recurrence.

    Args:
        recurrence: One of the solvers above.
        u: Input (B, D, L), as the other arguments in the shapes of ``selective_scan``.
        delta: Step sizes (B, D, L).
        A: Decay rates (D, N).
        B: Input projection (B, G, N, L).
        C: Output projection (B, G, N, L).
        D: Skip weights (D,).
        delta_bias: Bias of the step sizes (D,).
    """
    groups = B.shape[1]
    delta = F.softplus(delta + delta_bias[:, None])
    decay = torch.exp(delta[:, :, None] * A[:, :, None])
    drive = (delta * u).unflatten(1, (groups, -1))[:, :, :, None] * B[:, :, None]
    states = recurrence(decay, drive.flatten(1, 2)).unflatten(1, (groups, -1))
    return torch.einsum("bgcnl,bgnl->bgcl", states, C).flatten(1, 2) + D[:, None] * u
