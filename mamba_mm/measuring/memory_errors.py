"""Which errors mean that memory ran out."""

from __future__ import annotations

import torch


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of PyTorch means that memory ran out.

    On CUDA it has a class of its own. The CPU's allocator raises a plain RuntimeError that
    is known by its name in the text.
    """
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)
