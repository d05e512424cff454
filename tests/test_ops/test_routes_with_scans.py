"""Scans along routes, held against a recurrence written token by token."""

import dataclasses

import numpy as np
import pytest
import route_definitions as definitions
import torch
import torch.nn.functional as F
from route_definitions import table

from mamba_mm.ops import selective_scan
from mamba_mm.ops.routes import (
    NUM_CODES,
    ROUTE_SETS,
    RouteSet,
    align_pruned,
    dynamic_index,
    group_permutation,
    merge_sequences,
    pruned_table,
    reorder_groups,
    route_gather,
    route_merge,
    route_set,
    sorted_order,
)

INNER, STATES, RANK, BATCH = 3, 2, 2, 2


def randn(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@dataclasses.dataclass
class Parameters:
    """The stack of one layer; G groups."""

    x_proj: torch.Tensor
    dt_proj: torch.Tensor
    dt_bias: torch.Tensor
    A_logs: torch.Tensor
    D: torch.Tensor
    codes: torch.Tensor

    @classmethod
    def random(cls, groups, inner=INNER, seed=7):
        return cls(
            randn(groups, RANK + 2 * STATES, inner, seed=seed),
            randn(groups, inner, RANK, seed=seed + 1),
            randn(groups, inner, seed=seed + 2),
            randn(groups * inner, STATES, seed=seed + 3),
            randn(groups * inner, seed=seed + 4),
            randn(NUM_CODES, STATES, seed=seed + 5),
        )

    def reordered(self, permutation):
        stacks = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        codes = stacks.pop("codes")
        moved = {name: reorder_groups(stack, permutation) for name, stack in stacks.items()}
        return Parameters(codes=codes, **moved)


def scan(tokens, parameters, routes, tables, *, gather_first=False):
    """Sequences (B, K, E, L) of tokens (B, E, T), by the ops of the package."""
    walked = walk(tokens, parameters, routes, tables, gather_first=gather_first)
    return scan_walked(walked, parameters, routes)


def walk(tokens, parameters, routes, tables, *, gather_first=False):
    """What the scan reads step by step: u and delta (B, K, E, L), B and C (B, K, N, L)."""
    groups = list(routes.param_group)
    x_proj = parameters.x_proj[groups]
    u = route_gather(tokens, tables)
    if gather_first:
        along = route_gather(tokens, tables, which="project")
        walked = torch.einsum("kre,bkel->bkrl", x_proj, along)
    else:
        projected = torch.einsum("kre,bet->bkrt", x_proj, tokens)
        walked = route_gather(projected, tables, which="project")
    dt, B, C = walked.split((RANK, STATES, STATES), dim=2)
    if routes.codes:
        B = B + parameters.codes[tables.codes].mT
    return u, torch.einsum("ker,bkrl->bkel", parameters.dt_proj[groups], dt), B, C


def scan_walked(walked, parameters, routes):
    u, delta, B, C = walked
    groups, inner = list(routes.param_group), u.shape[2]
    A_logs, D = parameters.A_logs.view(-1, inner, STATES), parameters.D.view(-1, inner)
    y = selective_scan(
        u.flatten(1, 2),
        delta.flatten(1, 2),
        -torch.exp(A_logs[groups].flatten(0, 1)),
        B,
        C,
        D[groups].flatten(),
        delta_bias=parameters.dt_bias[groups].flatten(),
        delta_softplus=True,
    )
    return y.unflatten(1, (len(groups), inner))


def scan_map(maps, parameters, routes):
    """Scan maps (B, E, H, W) and sum: one branch, no extra token."""
    tables = routes.tables(*maps.shape[-2:])
    y = scan(maps.flatten(-2), parameters, routes, tables)
    return route_merge(y, tables).unflatten(-1, maps.shape[-2:])


def scan_slowly(tokens, parameters, sequences, groups, **options):
    """Add the outputs of sequences (tables with -1 for pads) to the tokens, one by one."""
    total = np.zeros(tokens.shape)
    for sequence, group in zip(sequences, groups, strict=True):
        for b in range(len(tokens)):
            walk_slowly(tokens[b].numpy(), parameters, sequence, group, total[b], **options)
    return torch.from_numpy(total)


def walk_slowly(
    x, parameters, steps, group, total, *, raster=False, codes=None, shift=0, skip_pads=False
):
    """Walk one sequence over x (E, T) and add its outputs to ``total``."""
    inner = x.shape[0]
    own = slice(group * inner, (group + 1) * inner)
    A = -np.exp(parameters.A_logs[own].numpy())
    D, bias = parameters.D[own].numpy(), parameters.dt_bias[group].numpy()
    x_proj, dt_proj = parameters.x_proj[group].numpy(), parameters.dt_proj[group].numpy()
    state = np.zeros((inner, STATES))
    previous = None
    for t, token in enumerate(steps):
        if token < 0 and skip_pads:
            continue
        u = x[:, token] if token >= 0 else np.zeros(inner)
        source = x[:, t] if raster else u
        dt, B, C = np.split(x_proj @ source, [RANK, RANK + STATES])
        if codes is not None:
            B = B + parameters.codes[codes[t]].numpy()
        delta = np.log1p(np.exp(dt_proj @ dt + bias))
        state = np.exp(delta[:, None] * A) * state + (delta * u)[:, None] * B
        y = state @ C + D * u
        if token >= 0 and not shift:
            total[:, token] += y
        if shift and previous is not None and token >= 0:
            total[:, token] += previous
        previous = y


SYSTEMS = [
    name for name, value in ROUTE_SETS.items() if not isinstance(value, tuple) and not value.dynamic
]


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 3)])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_preset_equals_the_recurrence(name, size):
    preset = route_set(name)
    for branch, walks in enumerate(definitions.system(name, *size)):
        routes = preset.on_branch(branch)
        tables = routes.tables(*size)
        tokens = randn(BATCH, INNER, tables.tokens)
        parameters = Parameters.random(routes.num_groups)
        made = route_merge(scan(tokens, parameters, routes, tables), tables)
        expected = torch.zeros_like(made)
        for steps, group in zip(walks, routes.param_group, strict=True):
            expected += scan_slowly(
                tokens,
                parameters,
                [table(steps, *size)],
                [group],
                raster=name == "serpentine",
                codes=definitions.moves(steps) if name == "serpentine" else None,
                shift=int(name == "hydra"),
            )
        torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cross", "atrous2", "local_vim_small", "serpentine", "vim"])
def test_projecting_commutes_with_gathering(name):
    routes = route_set(name)
    tables = routes.tables(5, 7)
    tokens, parameters = randn(BATCH, INNER, tables.tokens), Parameters.random(routes.num_groups)
    once = scan(tokens, parameters, routes, tables)
    each = scan(tokens, parameters, routes, tables, gather_first=True)
    torch.testing.assert_close(once, each, rtol=1e-12, atol=1e-12)


PADDING = {
    "phases": route_set("atrous2"),
    "windows": RouteSet(["window(2)", "~window(2)"]),
}


@pytest.mark.parametrize("case", PADDING)
@pytest.mark.parametrize("size", [(7, 7), (5, 6), (1, 3)])
def test_padded_steps_are_zeros_of_a_padded_map(case, size):
    routes = PADDING[case]
    height, width = size
    maps, parameters = randn(BATCH, INNER, *size), Parameters.random(routes.num_groups)
    padded = F.pad(maps, (0, width % 2, 0, height % 2))
    cropped = scan_map(padded, parameters, routes)[..., :height, :width]
    torch.testing.assert_close(scan_map(maps, parameters, routes), cropped, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("route", "differs"),
    [
        ("phase(2,0,0,row)", False),
        ("phase(2,1,0,col)", True),
        ("phase(2,0,1,row)", True),
        ("window(2)", True),
        ("~window(2)", True),
    ],
)
def test_padded_steps_are_not_skipped(route, differs):
    routes = RouteSet([route])
    tables = routes.tables(7, 7)
    tokens, parameters = randn(1, INNER, 49), Parameters.random(1)
    made = route_merge(scan(tokens, parameters, routes, tables), tables)
    steps = tables.read[0].tolist()
    skipped = scan_slowly(tokens, parameters, [steps], [0], skip_pads=True)
    difference = (made - skipped).abs().max()
    assert difference > 1e-3 if differs else difference < 1e-12


def test_padding_at_the_end_changes_nothing():
    routes = RouteSet(["row", "window(7)", "~col"])
    tables = routes.tables(4, 5)
    tokens, parameters = randn(BATCH, INNER, 20), Parameters.random(3)
    walked = walk(tokens, parameters, routes, tables)
    padded = scan_walked(walked, parameters, routes)
    assert padded.shape[-1] == 49
    for k, length in enumerate(tables.lengths):
        cut = scan_walked([values[..., :length] for values in walked], parameters, routes)
        assert torch.equal(padded[:, k, :, :length], cut[:, k])


def test_a_join_carries_the_state():
    joined = RouteSet(["~row", "col", "~col"], join=[[0, 1, 2]])
    apart = RouteSet(["~row", "col", "~col"], param_group=[0, 0, 0])
    tokens, parameters = randn(BATCH, INNER, 20), Parameters.random(1)
    whole = scan(tokens, parameters, joined, joined.tables(4, 5))[:, 0].split(20, dim=-1)
    parts = scan(tokens, parameters, apart, apart.tables(4, 5)).unbind(1)
    torch.testing.assert_close(whole[0], parts[0], rtol=1e-12, atol=1e-12)
    for segment, part in zip(whole[1:], parts[1:], strict=True):
        assert (segment - part).abs().max() > 1e-2


class TestInputOnly:
    routes = route_set("serpentine")

    def test_the_skip_term_stays_on_its_token(self):
        tables = self.routes.tables(4, 5)
        tokens, parameters = randn(BATCH, INNER, 20), Parameters.random(1)
        no_output = dataclasses.replace(parameters, x_proj=parameters.x_proj.clone())
        no_output.x_proj[:, -STATES:] = 0
        y = route_merge(scan(tokens, no_output, self.routes, tables), tables)
        torch.testing.assert_close(y, 4 * parameters.D[:, None] * tokens, rtol=1e-12, atol=1e-12)

    def test_it_is_another_function_than_permuting_all(self):
        tokens, parameters = randn(BATCH, INNER, 20), Parameters.random(1)
        results = []
        for routes in (self.routes, dataclasses.replace(self.routes, permute="all")):
            tables = routes.tables(4, 5)
            results.append(route_merge(scan(tokens, parameters, routes, tables), tables))
        assert (results[0] - results[1]).abs().max() > 1e-2

    def test_codes_of_the_way_back_are_opposite(self):
        """Walking the map turned by 180 degrees, with opposite moves in the table of codes.

        On a map with an odd number of rows the turned walk is the reversed one.
        """
        forward = RouteSet(["snake_row"], codes="step")
        backward = RouteSet(["~snake_row"], codes="step")
        maps, parameters = randn(BATCH, INNER, 5, 4), Parameters.random(1)
        opposite = dataclasses.replace(parameters, codes=parameters.codes[[0, 2, 1, 4, 3]])
        turned = scan_map(maps.flip(-2, -1), opposite, forward).flip(-2, -1)
        made = scan_map(maps, parameters, backward)
        torch.testing.assert_close(made, turned, rtol=1e-12, atol=1e-12)
        assert (
            made - scan_map(maps.flip(-2, -1), parameters, forward).flip(-2, -1)
        ).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["cross", "fer", "atrous2", "mhsvm_x"])
def test_a_reversed_walk_is_the_walk_flipped(name):
    routes = route_set(name)
    back = RouteSet([dataclasses.replace(r, reverse=not r.reverse) for r in routes.routes])
    tokens, parameters = randn(BATCH, INNER, 15), Parameters.random(routes.num_groups)
    flipped = [values.flip(-1) for values in walk(tokens, parameters, routes, routes.tables(3, 5))]
    made = scan(tokens, parameters, back, back.tables(3, 5))
    torch.testing.assert_close(
        made, scan_walked(flipped, parameters, routes), rtol=1e-12, atol=1e-12
    )


# Where a set's walks go when the map is transposed or turned, as a permutation of groups.
TURNS = {
    "transposed": ((1, 0, 3, 2), lambda maps: maps.mT),
    "turned": ((2, 3, 0, 1), lambda maps: maps.flip(-2, -1)),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 6)])
def test_the_cross_set_turns_with_the_map(turn, size):
    permutation, function = TURNS[turn]
    maps, parameters = randn(BATCH, INNER, *size), Parameters.random(4)
    cross = route_set("cross")
    made = scan_map(function(maps), parameters.reordered(permutation), cross)
    expected = function(scan_map(maps, parameters, cross))
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-10)
    if turn == "transposed" and min(size) == 1:
        return  # rows are columns there, so that the order of the parameters does not matter
    assert (scan_map(function(maps), parameters, cross) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["cross", "fer", "atrous2", "mhsvm_s"])
def test_set_and_stack_move_together(name):
    source = route_set(name)
    order = torch.randperm(len(source.routes), generator=torch.Generator().manual_seed(3)).tolist()
    target = dataclasses.replace(source, routes=[source.routes[index] for index in order])
    permutation = group_permutation(source, target)
    maps, parameters = randn(BATCH, INNER, 4, 5), Parameters.random(source.num_groups)
    moved = scan_map(maps, parameters.reordered(permutation), target)
    torch.testing.assert_close(scan_map(maps, parameters, source), moved, rtol=1e-12, atol=1e-12)
    # The same stack under the other set loads as well, and is wrong.
    assert (scan_map(maps, parameters, target) - moved).abs().max() > 1e-3


# --- walks that depend on the data


def keep_masks():
    generator = torch.Generator().manual_seed(0)
    random = torch.stack([torch.randperm(12, generator=generator) < 5 for _ in range(BATCH)])
    single = torch.zeros(BATCH, 12, dtype=torch.bool)
    single[0, 7] = single[1, 0] = True
    first_dropped = torch.ones(BATCH, 12, dtype=torch.bool)
    first_dropped[:, 0] = False
    return {
        "random": random,
        "single": single,
        "first_dropped": first_dropped,
        "all": torch.ones(BATCH, 12, dtype=torch.bool),
    }


@pytest.mark.parametrize("case", keep_masks())
@pytest.mark.parametrize("shift", [0.0, -900.0])
def test_a_scan_of_kept_tokens_equals_the_full_scan_with_the_others_zero(case, shift):
    """A large negative shift makes step sizes underflow to zero."""
    keep = keep_masks()[case]
    u, delta = randn(BATCH, INNER, 12), F.softplus(randn(BATCH, INNER, 12, seed=1) + shift)
    B, C = randn(BATCH, STATES, 12, seed=2), randn(BATCH, STATES, 12, seed=3)
    A = -torch.exp(randn(INNER, STATES, seed=4))
    full = selective_scan(u * keep[:, None], delta, A, B, C)

    order = pruned_table(keep)
    index = order[:, None]

    def kept(x):
        return route_gather(x, index)[:, 0]

    gap, scaled = align_pruned(delta, u, order)
    made = selective_scan(scaled, gap, A, kept(B), kept(C))
    torch.testing.assert_close(made, kept(full), rtol=0, atol=1e-10)
    if case == "random" and shift == 0:  # merely leaving tokens out is something else
        dropped = selective_scan(kept(u), kept(delta), A, kept(B), kept(C))
        assert (dropped - kept(full)).abs().max() > 1e-3


def test_alignment_keeps_digits_in_long_sequences():
    delta = torch.full((1, 1, 100_000), 1e-3)
    keep = torch.zeros(1, 100_000, dtype=torch.bool)
    keep[0, [50_000, 99_998, 99_999]] = True
    gap, _ = align_pruned(delta, torch.ones_like(delta), pruned_table(keep))
    torch.testing.assert_close(gap[0, 0, 1:], torch.tensor([49.998, 0.001]), rtol=1e-5, atol=0)


def test_alignment_has_gradients():
    order = torch.tensor([[0, 3, 4], [2, 3, 5]])
    delta, u = randn(2, 2, 6).abs().requires_grad_(), randn(2, 2, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda d, u: align_pruned(d, u, order), (delta, u))


def test_kept_tokens_are_in_ascending_order():
    keep = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1]], dtype=torch.bool)
    assert pruned_table(keep).tolist() == [[0, 2, 3], [1, 2, 3]]
    with pytest.raises(ValueError, match="samples keep from 2 to 3 tokens"):
        pruned_table(torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]], dtype=torch.bool))
    with pytest.raises(ValueError, match=r"keep has shape \(4,\) and dtype torch.bool"):
        pruned_table(keep[0])
    with pytest.raises(ValueError, match=r"dtype torch.float32, expected \(B, T\) and bool"):
        pruned_table(keep.float())


def test_equal_keys_keep_their_order():
    keys = torch.tensor([[2, 1, 2, 1, 0], [0, 0, 0, 0, 0]])
    assert sorted_order(keys).tolist() == [[4, 1, 3, 0, 2], [0, 1, 2, 3, 4]]
    many = torch.zeros(1, 5000)
    assert sorted_order(many).tolist() == [list(range(5000))]


def test_routes_follow_the_order_of_the_call():
    order = torch.tensor([[4, 0, 2], [1, 3, -1]])
    both = RouteSet(["row", "~row"], dynamic=True)
    made = dynamic_index(both, order, 5)
    assert made.index.tolist() == [[[4, 0, 2], [2, 0, 4]], [[1, 3, -1], [-1, 3, 1]]]
    assert dynamic_index(both, order[0], 5).index.tolist() == [[4, 0, 2], [2, 0, 4]]
    # Vim's class token, index 5 after the five patches, in the middle of three.
    vim = dynamic_index(route_set("top_vim"), order[:1], 5)
    assert vim.index.tolist() == [[[4, 5, 0, 2], [2, 0, 5, 4]]]
    assert vim.tokens == 6
    joined = RouteSet(["row", "~row"], join=[[0, 1]], dynamic=True)
    assert dynamic_index(joined, order, 5).index.tolist()[0] == [[4, 0, 2, 2, 0, 4]]
    x = randn(2, 3, 5)
    y = route_gather(x, dynamic_index(joined, order, 5))
    visits = torch.tensor([[2, 0, 2, 0, 2], [0, 2, 0, 2, 0]])
    restored = route_merge(y, dynamic_index(joined, order, 5))
    torch.testing.assert_close(restored, visits[:, None] * x)


def test_orders_that_do_not_fit_are_refused():
    order = torch.tensor([[4, 0, 2]])
    with pytest.raises(ValueError, match="the set has dynamic=False"):
        dynamic_index(route_set("cross"), order, 5)
    with pytest.raises(ValueError, match="permute='all' and shift=1, expected 'all' and 0"):
        dynamic_index(RouteSet(["row"], shift=1, dynamic=True), order, 5)
    with pytest.raises(ValueError, match="entries from 0 to 4, expected -1 to 3"):
        dynamic_index(RouteSet(["row"], dynamic=True), order, 4)
    with pytest.raises(ValueError, match="names token 4 more than 1"):
        dynamic_index(RouteSet(["row"], dynamic=True), torch.tensor([[4, 4, 2]]), 5)


def test_vim_on_kept_tokens_equals_vim_on_all_of_them():
    vim, pruned = route_set("vim"), route_set("top_vim")
    tokens, parameters = randn(BATCH, INNER, 9), Parameters.random(2)
    everything = torch.arange(8).expand(BATCH, 8)
    static, index = vim.tables(2, 4), dynamic_index(pruned, everything, 8)
    assert torch.equal(index.index, static.read.long().expand(BATCH, -1, -1))
    full = merge_sequences(scan(tokens, parameters, vim, static), static, vim)
    made = merge_sequences(scan(tokens, parameters, pruned, index), index, pruned)
    torch.testing.assert_close(made, full, rtol=1e-14, atol=1e-14)
