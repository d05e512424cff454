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

from . import architectures
from .extension import CUDA_EXTENSION, EXTENSION, TRITON

BACKENDS = ("cpu", "cuda", "triton", "torch", "reference")
# The device type of the tensors that a backend of kernels serves. PyTorch calls AMD's GPUs
# "cuda" too.
SERVES = {"cpu": "cpu", "cuda": "cuda", "triton": "cuda"}
# The current one of the GPUs.
GPU = torch.device("cuda")
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
    """Return the state of every backend: those of kernels first."""
    return [
        _cpu_status(),
        _cuda_status(),
        _triton_status(),
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


def _cuda_status() -> BackendStatus:
    missing = _missing("cuda", GPU)
    if missing:
        return BackendStatus("cuda", False, *missing)
    if torch.version.cuda is None:
        return BackendStatus(
            "cuda",
            False,
            f"built, but torch {torch.__version__} is a build without CUDA",
            "install a CUDA build of torch, or run on the CPU",
        )
    return _on_gpu("cuda", "built from CUDA C++")


def _triton_status() -> BackendStatus:
    missing = _missing("triton", GPU)
    if missing:
        return BackendStatus("triton", False, *missing)
    if _triton_is_interpreted():
        return BackendStatus("triton", True, f"{TRITON.detail}, interpreted, for tests only")
    return _on_gpu("triton", TRITON.detail)


def _on_gpu(name: str, built: str) -> BackendStatus:
    if torch.cuda.is_available():
        return BackendStatus(name, True, f"{built}, GPU: {torch.cuda.get_device_name()}")
    return BackendStatus(name, False, f"{built}, but there is no GPU", "run on the CPU")


def _missing(name: str, device: torch.device) -> tuple[str, str] | None:
    """Return why no kernels of a backend are there for a device and what to do, or None."""
    if name == "cuda" and torch.version.hip is not None:
        return (
            f"torch {torch.__version__} is for AMD's GPUs",
            "leave the choice of the backend open: 'triton' serves them",
        )
    outcome = {"cpu": EXTENSION, "cuda": CUDA_EXTENSION, "triton": TRITON}[name]
    if not outcome.loaded:
        return outcome.detail, outcome.remedy
    of_nvidia = device.type == "cuda" and torch.version.hip is None
    return _not_served(name, device) if of_nvidia else None


def _not_served(name: str, device: torch.device) -> tuple[str, str] | None:
    """Return why a GPU of NVIDIA does not run a backend's kernels and what to do, or None."""
    capability = architectures.compute_capability(device)
    if capability is None:
        return None
    gpu = "the GPU has compute capability {}.{}".format(*capability)
    compiled = CUDA_EXTENSION.architectures
    if name == "cuda" and not architectures.runs(compiled, capability):
        rebuild = "MAMBA_MM_CUDA_ARCHS='{}{}' pip install --no-deps .".format(*capability)
        return (
            f"its kernels are compiled for {compiled}, and {gpu}",
            f"build them for it, from a checkout: {rebuild}",
        )
    if name == "triton" and capability < architectures.TRITON_CAPABILITY:
        oldest = "{}.{}".format(*architectures.TRITON_CAPABILITY)
        return f"Triton needs {oldest}, and {gpu}", "use backend='torch', or a later GPU"
    return None


def _triton_is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def default_backend(device: torch.device | str) -> str:
    """Return the backend that a call gets by itself.

    Args:
        device: Where its tensors are, or only the type ("cpu", "cuda", ...): then the current GPU.
    """
    device = torch.device(device)
    for name, served in SERVES.items():
        if device.type == served and _missing(name, device) is None:
            return name
    return "torch"


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


def choose_backend(requested: str | None, device: torch.device | str) -> str:
    """Return the backend for one call.

    Args:
        requested: The call's own ``backend=``, which wins over :func:`use_backend`, which wins
            over ``MAMBA_MM_BACKEND``.
        device: Where the tensors are, or only the type of the device: then the current GPU.

    Raises:
        ValueError: The name is unknown, or the backend does not serve that device.
        RuntimeError: The backend was asked for but is not usable on this machine.
    """
    device = torch.device(device)
    name = _forced(requested)
    if name is None:
        name = default_backend(device)
        if name == "torch":
            _warn_slow(device)
        return name
    if name in SERVES:
        _check_served(name, device.type)
        missing = _missing(name, device)
        if missing:
            raise RuntimeError(f"backend {name!r} is not usable: {missing[0]}; {missing[1]}")
    return name


def _check_served(name: str, device_type: str) -> None:
    if device_type == SERVES[name]:
        return
    if name == "triton" and device_type == "cpu" and _triton_is_interpreted():
        return
    place = {"cpu": "the CPU", "cuda": "a GPU"}[SERVES[name]]
    raise ValueError(
        f"backend {name!r} was asked for tensors on {device_type!r}; move them to {place} "
        "or leave the choice of the backend open"
    )


def _forced(requested: str | None) -> str | None:
    name, source = (requested, "backend") if requested is not None else _process_choice
    return _known(name, source) if name else None


def _known(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source} is {name!r}; expected one of {', '.join(BACKENDS)}")
    return name


def _warn_slow(device: torch.device) -> None:
    """Say once per device type that nothing compiled serves it, and what to do."""
    device_type = device.type
    if device_type in _WARNED or torch.compiler.is_compiling():
        return
    _WARNED.add(device_type)
    missing = [
        f"{name}: {'; '.join(_missing(name, device))}"
        for name, served in SERVES.items()
        if served == device_type
    ]
    reason = ". ".join(missing) or f"no compiled backend serves {device_type} tensors"
    warnings.warn(
        f"the selective scan runs on the slow 'torch' backend: {reason}. "
        "`python -m mamba_mm` shows what is usable; backend='torch' silences this warning.",
        stacklevel=4,
    )
