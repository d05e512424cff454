"""The most memory that a call holds at once."""

import pytest
import torch

from mamba_mm.measuring.peak_memory import peak_bytes

MIB = 2**20


def floats(mebibytes):
    return torch.empty(mebibytes * MIB // 4)


def test_peak_counts_what_is_freed_within_the_call():
    def chain():
        a = floats(4)
        b = floats(8)
        del a
        c = floats(2)
        del b, c

    assert peak_bytes(chain) == 12 * MIB
    assert peak_bytes(lambda: None) == 0


def test_peak_does_not_depend_on_memory_from_before():
    """Memory of an earlier measured call that is freed in this one makes no room."""
    kept = []
    assert peak_bytes(lambda: kept.append(floats(4))) == 4 * MIB

    def replace():
        kept.clear()
        kept.append(floats(8))

    assert peak_bytes(replace) == 8 * MIB


def test_peak_counts_the_backward_pass():
    x = floats(4).requires_grad_()
    # The result of exp, which is kept, and the gradient.
    peak = peak_bytes(lambda: x.exp().sum().backward())
    assert 8 * MIB <= peak < 8 * MIB + 4096


def test_peak_counts_tensors_of_compiled_ops():
    from mamba_mm.ops.extension import EXTENSION

    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")
    channels, length = 64, 4096
    u = torch.randn(1, channels, length)
    A, B, D = -torch.ones(channels, 1), torch.randn(1, 1, 1, length), torch.ones(channels)
    outputs = []

    def run():
        outputs.append(
            torch.ops.mamba_mm.selective_scan_fwd(
                u, u, A, B, B, D, None, None, True, True, torch.float32
            )
        )

    peak = peak_bytes(run)
    returned = sum(t.untyped_storage().nbytes() for t in outputs[0])
    assert returned <= peak < 2 * returned
