"""Which errors mean that memory ran out."""

import pytest
import torch

from mamba_mm.measuring.memory_errors import is_out_of_memory


def test_the_allocators_say_so():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("inconsistent tensor size"))
