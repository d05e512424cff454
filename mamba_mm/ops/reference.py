"""The selective scan by its definition: the oracle that every backend is held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Run the selective scan one step after the other.

    For every batch item and channel, with :math:`h_{-1} = 0`,

    .. math::
        h_t = \exp(\Delta_t A)\, h_{t-1} + \Delta_t B_t u_t, \qquad
        y_t = \langle C_t, h_t \rangle + D u_t

    (Gu and Dao, "Mamba", 2023, equation 2a with the discretisation of section 3.2;
    :math:`\bar B \approx \Delta B` as in the authors' code.) Half precision is computed
    in float32, float32 and float64 in themselves.

    The steps are joined with ``unbind`` and ``stack``: writing them into a tensor by
    index would make the backward pass quadratic in L.

    Args:
        u: Input of shape (B, D, L).
        delta: Step sizes before bias and softplus, shape (B, D, L).
        A: Decay rates of shape (D, N), negative for a stable recurrence.
        B: Input projection, (B, N, L), (B, G, N, L), or (D, N) when it is constant in time.
        C: Output projection, shaped like one of the forms of ``B``.
        D: Skip weights of shape (D,).
        z: Gate of shape (B, D, L); the output is multiplied by SiLU(z).
        delta_bias: Bias of the step sizes, shape (D,).
        delta_softplus: Whether ``softplus`` is applied to the biased step sizes.
        return_last_state: Whether the state after the last step is returned too.

    Returns:
        The output (B, D, L) in the dtype of ``u``; with ``return_last_state`` also the
        last state (B, D, N) in the dtype of the computation.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    input_dtype = u.dtype
    u, delta, A, B, C = (t.to(dtype) for t in (u, delta, A, B, C))
    batch, dim, _ = u.shape

    if delta_bias is not None:
        delta = delta + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    B = _per_channel(B, dim)
    C = _per_channel(C, dim)

    state = u.new_zeros(batch, dim, A.shape[1])
    outputs = []
    steps = zip(
        u.unbind(-1),
        delta.unbind(-1),
        _per_step(B, u.shape[-1]),
        _per_step(C, u.shape[-1]),
        strict=True,
    )
    for u_t, delta_t, B_t, C_t in steps:
        decay = torch.exp(delta_t[..., None] * A)
        state = decay * state + (delta_t * u_t)[..., None] * B_t
        outputs.append((state * C_t).sum(-1))
    y = torch.stack(outputs, -1) if outputs else torch.zeros_like(u)

    if D is not None:
        y = y + D.to(dtype)[:, None] * u
    if z is not None:
        y = y * F.silu(z.to(dtype))
    y = y.to(input_dtype)
    return (y, state) if return_last_state else y


def _per_channel(t: Tensor, dim: int) -> Tensor:
    """Repeat a projection so that it has one row of N values per channel.

    (B, N, L) and (B, G, N, L) become (B, D, N, L); (D, N) stays.
    """
    if t.dim() == 2:
        return t
    if t.dim() == 3:
        t = t[:, None]
    return t.repeat_interleave(dim // t.shape[1], dim=1)


def _per_step(t: Tensor, length: int) -> tuple[Tensor, ...]:
    return (t,) * length if t.dim() == 2 else t.unbind(-1)
