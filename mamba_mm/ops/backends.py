"""Which implementations of the scan this machine can run, which one is used, and why.

The choice is automatic, can be forced for a call (``backend=``), a block of code
(:func:`use_backend`) or the process (environment variable ``MAMBA_MM_BACKEND``), and can be
asked for (:func:`backend_report`, ``python -m mamba_mm``).
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .extension import load_extension

BACKENDS = ("cpu", "torch", "reference")
_FORCED: contextvars.ContextVar[str | None] = contextvars.ContextVar("backend", default=None)
_WARNED: set[str] = set()


@dataclass(frozen=True)
class BackendStatus:
    """What can be said of one backend on this machine.

    Attributes:
        name: Its name, as ``backend=`` takes it.
        usable: Whether a call can run on it now.
        detail: What it is, or why it is not usable.
        remedy: What to do when it is not usable, else empty.
    """

    name: str
    usable: bool
    detail: str
    remedy: str = ""


def backend_report() -> list[BackendStatus]:
    """Return the state of every backend, the fastest first."""
    extension = load_extension()
    if extension.loaded:
        instructions = torch.ops.mamba_mm.cpu_instruction_set()
        cpu = BackendStatus("cpu", True, f"compiled C++, {instructions} kernels")
    else:
        cpu = BackendStatus("cpu", False, extension.detail, extension.remedy)
    return [
        cpu,
        BackendStatus(
            "torch", True, "plain PyTorch on any device, much slower and hungry for memory"
        ),
        BackendStatus("reference", True, "the definition step by step, for tests only"),
    ]


def default_backend(device_type: str) -> str:
    """Return the backend that a call on ``device_type`` ("cpu", "cuda", ...) gets by itself."""
    return "cpu" if device_type == "cpu" and load_extension().loaded else "torch"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force the backend of all calls in a ``with`` block.

    Raises:
        ValueError: There is no backend of that name.
    """
    token = _FORCED.set(_known(name, "use_backend"))
    try:
        yield
    finally:
        _FORCED.reset(token)


def choose_backend(requested: str | None, device_type: str) -> str:
    """Return the backend for one call.

    Args:
        requested: The call's own ``backend=``, which wins over :func:`use_backend`, which wins
            over ``MAMBA_MM_BACKEND``.
        device_type: Where the tensors are.

    Raises:
        ValueError: The name is unknown, or the backend does not serve that device.
        RuntimeError: The backend was asked for but is not usable on this machine.
    """
    name = _forced(requested)
    if name is None:
        name = default_backend(device_type)
        if name == "torch":
            _warn_slow(device_type)
        return name
    if name == "cpu":
        if device_type != "cpu":
            raise ValueError(
                f"backend 'cpu' was asked for tensors on {device_type!r}; move them to the CPU "
                "or leave the choice of the backend open"
            )
        extension = load_extension()
        if not extension.loaded:
            raise RuntimeError(
                f"backend 'cpu' is not usable: {extension.detail}; {extension.remedy}"
            )
    return name


def _forced(requested: str | None) -> str | None:
    if requested is not None:
        return _known(requested, "backend")
    if torch.compiler.is_compiling():
        return None
    if _FORCED.get() is not None:
        return _FORCED.get()
    from_environment = os.environ.get("MAMBA_MM_BACKEND")
    return _known(from_environment, "MAMBA_MM_BACKEND") if from_environment else None


def _known(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source} is {name!r}; expected one of {', '.join(BACKENDS)}")
    return name


def _warn_slow(device_type: str) -> None:
    """Say once per device type that nothing compiled serves it, and what to do."""
    if device_type in _WARNED or torch.compiler.is_compiling():
        return
    _WARNED.add(device_type)
    extension = load_extension()
    if device_type == "cpu":
        reason = f"{extension.detail}; {extension.remedy}"
    else:
        reason = f"no compiled backend serves {device_type} tensors"
    warnings.warn(
        f"the selective scan runs on the slow 'torch' backend: {reason}. "
        "`python -m mamba_mm` shows what is usable; backend='torch' silences this warning.",
        stacklevel=4,
    )
