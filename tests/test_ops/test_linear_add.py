import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mamba_mm.ops import linear_add


def tensors(shape, outputs, bias, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=generator, dtype=dtype).requires_grad_()

    return (
        draw(*shape),
        draw(outputs, shape[-1]),
        draw(outputs) if bias else None,
        draw(*shape[:-1], outputs),
    )


def plain(x, weight, bias, residual):
    return residual + F.linear(x, weight, bias)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 4, 6), (0, 3)])
def test_equals_the_sum_with_all_gradients(shape, bias):
    arguments = tensors(shape, 4, bias)
    y, expected = linear_add(*arguments), plain(*arguments)
    torch.testing.assert_close(y, expected)
    inputs = [t for t in arguments if t is not None]
    weights = torch.randn_like(y)
    for actual, wanted in zip(
        torch.autograd.grad(y, inputs, weights),
        torch.autograd.grad(expected, inputs, weights),
        strict=True,
    ):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("bias", [False, True])
def test_strided_operands(bias):
    x, weight, offset, residual = (
        None if t is None else t.detach() for t in tensors((2, 3, 4, 6), 4, bias)
    )
    x = x.permute(0, 2, 1, 3).contiguous().permute(0, 2, 1, 3)
    residual = residual.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    torch.testing.assert_close(
        linear_add(x, weight, offset, residual), plain(x, weight, offset, residual)
    )


@pytest.mark.parametrize("bias", [False, True])
def test_operands_are_left_as_they_are(bias):
    arguments = [t.detach() for t in tensors((6, 3), 4, bias) if t is not None]
    copies = [t.clone() for t in arguments]
    x, weight, *offset, residual = arguments
    linear_add(x, weight, offset[0] if bias else None, residual)
    assert all(torch.equal(t, copy) for t, copy in zip(arguments, copies, strict=True))


def test_autocast_and_mixed_precision_keep_the_residuals_precision():
    x, weight, bias, residual = tensors((6, 3), 4, True, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = linear_add(x, weight, bias, residual)
        assert y.dtype == torch.float32
        assert torch.equal(y, plain(x, weight, bias, residual))
    half = [t.bfloat16() for t in (x, weight, bias)]
    assert linear_add(*half, residual).dtype == torch.float32


@pytest.mark.parametrize("bias", [False, True])
def test_counted_and_compiled(bias):
    arguments = tensors((6, 3), 4, bias)
    with FlopCounterMode(display=False) as counter:
        linear_add(*arguments)
    assert counter.get_total_flops() == 2 * 6 * 3 * 4
    compiled = torch.compile(linear_add, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), linear_add(*arguments))
