"""Routes and sets as values: text, configs, checks, branches, and the order of parameters."""

import dataclasses
import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamba_mm.ops.routes import (
    ROUTE_SETS,
    RouteSet,
    ScanRoute,
    group_permutation,
    multi_head,
    presets,
    register_route_set,
    registry,
    reorder_groups,
    route_set,
    route_sets,
)

exactly = settings(derandomize=True, deadline=None, max_examples=80, database=None)

NAMES = ["row", "snake_col", "window(w=3)", "phase(s=2,r0=1,c0=0,major=col)", "zigzag"]
ROUTES = st.builds(
    lambda name, reverse, reflect, extra: f"{'~' * reverse}{name}{reflect}{extra}",
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(["", ":lr", ":ud"]),
    st.sampled_from(["", ":middle_then_reverse", ":reverse_then_middle"]),
)


@exactly
@given(ROUTES)
def test_text_of_a_route_is_read_back(text):
    route = ScanRoute.parse(text)
    assert str(route) == text
    assert ScanRoute.parse(str(route)) == route
    assert hash(ScanRoute.parse(str(route))) == hash(route)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("row", ScanRoute("row")),
        ("~col", ScanRoute("col", reverse=True)),
        (" ~ zigzag : lr ", ScanRoute("zigzag", reflect="lr", reverse=True)),
        ("window(7)", ScanRoute("window", {"w": 7})),
        ("phase(2, 1, 0, col)", ScanRoute("phase", dict(s=2, r0=1, c0=0, major="col"))),
        (
            "phase(2, c0=1, r0=0, major='row')",
            ScanRoute("phase", (*dict(s=2, r0=0).items(), ("c0", 1), ("major", "row"))),
        ),
        (
            "~row:middle_then_reverse:ud",
            ScanRoute("row", (), "ud", True, "middle_then_reverse"),
        ),
    ],
)
def test_ways_to_write_a_route(text, route):
    assert ScanRoute.parse(text) == route
    assert ScanRoute.of(text) == ScanRoute.of(route) == route
    assert ScanRoute.of(dataclasses.asdict(route)) == route


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "'' is no route; write one as in 'row'"),
        ("row col", ValueError, "'row col' is no route"),
        ("~~row", ValueError, "'~~row' is no route"),
        ("row(", ValueError, "is no route"),
        ("window(w=[2)", ValueError, "is no route"),
        ("window(w=f(2))", ValueError, "is no route"),
        ("window(**x)", ValueError, "is no route"),
        ("diagonal", ValueError, "unknown route 'diagonal'; known: row"),
        ("row:up", ValueError, "'up' after the colon, expected at most one of lr, ud"),
        ("row:lr:ud", ValueError, "'ud' after the colon, expected at most one"),
        ("window(2, 3)", TypeError, "2 values, but window takes 1 keywords"),
        ("window(2, w=3)", TypeError, "w is given twice"),
        ("window(side=3)", TypeError, "'window' has no keyword 'side'; it has: w"),
        ("row(2)", TypeError, "1 values, but row takes 0 keywords"),
    ],
)
def test_text_that_is_no_route(text, error, message):
    with pytest.raises(error, match=re.escape(message)):
        ScanRoute.parse(text)


def test_values_of_any_plain_kind_survive_text(monkeypatch):
    monkeypatch.setattr(registry, "_GENERATORS", dict(registry._GENERATORS))
    registry.register_route("own")(lambda height, width, *, value: None)
    for value in (
        0,
        -3,
        1.5,
        True,
        None,
        "word",
        "two words",
        "a:b",
        "None",
        (),
        (1,),
        ("a", (2,)),
    ):
        route = ScanRoute("own", {"value": value})
        assert ScanRoute.parse(str(route)) == route
        assert dict(ScanRoute.parse(f"~{route}:lr").args) == {"value": value}
        assert RouteSet(**json.loads(RouteSet([route]).key)) == RouteSet([route])
    assert ScanRoute("own", {"value": [1, [2]]}) == ScanRoute("own", {"value": (1, (2,))})


def test_fields_of_a_route_are_checked():
    with pytest.raises(ValueError, match="reflect is 'left', expected None or one of lr, ud"):
        ScanRoute("row", reflect="left")
    with pytest.raises(ValueError, match="extra is 'middle', expected None or one of middle_then"):
        ScanRoute("row", extra="middle")
    with pytest.raises(TypeError, match="a ScanRoute, a string or a mapping, got 3"):
        ScanRoute.of(3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScanRoute("row").reverse = True


# --- sets


def test_defaults_of_a_set():
    routes = RouteSet(["row", ScanRoute("col"), {"name": "row", "reverse": True}])
    assert routes.routes == (ScanRoute("row"), ScanRoute("col"), ScanRoute("row", reverse=True))
    assert routes.branch == (0, 0, 0)
    assert routes.param_group == (0, 1, 2)
    assert routes.sequences == ((0,), (1,), (2,))
    assert (routes.num_sequences, routes.num_groups, routes.num_branches) == (3, 3, 1)
    assert routes.extra_tokens == 0
    assert route_set("vim").extra_tokens == 1


@pytest.mark.parametrize("name", ROUTE_SETS)
def test_sets_are_plain_data(name):
    value = ROUTE_SETS[name]
    for preset in value if isinstance(value, tuple) else (value,):
        assert RouteSet(**preset.to_dict()) == preset
        assert RouteSet(**json.loads(json.dumps(preset.to_dict()))) == preset
        assert hash(RouteSet.of(preset.to_dict())) == hash(preset)
        assert {preset: 1}[RouteSet.of(preset.to_dict())] == 1


def test_lists_of_a_config_become_tuples():
    routes = RouteSet(
        ["~row", "col", "row"],
        branch=[1, 1, 0],
        join=[[0, 1], [2]],
        param_group=[0, 0],
        channel_slices=[[0, 4], [4, 8]],
        upsample="nearest",
    )
    assert routes.join == ((0, 1), (2,))
    assert routes.channel_slices == ((0, 4), (4, 8))
    assert {routes: 1}[RouteSet.of(routes.to_dict())] == 1
    assert routes.describe(0) == "~row + col"


def test_joining_each_route_with_itself_alone_is_no_join():
    assert RouteSet(["row", "~row"], join=[[0], [1]]) == RouteSet(["row", "~row"])
    assert RouteSet(["row", "~row"], join=[[1], [0]]) != RouteSet(["row", "~row"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"routes": []}, "there are no routes"),
        ({"branch": (0,)}, "branch has 1 entries for 2 routes, expected one for each"),
        ({"branch": (0, 2), "upsample": "nearest"}, r"branch is (0, 2), expected numbers from 0"),
        ({"branch": (1, 1)}, "branch is (1, 1), expected numbers from 0 on without gaps"),
        ({"join": [[0]]}, "join is ((0,),), expected every route index 0..1 once"),
        ({"join": [[0, 1], [1]]}, "expected every route index 0..1 once"),
        ({"join": [[0, 1], []]}, "expected no empty sequence"),
        (
            {"join": [[0, 1]], "branch": (0, 1), "upsample": "nearest"},
            "join ((0, 1),) mixes branches (0, 1); a sequence walks one map",
        ),
        ({"param_group": (0, 2)}, "param_group is (0, 2), expected numbers from 0 on without gaps"),
        ({"param_group": (0,)}, "param_group has 1 entries for 2 sequences"),
        ({"param_group": (0, 1), "join": [[0, 1]]}, "param_group has 2 entries for 1 sequences"),
        ({"channel_slices": [(0, 4)]}, "channel_slices has 1 entries for 2 sequences"),
        ({"channel_slices": [(0, 4), (4, 4)]}, "has (4, 4), expected (start, stop)"),
        ({"channel_slices": [(0, 4), (4,)]}, "has (4,), expected (start, stop)"),
        ({"permute": "u"}, "permute is 'u', expected one of 'all', 'input_only'"),
        ({"codes": "steps"}, "codes is 'steps', expected one of None, 'step'"),
        ({"shift": 2}, "shift is 2, expected one of 0, 1"),
        ({"merge": "max"}, "merge is 'max', expected one of 'sum', 'mean', 'gated'"),
        ({"upsample": "bicubic"}, "upsample is 'bicubic', expected one of None, 'bilinear'"),
        ({"upsample": "nearest"}, "upsample is 'nearest', but all routes walk the full map"),
        ({"branch": (0, 1)}, "several branches need upsample"),
        (
            {"branch": (0, 1), "upsample": "nearest", "merge": "mean"},
            "several branches are summed; merge is 'mean'",
        ),
        (
            {"branch": (0, 1), "upsample": "nearest", "dynamic": True},
            "a dynamic set has one order of tokens",
        ),
        (
            {
                "routes": ["row:reverse_then_middle", "col:reverse_then_middle"],
                "branch": (0, 1),
                "upsample": "nearest",
            },
            "an extra token has no place on several branches",
        ),
        ({"routes": ["row", "row:reverse_then_middle"]}, "some routes have an extra token"),
        ({"codes": "step"}, "codes need continuous routes, and these jump: row, ~row"),
        (
            {"routes": ["snake_row", "window(2)"], "permute": "input_only"},
            "input_only needs permutations, and these pad: window(w=2)",
        ),
        ({"permute": "input_only", "join": [[0, 1]]}, "use no join and no extra"),
        (
            {"routes": ["row:middle_then_reverse"], "permute": "input_only"},
            "use no join and no extra",
        ),
        ({"threshold": 0.5}, "threshold belongs to merge='gated', but merge is 'sum'"),
        ({"routes": ["row"], "merge": "gated"}, "merge='gated' compares sequences"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match="^RouteSet: .*" + re.escape(message)):
        RouteSet(**{"routes": ["row", "~row"], **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"routes": "row"}, "routes must be a list, got 'row'; write [...]"),
        ({"routes": [3]}, "a route is a ScanRoute, a string or a mapping, got 3"),
        ({"branch": 0}, "branch is 0, expected a list of numbers"),
        ({"param_group": (0.5, 1)}, "param_group is (0.5, 1), expected a list of numbers"),
        ({"join": [0, 1]}, "join is [0, 1], expected a list of lists of whole numbers"),
    ],
)
def test_wrong_types_are_refused(fields, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        RouteSet(**{"routes": ["row", "~row"], **fields})


# --- branches


def test_a_branch_by_itself():
    first = route_set("msvmamba_v1")
    half = first.on_branch(1)
    assert half == RouteSet(["~row", "col", "~col"], join=[[0, 1, 2]])
    assert first.on_branch(0) == route_set("msvmamba_v2").on_branch(0) == RouteSet(["row"])
    assert (first.sequences_on_branch(0), first.sequences_on_branch(1)) == ((1,), (0,))
    assert (first.groups_on_branch(0), first.groups_on_branch(1)) == ((1,), (0,))
    second = route_set("msvmamba_v2")
    assert (second.groups_on_branch(0), second.groups_on_branch(1)) == ((0,), (1,))
    cross = route_set("cross")
    assert cross.on_branch(0) is cross
    with pytest.raises(ValueError, match="there is no branch 2; the set has 2"):
        first.on_branch(2)


def test_groups_of_a_branch_are_numbered_anew_and_slices_follow():
    routes = RouteSet(
        ["row", "col", "~row", "~col"],
        branch=[1, 0, 1, 0],
        param_group=[2, 0, 1, 0],
        channel_slices=[(0, 1), (1, 2), (2, 3), (3, 4)],
        upsample="nearest",
    )
    upper = routes.on_branch(1)
    assert upper.routes == RouteSet(["row", "~row"]).routes
    assert upper.param_group == (1, 0)
    assert routes.groups_on_branch(1) == (1, 2)
    assert upper.channel_slices == ((0, 1), (2, 3))
    assert routes.on_branch(0).param_group == (0, 0)


def test_tables_of_several_maps_or_of_none_are_refused():
    with pytest.raises(ValueError, match=r"walk 2 maps, .* take on_branch\(b\)"):
        route_set("msvmamba_v1").tables(4, 4)
    with pytest.raises(
        ValueError, match=r"a dynamic set has no tables of its own; .*dynamic_index"
    ):
        route_set("top_vim").tables(1, 4)
    with pytest.raises(ValueError, match="at least one row and column, got 0x4"):
        route_set("cross").tables(0, 4)


# --- presets


def test_what_presets_say_beside_their_routes():
    assert route_set("vim").merge == "mean"
    assert route_set("top_vim") == dataclasses.replace(route_set("vim"), dynamic=True)
    serpentine = route_set("serpentine")
    assert (serpentine.permute, serpentine.codes, serpentine.num_groups) == (
        "input_only",
        "step",
        1,
    )
    assert route_set("hydra").shift == 1
    assert route_set("fer").num_groups == 8
    for head in "cxsz":
        preset = route_set(f"mhsvm_{head}")
        assert (preset.merge, preset.threshold, preset.num_groups) == ("gated", 0.5, 4)
    assert route_set("msvmamba_v1").upsample == "bilinear"
    assert route_set("msvmamba_v2").upsample == "nearest"
    assert {route_set(name).merge for name in ("cross", "atrous2", "fer", "hydra")} == {"sum"}


def test_ways_to_name_a_set():
    cross = route_set("cross")
    assert route_set(cross) is cross
    assert route_set(["row", "col", "~row", "~col"]) == cross
    assert route_set({"routes": ["row", "~row"], "merge": "mean"}).merge == "mean"
    assert route_sets("cross", 3) == (cross,) * 3
    assert route_sets({"routes": ["row"]}, 2) == (RouteSet(["row"]),) * 2
    assert route_sets(["cross", ["row"]], 2) == (cross, RouteSet(["row"]))
    assert len(route_sets("local_vim_tiny", 20)) == 20


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: route_set("crosss"), ValueError, "unknown route set 'crosss'; known: cross, "),
        (lambda: route_set("local_vim_tiny"), ValueError, "has 20 sets, one a layer; take route_"),
        (lambda: route_set({"routes": ["row"], "merg": 1}), ValueError, "unknown fields 'merg'"),
        (lambda: route_set(3), TypeError, "a mapping of its fields or a list of routes, got 3"),
        (
            lambda: route_sets("local_vim_tiny", 24),
            ValueError,
            "for 20 layers, but the model has 2",
        ),
        (lambda: route_sets(["row", "~row"], 4), ValueError, "write dict(routes=[...])"),
        (lambda: route_sets(["row", "~row"], 2), ValueError, "unknown route set 'row'"),
    ],
)
def test_what_names_no_set(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_own_presets(monkeypatch):
    monkeypatch.setattr(presets, "ROUTE_SETS", dict(ROUTE_SETS))
    assert register_route_set("mine", ["row", "zigzag"]) == RouteSet(["row", "zigzag"])
    assert route_set("mine") == RouteSet(["row", "zigzag"])
    layers = [RouteSet(["row"]), RouteSet(["col"])]
    register_route_set("mine_by_layer", layers)
    assert route_sets("mine_by_layer", 2) == tuple(layers)
    with pytest.raises(ValueError, match="'cross' is registered already"):
        register_route_set("cross", ["row"])
    assert "mine" not in ROUTE_SETS


def test_heads_walk_channels_of_their_own():
    heads = multi_head(["mhsvm_c", "mhsvm_x", "mhsvm_s"], 48)
    assert heads.num_sequences == heads.num_groups == 12
    assert heads.routes[4:8] == route_set("mhsvm_x").routes
    assert heads.channel_slices == ((0, 16),) * 4 + ((16, 32),) * 4 + ((32, 48),) * 4
    assert (heads.merge, heads.threshold) == ("gated", 0.5)
    shared = multi_head(["serpentine", "serpentine"], 8)
    assert shared.param_group == (0,) * 4 + (1,) * 4
    with pytest.raises(ValueError, match="50 channels for 3 heads; expected a multiple"):
        multi_head(["mhsvm_c"] * 3, 50)
    with pytest.raises(ValueError, match="differ in routes and param_group only"):
        multi_head(["mhsvm_c", "cross"], 8)
    with pytest.raises(ValueError, match="without join"):
        multi_head(["msvmamba_v1", "msvmamba_v1"], 8)


# --- the order of parameters


def test_permutation_between_two_orders():
    ours = RouteSet(["row", "col", "~row", "~col"])
    theirs = RouteSet(["row", "~row", "col", "~col"])
    assert group_permutation(ours, theirs) == (0, 2, 1, 3)
    assert group_permutation(route_set("msvmamba_v1"), route_set("msvmamba_v2")) == (1, 0)
    twice = RouteSet(["row", "row", "~row"])
    assert group_permutation(twice, RouteSet(["~row", "row", "row"])) == (2, 0, 1)
    grouped = RouteSet(["row", "col", "~row", "~col"], param_group=[0, 1, 0, 1])
    other = RouteSet(["~col", "col", "row", "~row"], param_group=[0, 0, 1, 1])
    assert group_permutation(grouped, other) == (1, 0)


@exactly
@given(st.permutations(range(8)), st.sampled_from([1, 3]))
def test_reordering_there_and_back_is_the_identity(order, rows):
    source = route_set("fer")
    target = RouteSet([source.routes[index] for index in order])
    there, back = group_permutation(source, target), group_permutation(target, source)
    assert there == tuple(order)
    stack = torch.arange(8 * rows * 5).view(8 * rows, 5)
    moved = reorder_groups(stack, there)
    assert moved[:rows].tolist() == stack[order[0] * rows : (order[0] + 1) * rows].tolist()
    assert torch.equal(reorder_groups(moved, back), stack)


def test_sets_that_are_not_the_same_routes():
    cross = route_set("cross")
    with pytest.raises(ValueError, match="the source has no group for zigzag on branch 0"):
        group_permutation(cross, RouteSet(["row", "col", "~row", "zigzag"]))
    with pytest.raises(ValueError, match="no group for ~col on branch 0"):
        group_permutation(cross, RouteSet(["row", "col", "~row"]))
    with pytest.raises(ValueError, match="7 rows, expected a multiple of the 4 groups"):
        reorder_groups(torch.zeros(7, 2), (0, 1, 2, 3))
