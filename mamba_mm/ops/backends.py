"""Which implementations of the scan this machine can run, which one is used, and why.

The choice is automatic, can be forced for a call (``backend=``), a block of code
(:func:`use_backend`) or the process (environment variable ``MAMBA_MM_BACKEND``), and can be
asked for (:func:`backend_report`, ``python -m mamba_mm``).
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .extension import EXTENSION

BACKENDS = ("cpu", "torch", "reference")
# The choice for the whole process and who made it; plain data, so that tracing guards on it.
_process_choice: tuple[str | None, str] = (os.environ.get("MAMBA_MM_BACKEND"), "MAMBA_MM_BACKEND")
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
    gpu = "this version has no GPU kernels; GPU tensors run on 'torch'"
    wait = "run on the CPU, or accept the speed of 'torch' with backend='torch'"
    return [
        _cpu_status(),
        BackendStatus("cuda", False, gpu, wait),
        BackendStatus("triton", False, gpu, wait),
        BackendStatus("torch", True, "plain PyTorch on any device, slow and hungry for memory"),
        BackendStatus("reference", True, "the definition step by step, for tests only"),
    ]


def _cpu_status() -> BackendStatus:
    if not EXTENSION.loaded:
        return BackendStatus("cpu", False, EXTENSION.detail, EXTENSION.remedy)
    try:
        instructions = torch.ops.mamba_mm.cpu_instruction_set()
    except RuntimeError as error:  # MAMBA_MM_ISA asks for what this processor does not run
        return BackendStatus("cpu", False, str(error).splitlines()[0], "unset MAMBA_MM_ISA")
    return BackendStatus("cpu", True, f"compiled C++, {instructions} kernels")


def default_backend(device_type: str) -> str:
    """Return the backend that a call on ``device_type`` ("cpu", "cuda", ...) gets by itself."""
    return "cpu" if device_type == "cpu" and EXTENSION.loaded else "torch"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force the backend of all calls in a ``with`` block, in every thread.

    Raises:
        ValueError: There is no backend of that name.
    """
    global _process_choice
    before = _process_choice
    _process_choice = (_known(name, "use_backend"), "use_backend")
    try:
        yield
    finally:
        _process_choice = before


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
    if name == "cpu" and device_type != "cpu":
        raise ValueError(
            f"backend 'cpu' was asked for tensors on {device_type!r}; move them to the CPU "
            "or leave the choice of the backend open"
        )
    if name == "cpu" and not EXTENSION.loaded:
        raise RuntimeError(f"backend 'cpu' is not usable: {EXTENSION.detail}; {EXTENSION.remedy}")
    return name


def _forced(requested: str | None) -> str | None:
    name, source = (requested, "backend") if requested is not None else _process_choice
    return _known(name, source) if name else None


def _known(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source} is {name!r}; expected one of {', '.join(BACKENDS)}")
    return name


def _warn_slow(device_type: str) -> None:
    """Say once per device type that nothing compiled serves it, and what to do."""
    if device_type in _WARNED or torch.compiler.is_compiling():
        return
    _WARNED.add(device_type)
    if device_type == "cpu":
        reason = f"{EXTENSION.detail}; {EXTENSION.remedy}"
    else:
        reason = f"no compiled backend serves {device_type} tensors"
    warnings.warn(
        f"the selective scan runs on the slow 'torch' backend: {reason}. "
        "`python -m mamba_mm` shows what is usable; backend='torch' silences this warning.",
        stacklevel=4,
    )
