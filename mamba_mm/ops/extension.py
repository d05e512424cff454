"""Loading the compiled library, once, and remembering why it could not be loaded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

MIN_TORCH = (2, 10)
PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Extension:
    """The outcome of loading the compiled library.

    Attributes:
        loaded: Whether its ops are registered under ``torch.ops.mamba_mm``.
        detail: Where it was loaded from, or why it was not.
        remedy: What to do when it was not, else empty.
    """

    loaded: bool
    detail: str
    remedy: str = ""


@functools.cache
def load_extension(package: Path = PACKAGE) -> Extension:
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
    files = sorted(package.glob("_C*.so"))
    if not files:
        return Extension(
            False,
            f"no compiled library in {package}",
            "install with a C++ compiler at hand: pip install --force-reinstall --no-deps mamba_mm, "
            "or in a checkout: pip install --no-deps -e .",
        )
    try:
        torch.ops.load_library(str(files[0]))
    except OSError as error:
        return Extension(
            False,
            f"{files[0].name} does not load under torch {torch.__version__}: {error}",
            "build it again for this machine: pip install --force-reinstall --no-deps mamba_mm",
        )
    return Extension(True, str(files[0]))
