"""Reading along walks and adding back: exact, adjoint, differentiable, deterministic."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from route_definitions import SIZES

from mamba_mm.ops.routes import (
    ROUTE_SETS,
    RouteIndex,
    RouteSet,
    RouteTables,
    check_index,
    clear_table_cache,
    index_of,
    route_gather,
    route_merge,
    route_restore,
    route_set,
)

exactly = settings(derandomize=True, deadline=None, max_examples=60, database=None)


def static_sets():
    """Every preset that has tables, one branch at a time, layers of LocalMamba by their first."""
    for name, value in ROUTE_SETS.items():
        preset = value[0] if isinstance(value, tuple) else value
        if not preset.dynamic:
            for branch in range(preset.num_branches):
                yield pytest.param(preset.on_branch(branch), id=f"{name}-{branch}")


every_set = pytest.mark.parametrize("routes", list(static_sets()))


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gathered_slowly(x, index):
    """Step by step; x is (B, C, T) or (B, K, C, T), index (K, L) or (B, K, L)."""
    index = index.expand(len(x), *index.shape[-2:])
    batch, sequences, length = index.shape
    out = torch.zeros(batch, sequences, x.shape[-2], length, dtype=x.dtype)
    for b in range(batch):
        for k in range(sequences):
            for t, token in enumerate(index[b, k].tolist()):
                if token >= 0:
                    out[b, k, :, t] = x[b, :, token] if x.dim() == 3 else x[b, k, :, token]
    return out


def restored_slowly(y, index, tokens):
    index = index.expand(len(y), *index.shape[-2:])
    out = torch.zeros(*y.shape[:3], tokens, dtype=y.dtype)
    for b in range(len(y)):
        for k in range(y.shape[1]):
            for t, token in enumerate(index[b, k].tolist()):
                if token >= 0:
                    out[b, k, :, token] += y[b, k, :, t]
    return out


@every_set
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (3, 4), (7, 5)])
def test_gather_and_merge_equal_loops(routes, size):
    tables = routes.tables(*size)
    x = randn(2, 3, tables.tokens)
    rows = randn(2, tables.sequences, 3, tables.tokens, seed=1)
    y = randn(2, tables.sequences, 3, tables.length, seed=2)
    for values in (x, rows):
        assert torch.equal(route_gather(values, tables), gathered_slowly(values, tables.read))
        by_project = route_gather(values, tables, which="project")
        assert torch.equal(by_project, gathered_slowly(values, tables.project))
    restored = restored_slowly(y, tables.write, tables.tokens)
    torch.testing.assert_close(route_restore(y, tables), restored, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(route_merge(y, tables), restored.sum(1), rtol=1e-14, atol=1e-14)


@every_set
def test_gather_and_merge_are_adjoint(routes):
    for size in ((1, 1), (2, 3), (5, 7), (8, 12)):
        tables = routes.tables(*size)
        if tables.write is not tables.read:
            continue  # A shifted output is added elsewhere than it was read.
        x = randn(2, 3, tables.tokens)
        y = randn(2, tables.sequences, 3, tables.length, seed=1)
        product = (route_gather(x, tables) * y).sum()
        torch.testing.assert_close(product, (x * route_merge(y, tables)).sum(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("name", "times"), [("cross", 4), ("atrous2", 1), ("fer", 8)])
def test_merging_a_walk_multiplies_by_the_number_of_visits(name, times):
    for size in SIZES:
        tables = route_set(name).tables(*size)
        # Whole numbers, so that sums of doubles are exact.
        x = torch.randint(-100, 100, (2, 3, tables.tokens), dtype=torch.float64)
        assert torch.equal(route_merge(route_gather(x, tables), tables), times * x)


WALKS = ["row", "~col", "zigzag:ud", "window(2)", "~window(3):lr", "phase(2,1,0,col)", "spiral"]


@exactly
@given(
    st.lists(st.sampled_from(WALKS), min_size=1, max_size=4),
    st.booleans(),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_merge_of_gather_counts_visits(names, join, height, width):
    routes = RouteSet(names, join=[range(len(names))] if join else None)
    tables = routes.tables(height, width)
    visits = torch.bincount(tables.read[tables.read >= 0].long(), minlength=height * width)
    x = torch.randint(-9, 9, (1, 2, height * width), dtype=torch.float64)
    assert torch.equal(route_merge(route_gather(x, tables), tables), visits * x)


@exactly
@given(st.lists(st.sampled_from(WALKS), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_the_gradient_of_each_is_the_other(names, join, per_row):
    routes = RouteSet(names, join=[range(len(names))] if join else None)
    tables = routes.tables(3, 4)
    shape = (2, tables.sequences, 3, 12) if per_row else (2, 3, 12)
    x = randn(*shape).requires_grad_()
    y = randn(2, tables.sequences, 3, tables.length, seed=1).requires_grad_()
    back = route_restore if per_row else route_merge
    (of_gather,) = torch.autograd.grad(route_gather(x, tables), x, y)
    assert torch.equal(of_gather, back(y, tables))
    (of_merge,) = torch.autograd.grad(back(y, tables), y, x)
    assert torch.equal(of_merge, route_gather(x, tables))


def index_cases():
    pads = torch.tensor([[0, 2, -1, 5], [-1, -1, 4, 1]])
    per_sample = torch.tensor([[[0, 2, 3], [5, -1, 1]], [[4, 1, 0], [-1, 2, 3]]])
    full = torch.tensor([[0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]])
    joined = RouteSet(["row", "~window(2)", "col"], join=[[0, 1], [2]]).tables(2, 3)
    return {
        "full": (full, None),
        "pads": (pads, None),
        "per_sample": (per_sample, None),
        "cross": (route_set("cross").tables(2, 3), None),
        "window": (RouteSet(["window(2)", "~col"]).tables(2, 3), None),
        "joined": (joined, None),
        "shift": (route_set("hydra").tables(2, 3), None),
        "reindexed": (index_of(pads, 6), None),
    }


@pytest.mark.parametrize("case", index_cases())
@pytest.mark.parametrize("per_row", [False, True])
def test_gradients_of_any_order(case, per_row):
    routes = index_cases()[case][0]
    index = routes.read if isinstance(routes, RouteTables) else routes
    index = index.index if isinstance(index, RouteIndex) else index
    sequences, length = index.shape[-2:]
    x = randn(*((2, sequences, 2, 6) if per_row else (2, 2, 6))).requires_grad_()
    y = randn(2, sequences, 2, length, seed=1).requires_grad_()
    back = route_restore if per_row else route_merge
    for function, value in (
        (lambda x: route_gather(x, routes), x),
        (lambda y: back(y, routes, tokens=6), y),
    ):
        assert torch.autograd.gradcheck(function, value, atol=1e-10)
        assert torch.autograd.gradgradcheck(function, value, atol=1e-10)


def without_fast_path(tables):
    return tables.reading, tables.writing


@pytest.mark.parametrize("name", ["cross", "bidirectional", "mhsvm_z", "hydra"])
def test_the_fast_path_gives_the_same_bits(name):
    for size in SIZES:
        tables = route_set(name).tables(*size)
        reading, writing = without_fast_path(tables)
        x = randn(2, 3, tables.tokens).float()
        rows = randn(2, tables.sequences, 3, tables.tokens, seed=1).float()
        y = randn(2, tables.sequences, 3, tables.length, seed=2).float()
        assert torch.equal(route_gather(x, tables), route_gather(x, reading))
        assert torch.equal(route_gather(rows, tables), route_gather(rows, reading))
        assert torch.equal(route_merge(y, tables), route_merge(y, writing))
        assert torch.equal(route_restore(y, tables), route_restore(y, writing))


@pytest.mark.parametrize("name", ["cross", "serpentine", "atrous2"])
def test_maps_of_any_memory_format(name):
    tables = route_set(name).tables(4, 6)
    maps = randn(2, 3, 4, 6)
    expected = route_gather(maps.flatten(-2), tables)
    for given_maps in (
        maps,
        maps.to(memory_format=torch.channels_last),
        maps.transpose(0, 1).contiguous().transpose(0, 1),
        maps.flip(-1).contiguous().flip(-1),
    ):
        assert torch.equal(route_gather(given_maps, tables), expected)
    each = randn(2, 4, 3, 4, 6)
    expected = route_gather(each.flatten(-2), tables)
    assert torch.equal(route_gather(each, tables), expected)
    strided = each.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2)
    assert torch.equal(route_gather(strided, tables), expected)


def test_tokens_and_maps_of_one_row_are_told_apart():
    tables = RouteSet(["row", "~row", "row"]).tables(1, 5)
    rows = randn(2, 3, 4, 5)
    assert torch.equal(route_gather(rows, tables), gathered_slowly(rows, tables.read))
    maps = randn(2, 4, 1, 5)
    assert torch.equal(route_gather(maps, tables), gathered_slowly(maps[:, :, 0], tables.read))
    # Three channels of height one, or three rows of one channel: taken for the latter.
    both = randn(2, 3, 1, 5)
    assert torch.equal(route_gather(both, tables), gathered_slowly(both, tables.read))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["cross", "fer", "msvmamba_v1"])
def test_sums_run_in_float32(name, dtype):
    preset = route_set(name)
    tables = preset.on_branch(preset.num_branches - 1).tables(5, 6)
    y = randn(2, tables.sequences, 3, tables.length).to(dtype)
    merged = route_merge(y, tables)
    assert merged.dtype == dtype
    assert torch.equal(merged, route_merge(y.float(), tables).to(dtype))
    x = randn(2, 3, tables.tokens).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(route_gather(x, tables), x, y)
    assert torch.equal(gradient, merged)
    assert torch.equal(route_restore(y, tables), route_restore(y.float(), tables).to(dtype))


@every_set
def test_the_same_inputs_give_the_same_bits(routes):
    tables = routes.tables(9, 7)

    def run():
        x = randn(2, 5, tables.tokens).float().requires_grad_()
        y = route_merge(route_gather(x, tables).sin(), tables)
        return y, torch.autograd.grad(y.square().sum(), x)[0]

    first = run()
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True)  # raises where an operation is not
    try:
        second = run()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_empty_batches_pass():
    for name in ("cross", "serpentine", "vim"):
        tables = route_set(name).tables(2, 3)
        x = torch.zeros(0, 4, tables.tokens, requires_grad=True)
        y = route_merge(route_gather(x, tables), tables)
        assert y.shape == x.shape
        y.sum().backward()
        assert x.grad.shape == x.shape


# --- indices made at run time


@exactly
@given(st.data())
def test_an_index_of_the_call_equals_loops(data):
    batch, sequences, tokens = (data.draw(st.integers(1, 3)) for _ in range(3))
    tokens += 3
    length = data.draw(st.integers(1, 2 * tokens))
    rows = st.permutations([*range(tokens), *[-1] * tokens]).map(lambda p: p[:length])
    shape = (batch, sequences) if data.draw(st.booleans()) else (sequences,)
    flat = [data.draw(rows) for _ in range(torch.Size(shape).numel())]
    index = torch.tensor(flat).view(*shape, length)
    x, y = randn(batch, 2, tokens), randn(batch, sequences, 2, length, seed=1)
    assert torch.equal(route_gather(x, index), gathered_slowly(x, index))
    assert torch.equal(route_gather(x, index.int()), gathered_slowly(x, index))
    restored = restored_slowly(y, index, tokens)
    assert torch.equal(route_restore(y, index, tokens), restored)
    torch.testing.assert_close(route_merge(y, index, tokens), restored.sum(1))


def test_an_index_may_visit_a_token_as_often_as_is_said():
    index = torch.tensor([[0, 1, 0, -1, 0], [1, -1, 0, 0, 1]])
    made = index_of(index, 3, visits=3)
    assert made.inverse.tolist() == [
        [[0, 1, -1], [2, -1, -1], [4, -1, -1]],
        [[2, 0, -1], [3, 4, -1], [-1, -1, -1]],
    ]
    y = randn(1, 2, 2, 5)
    torch.testing.assert_close(route_restore(y, made), restored_slowly(y, index, 3))
    with pytest.raises(ValueError, match=r"names token 0 more than 2 time\(s\) in one sequence"):
        index_of(index, 3, visits=2)


def test_wrong_indices_are_refused():
    x = torch.zeros(2, 3, 6)
    for index, message in (
        ([[0, 6]], "entries from 0 to 6, expected -1 to 5"),
        ([[-2, 0]], "entries from -2 to 0, expected -1 to 5"),
        ([[3, 1, 3]], r"names token 3 more than 1 time\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            route_gather(x, torch.tensor(index))
    with pytest.raises(ValueError, match="dtype int32 or int64 and at least one dimension, got"):
        route_gather(x, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"got \(3,\), expected an index \(K, L\) or \(B, K, L\)"):
        route_gather(x, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="a bare index does not tell the number of tokens"):
        route_merge(torch.zeros(2, 1, 3, 2), torch.tensor([[0, 1]]))
    check_index(torch.tensor([[[0, -1, 5, -1]]]), 6)


def test_wrong_shapes_are_refused():
    tables = route_set("cross").tables(2, 3)
    for shape in ((2, 3, 7), (2, 3, 4, 6), (2, 6), (2, 5, 3, 2, 3), (2, 3, 3, 2)):
        with pytest.raises(ValueError, match="route_gather: x has shape"):
            route_gather(torch.zeros(shape), tables)
    for routes in (tables, tables.writing):
        for shape in ((2, 3, 1, 6), (2, 4, 1, 7), (4, 1, 6)):
            for back in (route_merge, route_restore):
                with pytest.raises(ValueError, match=r"y has shape .*, expected \(B, 4, C, 6\)"):
                    back(torch.zeros(shape), routes)


# --- tracing


class Walk(torch.nn.Module):
    def __init__(self, *names):
        super().__init__()
        self.sets = [route_set(name) for name in names]

    def forward(self, x):
        for routes in self.sets:
            tables = routes.tables(*x.shape[-2:], x.device)
            y = route_merge(route_gather(x, tables).sin(), tables)
            x = y.unflatten(-1, x.shape[-2:])
        return x


def value_and_gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


@pytest.mark.parametrize(("dynamic", "backend"), [(False, "aot_eager"), (None, "eager")])
def test_tables_are_constants_to_torch_compile(dynamic, backend):
    torch._dynamo.reset()
    clear_table_cache()
    module = Walk("cross", "serpentine")
    compiled = torch.compile(module, fullgraph=True, dynamic=dynamic, backend=backend)
    for size in ((3, 4), (2, 5), (3, 4)):
        x = torch.randn(2, 3, *size)
        pairs = zip(value_and_gradient(compiled, x), value_and_gradient(module, x), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_sizes_may_be_symbols():
    torch._dynamo.reset()
    module = Walk("cross", "serpentine")
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="eager")
    x = torch.randn(2, 3, 3, 4)
    assert torch.equal(compiled(x), module(x))


@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    clear_table_cache()
    module = Walk("serpentine", "cross")
    x = torch.randn(2, 3, 3, 4)
    exported = torch.export.export(module, (x,), strict=strict).module()
    assert torch.equal(exported(x), module(x))


def test_an_index_of_the_call_is_traced():
    torch._dynamo.reset()

    def walk(x, index):
        return route_merge(route_gather(x, index).sin(), index, x.shape[-1])

    compiled = torch.compile(walk, fullgraph=True, backend="aot_eager")
    x, index = torch.randn(2, 3, 6), torch.stack([torch.randperm(6)[:4] for _ in range(4)])
    index = index.view(2, 2, 4)
    for a, b in zip(
        value_and_gradient(lambda x: compiled(x, index), x),
        value_and_gradient(lambda x: walk(x, index), x),
        strict=True,
    ):
        assert torch.equal(a, b)
