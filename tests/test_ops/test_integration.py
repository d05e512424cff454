"""The compiled op as PyTorch sees it: registration, autograd, autocast, compile, export."""

import pytest
import torch
from scan_cases import Case, leaves, relative_error, run_with_gradients
from torch import library

from mamba_mm.ops import selective_scan, selective_scan_ref

pytestmark = pytest.mark.usefixtures("compiled")


def as_list(case, **keywords):
    return [t for t in leaves(case.arguments, **keywords).values()]


@pytest.mark.parametrize("fixed", [(), ("B",), ("C",)])
@pytest.mark.parametrize("length", [1, 5, 40])
def test_gradcheck(length, fixed):
    case = Case(batch=1, dim=3, length=length, states=2, fixed=fixed, dtype=torch.float64)

    def function(*arguments):
        return selective_scan(*arguments, delta_softplus=True, return_last_state=True)

    assert torch.autograd.gradcheck(function, as_list(case))


@pytest.mark.parametrize("options", [(), ("D", "z", "delta_bias")])
@pytest.mark.parametrize("length", [0, 5, 70])
def test_opcheck_forward(length, options):
    case = Case(dim=10, groups=2, length=length, options=options)
    library.opcheck(
        torch.ops.mamba_mm.selective_scan_fwd, (*as_list(case), True, True, torch.float32)
    )


@pytest.mark.parametrize("options", [(), ("D", "z", "delta_bias")])
def test_opcheck_backward(options):
    case = Case(dim=10, groups=2, length=70, options=options)
    tensors = list(case.arguments.values())
    y, state, checkpoints = torch.ops.mamba_mm.selective_scan_fwd(
        *tensors, True, True, torch.float32
    )
    library.opcheck(torch.ops.mamba_mm.selective_scan_bwd, (y, state, *tensors, True, checkpoints))


def test_gradients_of_frozen_parameters_are_not_needed():
    arguments = leaves(Case().arguments)
    arguments["A"].requires_grad_(False)
    selective_scan(**arguments, delta_softplus=True).sum().backward()
    assert arguments["A"].grad is None
    assert arguments["u"].grad is not None


def test_gradient_of_the_last_state_alone():
    case = Case(options=("delta_bias",))
    arguments, reference = leaves(case.arguments), leaves(case.arguments, torch.float64)
    for function, given in ((selective_scan, arguments), (selective_scan_ref, reference)):
        _, state = function(**given, delta_softplus=True, return_last_state=True)
        state.square().sum().backward()
    assert relative_error(arguments["u"].grad, reference["u"].grad) < 3e-6
    assert relative_error(arguments["A"].grad, reference["A"].grad) < 3e-6


def test_double_backward_raises_clearly():
    arguments = leaves(Case(length=8).arguments)
    y = selective_scan(**arguments, delta_softplus=True)
    (gradient,) = torch.autograd.grad(y.sum(), arguments["u"], create_graph=True)
    with pytest.raises(RuntimeError, match="no double backward; use backend='torch'"):
        gradient.sum().backward()


def test_compile_without_graph_breaks():
    case = Case(dim=10, groups=2)
    eager = run_with_gradients(leaves(case.arguments), True)
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager")
    traced = run_with_gradients(leaves(case.arguments), True, function=compiled)
    for name in eager:
        assert torch.equal(eager[name], traced[name]), name


@pytest.mark.slow
def test_compile_with_inductor():
    case = Case(dim=10, groups=2)
    eager = run_with_gradients(leaves(case.arguments), True)
    compiled = torch.compile(selective_scan, fullgraph=True)
    traced = run_with_gradients(leaves(case.arguments), True, function=compiled)
    for name in eager:
        assert torch.allclose(eager[name], traced[name], rtol=1e-5, atol=1e-6), name


class Scan(torch.nn.Module):
    def forward(self, u, delta, A, B, C, D):
        return selective_scan(u, delta, A, B, C, D, delta_softplus=True)


def test_export_with_dynamic_batch_and_length():
    batch, length = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=2)
    sequence, projection = {0: batch, 2: length}, {0: batch, 3: length}
    shapes = (sequence, sequence, {}, projection, projection, {})
    names = ("u", "delta", "A", "B", "C", "D")
    small, large = (
        [Case(batch=b, length=n, dim=6, groups=2).arguments[name] for name in names]
        for b, n in ((2, 40), (3, 131))
    )
    program = torch.export.export(Scan(), tuple(small), dynamic_shapes=shapes)
    assert torch.equal(program.module()(*large), Scan()(*large))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_activations_and_keeps_parameters(dtype):
    case = Case(dim=10, groups=2)
    arguments = leaves(case.arguments)
    with torch.autocast("cpu", dtype=dtype):
        y, state = selective_scan(**arguments, delta_softplus=True, return_last_state=True)
        wide = selective_scan(**arguments, delta_softplus=True, out_dtype=torch.float32)
    assert (y.dtype, state.dtype, wide.dtype) == (dtype, torch.float32, torch.float32)
    rounded = {
        name: t if t is None or name in ("A", "D", "delta_bias") else t.to(dtype).double()
        for name, t in case.arguments.items()
    }
    rounded = {name: t.double() for name, t in rounded.items()}
    expected = selective_scan_ref(**rounded, delta_softplus=True)
    assert relative_error(wide, expected) < 3e-6
    y.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in arguments.values())


def test_parameters_in_half_precision_are_widened():
    case = Case(dtype=torch.bfloat16)
    narrow = {name: t.bfloat16() for name, t in case.arguments.items()}
    wide = dict(narrow, **{name: narrow[name].float() for name in ("A", "D", "delta_bias")})
    assert torch.equal(
        selective_scan(**narrow, delta_softplus=True), selective_scan(**wide, delta_softplus=True)
    )


def test_one_float64_argument_makes_the_computation_float64():
    case = Case()
    arguments = dict(case.arguments, delta=case.arguments["delta"].double())
    y, state = selective_scan(**arguments, delta_softplus=True, return_last_state=True)
    expected = selective_scan_ref(
        **{name: t.double() for name, t in arguments.items()}, delta_softplus=True
    )
    assert (y.dtype, state.dtype) == (torch.float32, torch.float64)
    assert relative_error(y, expected) < 1e-7


def test_activation_checkpointing_gives_the_same_gradients():
    case = Case()
    plain = run_with_gradients(leaves(case.arguments), True)

    def checkpointed(*, delta_softplus, return_last_state, **tensors):
        def run(*values):
            return selective_scan(
                *values, delta_softplus=delta_softplus, return_last_state=return_last_state
            )

        return torch.utils.checkpoint.checkpoint(run, *tensors.values(), use_reentrant=False)

    again = run_with_gradients(leaves(case.arguments), True, function=checkpointed)
    for name in plain:
        assert torch.equal(plain[name], again[name]), name


def test_flops_in_mmengine_and_torch():
    batch, dim, length, states = 2, 6, 40, 3
    case = Case(batch=batch, dim=dim, length=length, states=states, groups=2)
    arguments = tuple(case.arguments[name] for name in ("u", "delta", "A", "B", "C", "D"))
    # By hand: 9 operations a state, and one for the skip.
    expected = batch * dim * length * (9 * states + 1)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        Scan()(*arguments)
    assert counter.get_total_flops() == expected
    analysis = pytest.importorskip("mmengine.analysis", reason="MMEngine is not installed")
    assert analysis.FlopAnalyzer(Scan(), arguments).total() == expected
    gated = {**case.arguments}

    class Gated(torch.nn.Module):
        def forward(self, u, delta, A, B, C, D, z):
            return selective_scan(u, delta, A, B, C, D, z)

    seven = tuple(gated[name] for name in ("u", "delta", "A", "B", "C", "D", "z"))
    assert analysis.FlopAnalyzer(Gated(), seven).total() == expected + batch * dim * length


@pytest.mark.parametrize("name", ["selective_scan_fwd", "route_scan_fwd"])
def test_the_triton_ops_are_counted_by_the_same_formulas(name):
    analysis = pytest.importorskip("mmengine.analysis.complexity_analysis")
    handles = analysis._DEFAULT_SUPPORTED_FLOP_OPS
    assert handles[f"mamba_mm::triton_{name}"] is handles[f"mamba_mm::{name}"]
