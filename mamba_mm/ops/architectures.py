"""Which GPUs run what nvcc has compiled, and Triton's kernels: by their compute capability."""

from __future__ import annotations

import torch

# As TorchInductor asks of a GPU before it uses Triton (torch/utils/_triton.py).
TRITON_CAPABILITY = (7, 0)


def compute_capability(device: torch.device) -> tuple[int, int] | None:
    """Return that of a GPU, or None where there is none to ask and only shapes are traced."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.minor


def runs(architectures: str, capability: tuple[int, int]) -> bool:
    """Tell whether a GPU runs what was compiled for some architectures.

    Machine code runs on GPUs of the same major and the same or a later minor number, PTX on all
    later ones. A suffix narrows it down: with ``a`` the very GPU, with ``f`` those of the same
    major number (CUDA C++ Programming Guide, "Compute Capabilities").

    Args:
        architectures: Such as ``80;90a;100+PTX``.
        capability: Compute capability of the GPU.
    """
    return any(_runs_one(name, capability) for name in architectures.split(";"))


def _runs_one(name: str, capability: tuple[int, int]) -> bool:
    # Plain operations on strings, which torch.compile traces.
    number = name.removesuffix("+PTX")
    digits = number.rstrip("af")
    compiled = int(digits[:-1]), int(digits[-1])
    if number.endswith("a"):
        return capability == compiled
    if name.endswith("+PTX") and number == digits:
        return capability >= compiled
    return capability[0] == compiled[0] and capability >= compiled
