"""Arguments of the scan: every mistake named in one line, before anything runs."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_scan_arguments(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    """Check rank, size, dtype and device of the arguments of ``selective_scan``.

    Raises:
        TypeError: An argument is not a tensor, or not of a real floating-point dtype.
        ValueError: An argument has a wrong rank, size or device.
    """
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    given |= {
        name: t for name, t in (("D", D), ("z", z), ("delta_bias", delta_bias)) if t is not None
    }
    for name, t in given.items():
        check_float("selective_scan", name, t)
        if t.device != u.device:
            raise ValueError(
                f"selective_scan: {name} is on {t.device}, expected {u.device}, the device of u"
            )
    if u.dim() != 3:
        raise ValueError(f"selective_scan: u has shape {_shape(u)}, expected (B, D, L)")
    if A.dim() != 2 or A.shape[0] != u.shape[1]:
        raise ValueError(
            f"selective_scan: A has shape {_shape(A)}, expected (D, N) with D = {u.shape[1]}"
        )
    for name in ("delta", "z"):
        if name in given and given[name].shape != u.shape:
            raise ValueError(
                f"selective_scan: {name} has shape {_shape(given[name])}, "
                f"expected {_shape(u)}, the shape of u"
            )
    for name in ("D", "delta_bias"):
        if name in given and given[name].shape != u.shape[1:2]:
            raise ValueError(
                f"selective_scan: {name} has shape {_shape(given[name])}, expected ({u.shape[1]},)"
            )
    for name in ("B", "C"):
        _check_projection(name, given[name], u, A)
    if B.dim() == 4 and C.dim() == 4 and B.shape[1] != C.shape[1]:
        raise ValueError(
            f"selective_scan: B has {B.shape[1]} groups and C has {C.shape[1]}, "
            "expected the same number"
        )


def check_float(op: str, name: str, t: Tensor) -> None:
    """Check that an argument of ``op`` is a tensor of a real floating-point dtype."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{op}: {name} is {type(t).__name__}, expected a tensor")
    if t.is_complex():
        raise TypeError(
            f"{op}: {name} is {t.dtype}, expected a real dtype; complex state spaces "
            "are not supported"
        )
    if t.dtype not in FLOATS:
        raise TypeError(
            f"{op}: {name} is {t.dtype}, expected float64, float32, bfloat16 or float16"
        )


def _check_projection(name: str, t: Tensor, u: Tensor, A: Tensor) -> None:
    batch, dim, length = u.shape
    states = A.shape[1]
    if t.dim() == 2:
        fits = t.shape == A.shape
    elif t.dim() == 3:
        fits = t.shape == (batch, states, length)
    else:
        fits = t.dim() == 4 and (t.shape[0], t.shape[2], t.shape[3]) == (batch, states, length)
    if not fits:
        raise ValueError(
            f"selective_scan: {name} has shape {_shape(t)}, expected ({batch}, N, {length}), "
            f"({batch}, G, N, {length}) or ({dim}, N) with N = {states} as in A"
        )
    if t.dim() == 4 and (t.shape[1] == 0 or dim % t.shape[1]):
        raise ValueError(
            f"selective_scan: {name} has {t.shape[1]} groups, expected a divisor of D = {dim}"
        )


def _shape(t: Tensor) -> str:
    return str(tuple(t.shape))
