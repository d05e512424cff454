"""Loading what is compiled, and Triton's kernels: once, remembering why it could not be done."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

MIN_TORCH = (2, 10)
PACKAGE = Path(__file__).resolve().parents[1]
# What a Triton that does not go with this Python, torch or driver is known to raise on import.
TRITON_FAILURES = (ImportError, OSError, RuntimeError, AttributeError)


@dataclass(frozen=True)
class Extension:
    """The outcome of loading one set of kernels.

    Attributes:
        loaded: Whether its ops are registered under ``torch.ops.mamba_mm``.
        detail: Where it was loaded from, or why it was not.
        remedy: What to do when it was not, else empty.
        architectures: Of the CUDA library, what its kernels are compiled for, such as
            ``80;90;100+PTX``: compute capabilities, and from which one's PTX later GPUs run.
    """

    loaded: bool
    detail: str
    remedy: str = ""
    architectures: str = ""


def _load_extension(package: Path) -> Extension:
    """Load the library that lies in ``package`` and register its ops.

    It uses LibTorch's stable ABI, so the file is the same for every torch from 2.10 on.
    """
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < MIN_TORCH:
        return Extension(
            False,
            f"torch {torch.__version__} has no complete stable ABI",
            "install torch >= 2.10",
        )
    return _load_library(
        package,
        "_C",
        Extension(
            False,
            f"no compiled library in {package}",
            "install with a C++ compiler at hand, from a checkout: pip install --no-deps .",
        ),
    )


def _load_cuda_extension(package: Path, cpu: Extension) -> Extension:
    """Load the CUDA implementations of the ops whose schemas the CPU library has defined.

    The file also loads where there is no GPU, and under a torch without CUDA.
    """
    if not cpu.loaded:
        return Extension(
            False, f"it needs the library of the CPU, which is missing: {cpu.detail}", cpu.remedy
        )
    library = _load_library(
        package,
        "_C_cuda",
        Extension(
            False,
            f"no compiled CUDA library in {package}",
            "install with nvcc in PATH (or CUDA_HOME set), from a checkout: "
            "pip install --no-deps .",
        ),
    )
    if not library.loaded:
        return library
    if not hasattr(torch.ops.mamba_mm, "cuda_architectures"):
        return Extension(
            False,
            f"{library.detail} was built from an earlier version of this package",
            "build it again, from a checkout: pip install --no-deps .",
        )
    return replace(library, architectures=torch.ops.mamba_mm.cuda_architectures())


def _load_library(package: Path, name: str, absent: Extension) -> Extension:
    files = sorted(package.glob(f"{name}.*so"))
    if not files:
        return absent
    try:
        torch.ops.load_library(str(files[0]))
    except OSError as error:
        return Extension(
            False,
            f"{files[0].name} does not load under torch {torch.__version__}: {error}",
            "build it again on this machine, from a checkout: pip install --no-deps .",
        )
    return Extension(True, str(files[0]))


def _load_triton() -> Extension:
    try:
        triton = importlib.import_module("triton")
        for kernels in ("selective_scan", "route_scan"):
            importlib.import_module(f"{__package__}.triton.{kernels}")
    except TRITON_FAILURES as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "triton":
            return Extension(False, "Triton is not installed", "pip install triton")
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return Extension(
            False,
            f"importing Triton's kernels raises {type(error).__name__}: {reason}",
            "install the version of triton that goes with this torch: pip show torch",
        )
    return Extension(True, f"Triton {triton.__version__}")


# At import: the ops must exist before anything traces or registers kernels for them.
EXTENSION = _load_extension(PACKAGE)
CUDA_EXTENSION = _load_cuda_extension(PACKAGE, EXTENSION)
TRITON = _load_triton()
