"""The plain PyTorch backend, for machines where nothing is compiled."""

import pytest
import torch
from scan_cases import Case, assert_exact, leaves

from mamba_mm.ops import selective_scan
from mamba_mm.ops.torch_scan import linear_recurrence


@pytest.mark.parametrize("length", [1, 2, 7, 49, 196, 197, 1000])
@pytest.mark.parametrize("fixed", [(), ("B",), ("C",)])
def test_against_the_definition(length, fixed):
    assert_exact(Case(length=length, groups=2, fixed=fixed), 3e-6, backend="torch")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes(dtype):
    tolerance = {torch.float64: 1e-13, torch.bfloat16: 2**-8}[dtype]
    assert_exact(Case(dtype=dtype), tolerance, backend="torch")


@pytest.mark.parametrize("length", range(1, 30))
def test_linear_recurrence(length):
    a, b = torch.rand(2, 3, length, dtype=torch.float64).unbind(0)
    state = torch.zeros(3, dtype=torch.float64)
    states = linear_recurrence(a, b)
    for t in range(length):
        state = a[:, t] * state + b[:, t]
        torch.testing.assert_close(states[:, t], state)


@pytest.mark.parametrize("empty", ["batch", "length"])
def test_empty(empty):
    case = Case(**{empty: 0})
    y, state = selective_scan(**case.arguments, return_last_state=True, backend="torch")
    assert y.shape == case.arguments["u"].shape
    assert state.shape == (case.batch, case.dim, case.states)


def test_it_can_be_differentiated_twice():
    case = Case(batch=1, dim=2, length=6, states=2, dtype=torch.float64)

    def function(*arguments):
        return selective_scan(*arguments, delta_softplus=True, backend="torch")

    inputs = [t for t in leaves(case.arguments).values()]
    assert torch.autograd.gradgradcheck(function, inputs)


def graph_size(t):
    seen, todo = set(), [t.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return len(seen)


def test_the_graph_grows_with_the_square_root_of_the_length():
    sizes = [
        graph_size(selective_scan(**leaves(Case(length=n).arguments), backend="torch"))
        for n in (256, 4096)
    ]
    assert sizes[1] < 6 * sizes[0]  # a step-by-step loop would make it 16 times as large


def test_compiles_for_one_length_after_another():
    def scan(arguments):
        return selective_scan(**arguments, backend="torch")

    compiled = torch.compile(scan, fullgraph=True, backend="eager", dynamic=True)
    for length in (5, 12, 40):
        arguments = leaves(Case(dtype=torch.float64, length=length).arguments)
        torch.testing.assert_close(compiled(arguments), scan(arguments))
