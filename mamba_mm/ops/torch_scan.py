"""The selective scan in plain PyTorch, for machines where nothing compiled is built.

The sequence is cut into K blocks of T steps, T near sqrt(L). The recurrence is linear, so
every block can start from a zero state at the same time: T steps over all blocks, then K
steps that carry the state from block to block. That makes about 2 sqrt(L) small loops of
large tensor operations instead of L, is as stable as the definition (only products of
decays appear, never their inverses), and differentiates in time linear in L.
"""

from __future__ import annotations

import math
import operator

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_torch(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (output, last state); arguments as in :func:`selective_scan_ref`.

    ``B`` and ``C`` are (B, G, N, L) or (D, N). Any differentiable use is supported, double
    backward included. Memory is O(B D L N), the price of not having a kernel.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    out_dtype = out_dtype or u.dtype
    u, delta, A, B, C = (t.to(dtype) for t in (u, delta, A, B, C))
    batch, dim, length = u.shape

    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)

    decay = torch.exp(torch.einsum("bdl,dn->bdnl", delta, A))
    drive = _scale_by_projection((delta * u)[:, :, None, :], B)
    states = linear_recurrence(decay, drive)
    y = _contract_with_projection(states, C)
    last_state = states[..., -1] if length else u.new_zeros(batch, dim, A.shape[1])

    if D is not None:
        y = y + D.to(dtype)[:, None] * u
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(out_dtype), last_state


def linear_recurrence(a: Tensor, b: Tensor) -> Tensor:
    """Solve ``h[t] = a[t] h[t-1] + b[t]``, ``h[-1] = 0``, along the last dimension.

    Args:
        a: Decays of shape (..., L).
        b: Inputs of shape (..., L).

    Returns:
        All states, shape (..., L).
    """
    # The loops below are as long as this says: under torch.compile it must be a constant.
    length = operator.index(a.shape[-1])
    if length == 0:
        return b
    steps = math.isqrt(length - 1) + 1
    blocks = -(-length // steps)
    tail = blocks * steps - length
    # Padding with (1, 0), the identity of the recurrence, leaves the last state alone.
    a = F.pad(a, (0, tail), value=1.0).unflatten(-1, (blocks, steps))
    b = F.pad(b, (0, tail)).unflatten(-1, (blocks, steps))

    local, reach = [], []
    for a_t, b_t in zip(a.unbind(-1), b.unbind(-1), strict=True):
        local.append(a_t * local[-1] + b_t if local else b_t)
        reach.append(a_t * reach[-1] if reach else a_t)
    local, reach = torch.stack(local, -1), torch.stack(reach, -1)

    carry = torch.zeros_like(b[..., 0, 0])
    carries = []
    block_ends = zip(reach[..., -1].unbind(-1), local[..., -1].unbind(-1), strict=True)
    for reach_k, local_k in block_ends:
        carries.append(carry)
        carry = reach_k * carry + local_k
    states = local + reach * torch.stack(carries, -1)[..., None]
    return states.flatten(-2)[..., :length]


def _scale_by_projection(x: Tensor, projection: Tensor) -> Tensor:
    """Multiply (B, D, 1, L) by B of shape (B, G, N, L) or (D, N), giving (B, D, N, L)."""
    if projection.dim() == 2:
        return x * projection[:, :, None]
    grouped = x.unflatten(1, (projection.shape[1], -1))
    return (grouped * projection[:, :, None]).flatten(1, 2)


def _contract_with_projection(states: Tensor, projection: Tensor) -> Tensor:
    """Sum (B, D, N, L) over N with the weights of C, giving (B, D, L)."""
    if projection.dim() == 2:
        return torch.einsum("bdnl,dn->bdl", states, projection)
    grouped = states.unflatten(1, (projection.shape[1], -1))
    return torch.einsum("bgcnl,bgnl->bgcl", grouped, projection).flatten(1, 2)
