"""The selective scan: checks, autocast, and the choice of a backend."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .backends import choose_backend
from .checks import check_scan_arguments
from .extension import EXTENSION
from .reference import selective_scan_ref
from .torch_scan import selective_scan_torch

if EXTENSION.loaded:
    from . import compiled_scan  # noqa: F401  registers fake kernels and gradients
    from .flops import register_flop_counters

    register_flop_counters()


def selective_scan(
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
    *,
    out_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Scan a sequence with input-dependent (selective) state-space parameters.

    For every batch item and channel, with :math:`h_{-1} = 0`,

    .. math::
        \Delta_t = \mathrm{softplus}(\delta_t + b), \quad
        h_t = \exp(\Delta_t A)\, h_{t-1} + \Delta_t B_t u_t, \quad
        y_t = \langle C_t, h_t \rangle + D u_t

    and the output is :math:`y_t\, \mathrm{SiLU}(z_t)` (Gu and Dao, "Mamba", 2023, section 3;
    arguments and shapes as in the authors' ``selective_scan_fn``). Channels ``g D/G`` to
    ``(g+1) D/G - 1`` share row ``g`` of ``B`` and ``C``. The state is kept in float32, or float64
    for float64 inputs. Strided inputs are read where they lie. The same inputs give the same bits,
    gradients included, for any number of threads.

    Under autocast u, delta, B, C and z take the autocast dtype; A, D and delta_bias stay float32.

    Args:
        u: Input of shape (B, D, L).
        delta: Step sizes before bias and softplus, shape (B, D, L).
        A: Decay rates of shape (D, N), negative for a stable recurrence.
        B: Input projection of shape (B, N, L), (B, G, N, L), or (D, N) if constant in time.
        C: Output projection, shaped like one of the forms of ``B``.
        D: Skip weights of shape (D,).
        z: Gate before its SiLU, shape (B, D, L).
        delta_bias: Bias of the step sizes, shape (D,).
        delta_softplus: Whether softplus is applied to the biased step sizes.
        return_last_state: Whether the state after the last step is returned too. Gradients flow
            through it.
        out_dtype: Dtype of the output; that of ``u`` (after autocast) by default. VMamba asks for
            float32 here, because its float16 outputs overflow.
        backend: Name of the backend; by default the fastest that serves the device.

    Returns:
        The output (B, D, L); with ``return_last_state`` also the last state (B, D, N) in float32,
        or float64 for float64 inputs.

    Raises:
        TypeError: An argument is not a tensor of a real floating-point dtype.
        ValueError: An argument has a wrong rank, size or device, or the backend does not exist or
            does not serve the device.
        RuntimeError: The requested backend is not usable on this machine, or a second derivative
            is asked of a compiled backend.
    """
    check_scan_arguments(u, delta, A, B, C, D, z, delta_bias)
    name = choose_backend(backend, u.device)
    u, delta, B, C, z = _autocast(u.device.type, u, delta, B, C, z)
    out_dtype = out_dtype or u.dtype
    u, delta, B, C, z, A, D, delta_bias = _agree_on_precision(u, delta, B, C, z, A, D, delta_bias)
    B, C = _match_groups(B, C)

    # The casts above are the autocast rule; the backends must not cast again.
    with torch.autocast(u.device.type, enabled=False):
        y, last_state = _scan_of(name)(
            u, delta, A, B, C, D, z, delta_bias, delta_softplus, out_dtype
        )
    return (y, last_state) if return_last_state else y


def _scan_of(backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function of a backend; it gives the output and the last state."""
    if backend in ("cpu", "cuda"):
        return _compiled
    if backend == "triton":
        # Here, because it needs Triton.
        from .triton.selective_scan import selective_scan_triton

        return selective_scan_triton
    return selective_scan_torch if backend == "torch" else _reference


def _compiled(u, delta, A, B, C, D, z, delta_bias, delta_softplus, out_dtype):
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    y, last_state, _ = torch.ops.mamba_mm.selective_scan_fwd(
        *tensors, delta_softplus, needs_grad, out_dtype
    )
    return y, last_state


def _reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus, out_dtype):
    y, last_state = selective_scan_ref(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True
    )
    return y.to(out_dtype), last_state


def _autocast(device_type: str, *tensors: Tensor | None) -> list[Tensor | None]:
    """Cast as autocast does: everything but float64."""
    if not torch.is_autocast_enabled(device_type):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device_type)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


def _agree_on_precision(u, delta, B, C, z, A, D, delta_bias):
    """Activations may mix 16 and 32 bit; one float64 among them makes everything float64.

    Parameters take the dtype of the state: in 16 bit the recurrence would drift.
    """
    activations = [u, delta, B, C, z]
    if any(t is not None and t.dtype == torch.float64 for t in (*activations, A)):
        activations = [None if t is None else t.to(torch.float64) for t in activations]
    compute = torch.promote_types(activations[0].dtype, torch.float32)
    parameters = [None if t is None else t.to(compute) for t in (A, D, delta_bias)]
    return (*activations, *parameters)


def _match_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """Give (B, N, L) its group dimension, as many groups as the other projection has."""
    grouped = B if B.dim() == 4 else C
    groups = grouped.shape[1] if grouped.dim() == 4 else 1

    def with_groups(t: Tensor) -> Tensor:
        return t[:, None].expand(-1, groups, -1, -1) if t.dim() == 3 else t

    return with_groups(B), with_groups(C)
