import pytest
import torch
import torch.nn.functional as F
from scan_cases import relative_error
from torch import library

from mamba_mm.ops import linear_gelu

SHAPES = [(7, 5), (1, 1), (2, 3, 4, 33), (130, 16), (0, 8)]


def layer(columns, outputs, dtype=torch.float32):
    generator = torch.Generator().manual_seed(columns)
    weight = torch.randn(outputs, columns, generator=generator)
    return weight.to(dtype), (2 * torch.randn(outputs, generator=generator)).to(dtype)


@pytest.mark.parametrize("outputs", [1, 15, 16, 64, 133])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_linear_and_gelu_with_all_gradients(shape, outputs, instruction_set):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    arguments = [t.requires_grad_() for t in (x, *layer(shape[-1], outputs))]
    exact = [t.detach().double().requires_grad_() for t in arguments]
    y, expected = linear_gelu(*arguments), F.gelu(F.linear(*exact))
    weights = torch.randn(y.shape, generator=generator)
    gradients = torch.autograd.grad(y, arguments, weights)
    wanted = torch.autograd.grad(expected, exact, weights.double())
    for actual, t in zip((y, *gradients), (expected, *wanted), strict=True):
        assert actual.shape == t.shape
        assert relative_error(actual, t) < 3e-6
    with torch.no_grad():
        assert torch.equal(linear_gelu(*arguments), y)


def gelu_alone(x):
    return torch.ops.mamba_mm.bias_gelu(x[:, None], torch.zeros(1))[:, 0]


def test_gelu_is_exact_from_tail_to_tail(instruction_set):
    x = torch.linspace(-20, 20, 100_001)
    exact = F.gelu(x.double())
    error = (gelu_alone(x) - exact).abs()
    assert (error / x.abs().clamp_min(1)).max() < 1.5e-7
    # Also where the result is small beside x: relative to the result itself.
    tail = (x > -5) & (x < -0.1)
    assert (error / exact.abs())[tail].max() < 3e-6


def test_slope_is_exact_from_tail_to_tail(instruction_set):
    x = torch.linspace(-20, 20, 100_001)
    wide = x.double().requires_grad_()
    (exact,) = torch.autograd.grad(F.gelu(wide).sum(), wide)
    ones = torch.ones_like(x)[:, None]
    slope = torch.ops.mamba_mm.bias_gelu_bwd(ones, x[:, None], torch.zeros(1))[:, 0]
    assert (slope - exact).abs().max() < 3e-7


def test_extreme_values(instruction_set):
    x = torch.tensor([float("nan"), float("inf"), 1e30, 0.0, -1e30, float("-inf")])
    y = gelu_alone(x)
    assert y[0].isnan()
    assert y[1:4].tolist() == [float("inf"), pytest.approx(1e30), 0.0]
    assert y[4:].abs().max() < 1e-30


def test_input_is_left_as_it_is():
    x, (weight, bias) = torch.randn(6, 4), layer(4, 8)
    copies = [t.clone() for t in (x, weight, bias)]
    with torch.no_grad():
        linear_gelu(x, weight, bias)
    for t, copy in zip((x, weight, bias), copies, strict=True):
        assert torch.equal(t, copy)


def test_other_dtypes_and_autocast_take_pytorchs_own():
    x, (weight, bias) = torch.randn(6, 4), layer(4, 8)
    for dtype in (torch.float64, torch.bfloat16):
        cast = [t.to(dtype) for t in (x, weight, bias)]
        assert torch.equal(linear_gelu(*cast), F.gelu(F.linear(*cast)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear_gelu(x, weight, bias), F.gelu(F.linear(x, weight, bias)))


def test_only_gradients_that_are_asked_for():
    x, (weight, bias) = torch.randn(6, 4), layer(4, 8)
    bias.requires_grad_()
    (gradient,) = torch.autograd.grad(linear_gelu(x, weight, bias).sum(), bias)
    bias_alone = F.gelu(F.linear(x, weight, bias)).sum()
    torch.testing.assert_close(gradient, *torch.autograd.grad(bias_alone, bias))


def test_opcheck_compile_and_double_backward():
    x, (weight, bias) = torch.randn(5, 7, requires_grad=True), layer(7, 7)
    rows = (x, bias.requires_grad_())
    library.opcheck(torch.ops.mamba_mm.bias_gelu.default, rows)
    detached = tuple(t.detach() for t in rows)
    library.opcheck(torch.ops.mamba_mm.bias_gelu_.default, detached)

    compiled = torch.compile(linear_gelu, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, weight, bias), linear_gelu(x, weight, bias))

    (gradient,) = torch.autograd.grad(linear_gelu(x, weight, bias).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(gradient.sum(), x)


def test_wrong_shapes_are_refused():
    with pytest.raises(RuntimeError, match="bias has a shape that does not fit"):
        torch.ops.mamba_mm.bias_gelu(torch.randn(3, 4), torch.randn(5))
    with pytest.raises(RuntimeError, match="float32 and contiguous"):
        torch.ops.mamba_mm.bias_gelu(torch.randn(4, 3).t(), torch.randn(4))
