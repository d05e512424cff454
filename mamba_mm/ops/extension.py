"""Loading the compiled library, once, and remembering why it could not be loaded."""

from __future__ import annotations

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
    files = sorted(package.glob("_C*.so"))
    if not files:
        return Extension(
            False,
            f"no compiled library in {package}",
            "install with a C++ compiler at hand, from a checkout: pip install --no-deps .",
        )
    try:
        torch.ops.load_library(str(files[0]))
    except OSError as error:
        return Extension(
            False,
            f"{files[0].name} does not load under torch {torch.__version__}: {error}",
            "build it again on this machine, from a checkout: pip install --no-deps .",
        )
    return Extension(True, str(files[0]))


# At import: the ops must exist before anything traces or registers kernels for them.
EXTENSION = _load_extension(PACKAGE)
