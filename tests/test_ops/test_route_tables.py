"""Every walk, index for index, against golden vectors and slow definitions."""

import copy
import pickle

import numpy as np
import pytest
import route_definitions as definitions
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from route_definitions import SIZES, table
from torch._subclasses import FakeTensorMode

from mamba_mm.ops import routes
from mamba_mm.ops.routes import (
    ROUTE_SETS,
    RouteSet,
    ScanRoute,
    clear_table_cache,
    known_routes,
    register_route,
    registry,
    route_set,
    route_sets,
    tables,
)

exactly = settings(derandomize=True, deadline=None, max_examples=60, database=None)
sides = st.integers(1, 12)

PERMUTATIONS = [
    *("row", "col", "snake_row", "snake_col", "wrap_diag", "wrap_anti", "zigzag", "spiral"),
    *("hilbert", "morton"),
]
PADDED = ["window(1)", "window(2)", "window(3)", "window(7)"]
PHASES = [f"phase({s},{r},{c},{m})" for s, r, c, m in [(2, 0, 0, "row"), (2, 1, 1, "col")]]
PHASES += ["phase(3,2,1,row)", "phase(3,0,2,col)", "phase(1,0,0,row)"]

# Walk, then its steps on a 2 x 3 and on a 3 x 4 map.
GOLDEN = [
    ("row", "0 1 2 3 4 5", "0 1 2 3 4 5 6 7 8 9 10 11"),
    ("col", "0 3 1 4 2 5", "0 4 8 1 5 9 2 6 10 3 7 11"),
    ("~row", "5 4 3 2 1 0", "11 10 9 8 7 6 5 4 3 2 1 0"),
    ("~col", "5 2 4 1 3 0", "11 7 3 10 6 2 9 5 1 8 4 0"),
    ("snake_row", "0 1 2 5 4 3", "0 1 2 3 7 6 5 4 8 9 10 11"),
    ("snake_col", "0 3 4 1 2 5", "0 4 8 9 5 1 2 6 10 11 7 3"),
    ("phase(2,0,0,row)", "0 2", "0 2 8 10"),
    ("phase(2,1,0,col)", "3 5", "4 -1 6 -1"),
    ("phase(2,0,1,row)", "1 -1", "1 3 9 11"),
    ("phase(2,1,1,col)", "4 -1", "5 -1 7 -1"),
    ("wrap_diag", "0 4 1 5 2 3", "0 5 10 1 6 11 2 7 8 3 4 9"),
    ("wrap_anti", "0 5 1 3 2 4", "0 7 10 1 4 11 2 5 8 3 6 9"),
    ("zigzag", "0 1 3 4 2 5", "0 1 4 8 5 2 3 6 9 10 7 11"),
    ("zigzag:lr", "2 1 5 4 0 3", "3 2 7 11 6 1 0 5 10 9 4 8"),
    ("spiral", "0 1 2 5 4 3", "0 1 2 3 7 11 10 9 8 4 5 6"),
    ("spiral:ud", "3 4 5 2 1 0", "8 9 10 11 7 3 2 1 0 4 5 6"),
    ("window(2)", "0 1 3 4 2 -1 5 -1", "0 1 4 5 2 3 6 7 8 9 -1 -1 10 11 -1 -1"),
]
GOLDEN_CODES = [
    ("snake_row", "0 1 1 4 2 2", "0 1 1 1 4 2 2 2 4 1 1 1"),
    ("~snake_row", "0 1 1 3 2 2", "0 2 2 2 3 1 1 1 3 2 2 2"),
    ("snake_col", "0 4 1 3 1 4", "0 4 4 1 3 3 1 4 4 1 3 3"),
    ("~snake_col", "0 3 2 4 2 3", "0 4 4 2 3 3 2 4 4 2 3 3"),
]


def numbers(text):
    return [int(word) for word in text.split()]


def walk(text, height, width):
    return ScanRoute.parse(text).table(height, width)


@pytest.mark.parametrize(("route", "small", "large"), GOLDEN)
def test_golden_walks(route, small, large):
    assert walk(route, 2, 3).tolist() == numbers(small)
    assert walk(route, 3, 4).tolist() == numbers(large)


@pytest.mark.parametrize(("route", "small", "large"), GOLDEN_CODES)
def test_golden_codes(route, small, large):
    assert ScanRoute.parse(route).codes(2, 3).tolist() == numbers(small)
    assert ScanRoute.parse(route).codes(3, 4).tolist() == numbers(large)


@pytest.mark.parametrize("size", SIZES)
def test_every_permutation_reads_every_token_once(size):
    for name in PERMUTATIONS:
        assert walk(name, *size).sort().values.tolist() == list(range(size[0] * size[1])), name


@pytest.mark.parametrize("size", SIZES)
def test_padded_walks_read_every_token_once_and_pad_to_the_next_multiple(size):
    for side in (1, 2, 3, 7):
        steps = walk(f"window({side})", *size)
        tokens = size[0] * size[1]
        rounded = (-(-size[0] // side) * side) * (-(-size[1] // side) * side)
        assert (steps < 0).sum() == rounded - tokens
        assert steps[steps >= 0].sort().values.tolist() == list(range(tokens))


@pytest.mark.parametrize("size", SIZES)
def test_phases_partition_the_map(size):
    height, width = size
    for s in (1, 2, 3):
        phases = [(r, c) for r in range(s) for c in range(s)]
        steps = [walk(f"phase({s},{r},{c},row)", height, width) for r, c in phases]
        assert {len(walked) for walked in steps} == {-(-height // s) * -(-width // s)}
        read = torch.cat(steps)
        assert read[read >= 0].sort().values.tolist() == list(range(height * width))


@pytest.mark.parametrize("size", SIZES)
def test_generators_equal_their_definitions(size):
    height, width = size
    for name in ("row", "col", "snake_row", "snake_col", "wrap_diag", "wrap_anti", "zigzag"):
        steps = getattr(definitions, name)(height, width)
        assert walk(name, height, width).tolist() == table(steps, height, width), name
    assert walk("spiral", *size).tolist() == table(definitions.spiral(*size), *size)
    for s, r0, c0, major in [
        (1, 0, 0, "col"),
        (2, 1, 0, "row"),
        (3, 2, 1, "col"),
        (4, 0, 3, "row"),
    ]:
        steps = definitions.phase(height, width, s, r0, c0, major)
        assert walk(f"phase({s},{r0},{c0},{major})", *size).tolist() == table(steps, *size)
    for w in (1, 2, 3, 7, 20):
        steps = definitions.window(height, width, w)
        assert walk(f"window({w})", *size).tolist() == table(steps, *size)


def test_hilbert_and_morton_curves():
    assert walk("hilbert", 4, 4).tolist() == [0, 4, 5, 1, 2, 3, 7, 6, 10, 11, 15, 14, 13, 9, 8, 12]
    assert walk("morton", 4, 4).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    for side in (1, 2, 4, 8, 16):
        assert registry.is_continuous(walk("hilbert", side, side).numpy(), side)
    # On other maps they are the walk of the enclosing square with the outside left out.
    for name in ("hilbert", "morton"):
        square = [divmod(p, 8) for p in walk(name, 8, 8).tolist()]
        inside = [(r, c) for r, c in square if r < 5 and c < 7]
        assert walk(name, 5, 7).tolist() == table(inside, 5, 7)


SMALL = [(h, w) for h in range(1, 9) for w in range(1, 9)]


def rotated(steps, height, width):
    return height * width - 1 - steps


def transposed(steps, height, width):
    """The same positions on the transposed map."""
    return steps % width * height + steps // width


def is_half_turn_of_itself(name, height, width):
    steps = walk(name, height, width)
    return torch.equal(walk(f"~{name}", height, width), rotated(steps, height, width))


def test_a1_columns_are_the_rows_of_the_transposed_map():
    for h, w in SMALL:
        for by_column, by_row in (("col", "row"), ("snake_col", "snake_row")):
            assert torch.equal(transposed(walk(by_column, h, w), h, w), walk(by_row, w, h))


def test_a2_reversing_turns_the_map():
    for h, w in SMALL:
        assert is_half_turn_of_itself("row", h, w)
        assert is_half_turn_of_itself("col", h, w)
        assert is_half_turn_of_itself("snake_row", h, w) == (h % 2 == 1 or w == 1)
        assert is_half_turn_of_itself("snake_col", h, w) == (w % 2 == 1 or h == 1)
        even = (h + w) % 2 == 0 or min(h, w) == 1
        assert is_half_turn_of_itself("zigzag", h, w) == even
    for name in ("spiral", "wrap_diag", "wrap_anti"):
        assert not is_half_turn_of_itself(name, 3, 5)


def test_a3_rows_are_columns_on_a_line():
    for n in range(1, 9):
        assert torch.equal(walk("row", 1, n), walk("col", 1, n))
        assert torch.equal(walk("row", n, 1), walk("col", n, 1))
    forward = list(range(22))
    walked = route_set("hamba").tables(22, 1).read.tolist()
    assert walked == [forward, forward, forward[::-1], forward[::-1]]


def test_a4_windows_of_one_token_are_rows():
    for h, w in SMALL:
        assert torch.equal(walk("window(1)", h, w), walk("row", h, w))


def test_a6_plainmamba_starts_its_reverses_in_the_last_corner():
    """The published second and fourth walks, written out (PlainMamba, section 3.2)."""
    for h, w in SMALL:
        rows = [
            (r, c if r % 2 == 0 else w - 1 - c)
            for r in range(h - 1, -1, -1)
            for c in range(w - 1, -1, -1)
        ]
        columns = [
            (r if c % 2 == 0 else h - 1 - r, c)
            for c in range(w - 1, -1, -1)
            for r in range(h - 1, -1, -1)
        ]
        assert walk("~snake_row", h, w).tolist() == table(rows, h, w)
        assert walk("~snake_col", h, w).tolist() == table(columns, h, w)


def test_a7_codes_of_a_reversed_walk_are_opposite():
    opposite = torch.tensor([0, 2, 1, 4, 3])
    for h, w in SMALL:
        for name in ("snake_row", "snake_col", "spiral", "spiral:ud", "snake_row:lr"):
            codes = ScanRoute.parse(name).codes(h, w)
            back = ScanRoute.parse(f"~{name}").codes(h, w)
            assert back[0] == 0
            assert torch.equal(back[1:], opposite[codes[1:].flip(0)])


def test_a8_mirrored_diagonals():
    for h, w in SMALL:
        mirrored = walk("wrap_diag:lr", h, w).view(w, h)
        assert torch.equal(mirrored, walk("wrap_anti", h, w).view(w, h).flip(0))


def test_codes_equal_the_moves():
    for h, w in SIZES[:-1]:
        walks = {
            "snake_row": definitions.snake_row(h, w),
            "~snake_col": definitions.back(definitions.snake_col(h, w)),
            "spiral": definitions.spiral(h, w),
            "~spiral:ud": definitions.back(
                definitions.mirrored(definitions.spiral(h, w), h, w, "ud")
            ),
        }
        for name, steps in walks.items():
            assert ScanRoute.parse(name).codes(h, w).tolist() == definitions.moves(steps)


ALL = st.sampled_from([*PERMUTATIONS, *PADDED, *PHASES])


@exactly
@given(ALL, sides, sides, st.sampled_from([None, "lr", "ud"]), st.booleans())
def test_modified_walks_stay_valid(name, height, width, reflect, reverse):
    plain = ScanRoute.parse(name)
    route = ScanRoute(plain.name, plain.args, reflect, reverse)
    before, after = plain.table(height, width), route.table(height, width)
    assert (before < 0).sum() == (after < 0).sum()
    assert after[after >= 0].unique().numel() == (after >= 0).sum()
    if reverse:
        assert torch.equal(
            after.flip(0), ScanRoute(plain.name, plain.args, reflect).table(height, width)
        )
    if reflect:
        again = np.where(after < 0, -1, table_mirrored(after.numpy(), height, width, reflect))
        assert torch.equal(torch.from_numpy(again), before.flip(0) if reverse else before)


def table_mirrored(steps, height, width, axis):
    return [
        r * width + c
        for r, c in definitions.mirrored(
            [divmod(max(p, 0), width) for p in steps.tolist()], height, width, axis
        )
    ]


@exactly
@given(ALL, sides, sides, st.booleans())
def test_the_extra_token_stands_in_the_middle(name, height, width, reverse):
    tokens = height * width
    plain = ScanRoute.parse(name)
    before = ScanRoute(plain.name, plain.args, None, reverse, "middle_then_reverse")
    after = ScanRoute(plain.name, plain.args, None, reverse, "reverse_then_middle")
    first, second = before.table(height, width).tolist(), after.table(height, width).tolist()
    bare = ScanRoute(plain.name, plain.args, None, reverse).table(height, width).tolist()
    assert [p for p in first if p != tokens] == [p for p in second if p != tokens] == bare
    middle = sum(p >= 0 for p in bare) // 2
    assert second.index(tokens) == middle
    assert first.index(tokens) == (len(bare) - middle if reverse else middle)


@pytest.mark.parametrize(("side", "vim", "local_vim"), [(14, 98, 98), (27, 365, 364)])
def test_vim_and_localvim_differ_for_odd_numbers_of_patches(side, vim, local_vim):
    tokens = side * side
    middle = ScanRoute.parse("~row:middle_then_reverse").table(side, side).tolist()
    assert middle.index(tokens) == vim
    assert (
        ScanRoute.parse("~row:reverse_then_middle").table(side, side).tolist().index(tokens)
        == local_vim
    )
    assert (
        ScanRoute.parse("row:middle_then_reverse").table(side, side).tolist().index(tokens)
        == tokens // 2
    )


SINGLE = [name for name, value in ROUTE_SETS.items() if not isinstance(value, tuple)]


def padded_rows(rows):
    length = max(map(len, rows))
    return [row + [-1] * (length - len(row)) for row in rows]


@pytest.mark.parametrize("name", [name for name in SINGLE if not route_set(name).dynamic])
def test_presets_equal_their_definitions(name):
    preset = route_set(name)
    for height, width in SIZES:
        branches = definitions.system(name, height, width)
        assert preset.num_branches == len(branches)
        for branch, sequences in enumerate(branches):
            made = preset.on_branch(branch).tables(height, width)
            expected = [table(steps, height, width) for steps in sequences]
            assert made.lengths == tuple(map(len, expected))
            assert made.read.tolist() == padded_rows(expected)
            assert made.read.dtype == torch.int32
            assert made.tokens == height * width + preset.extra_tokens


# As printed in the specification: one cell a layer.
LOCAL = {
    "local_vim_tiny": """
        h v' 7 7' | h' 2' 7 7' | h h' v 7 | h h' v v' | h h' v v' |
        h h' v v' | h' v v' 7 | h' v v' 2' | h h' v v' | h h' v v' |
        h v v' 2 | h v v' 2' | h h' v' 7 | h' v v' 2 | h h' v v' |
        h v 2 2' | v v' 2 7 | h h' v 2 | h h' 2' 7 | v v' 2 2'""",
    "local_vmamba_tiny": """
        h h' 7 7' | h' v' 2 2' | h' v' 2' 7 | h' v v' 2 | h h' v' 2' |
        h' v' 2 2' | h 2' 7 7' | h h' v v' | h v' 7 7' | h' v 2 7' |
        v v' 2 7' | h h' v' 2' | v' 2' 7 7' | h' v' 2' 7' | h' v 7 7'""",
    "local_vmamba_small": """
        h v v' 7' | h h' v 7 | h' v v' 7 | h' v 2' 7 | h' v 2' 7 |
        h' v' 2 7' | h' v v' 7 | h v v' 7 | h v v' 7 | h v v' 7' |
        h h' v v' | h v v' 2 | v v' 2' 7 | h h' v 2 | h' v v' 7' |
        h h' v v' | h v v' 7' | h v v' 7' | h h' v' 7 | h' v' 2' 7 |
        h' v v' 7' | v v' 7 7' | h v v' 7' | h' v v' 2 | h v v' 2' |
        h h' v 7 | h h' 7 7' | h v' 2 2' | h v' 2 7 | h v v' 7' |
        h' v 2' 7 | h' v' 7 7' | h v 7 7'""",
}


@pytest.mark.parametrize(("name", "depth"), [("local_vim_tiny", 20), ("local_vim_tiny_middle", 20)])
def test_localvim_layers(name, depth):
    check_local_layers(name, depth, middle=name.endswith("middle"))


@pytest.mark.parametrize(("name", "depth"), [("local_vmamba_tiny", 15), ("local_vmamba_small", 33)])
def test_localvmamba_layers(name, depth):
    check_local_layers(name, depth, middle=False)


def check_local_layers(name, depth, middle):
    cells = LOCAL[name.removesuffix("_middle")].split("|")
    layers = route_sets(name, depth)
    assert len(cells) == len(layers) == depth
    for signs, layer in zip(cells, layers, strict=True):
        assert layer.merge == "per_route_gated"
        for size in ((3, 4), (7, 5), (14, 14)):
            expected = definitions.local_layer(signs, *size, middle=middle)
            rows = [table(steps, *size) for steps in expected]
            assert layer.tables(*size).read.tolist() == padded_rows(rows), signs


def test_tables_say_which_walks_are_plain():
    assert route_set("cross").tables(3, 4).walks == ("row", "col", "~row", "~col")
    fer = route_set("fer").tables(3, 4)
    assert fer.walks == ("row", "col", "~row", "~col", None, None, None, None)
    assert RouteSet(["row:lr"]).tables(3, 4).walks == (None,)
    assert route_set("vim").tables(3, 4).walks == (None, None)
    joined = RouteSet(["row", "col"], join=[[0, 1]]).tables(3, 4)
    assert joined.walks == (None,)
    # A shorter sequence is padded at its end: its row of the table is not the plain walk.
    assert RouteSet(["row", "window(2)"]).tables(3, 4).walks == (None, None)
    assert RouteSet(["row", "window(2)"]).tables(4, 4).walks == ("row", None)


def test_equal_tables_are_one_object():
    cross = route_set("cross").tables(3, 4)
    assert cross.write is cross.project is cross.read
    assert cross.codes is None
    hydra = route_set("hydra").tables(2, 3)
    assert hydra.project is hydra.read
    assert hydra.write.tolist() == [[1, 2, 3, 4, 5, -1], [4, 3, 2, 1, 0, -1]]
    assert hydra.walks == ("row", "~row")
    plain = route_set("serpentine").tables(2, 3)
    assert plain.write is plain.read
    assert plain.project.tolist() == [list(range(6))] * 4
    assert plain.codes.tolist()[:2] == [[0, 1, 1, 4, 2, 2], [0, 1, 1, 3, 2, 2]]
    assert (plain.codes.dtype, plain.project.dtype) == (torch.int64, torch.int32)


def test_joined_codes_start_anew():
    made = RouteSet(["snake_row", "~snake_row"], join=[[0, 1]], codes="step").tables(2, 3)
    assert made.codes.tolist() == [[0, 1, 1, 4, 2, 2, 0, 1, 1, 3, 2, 2]]


@exactly
@given(
    st.sampled_from([*SINGLE, "local_vim_tiny_middle"]),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_inverses_lead_back(name, height, width):
    preset = ROUTE_SETS[name][0] if isinstance(ROUTE_SETS[name], tuple) else ROUTE_SETS[name]
    if preset.dynamic:
        return
    for branch in range(preset.num_branches):
        made = preset.on_branch(branch).tables(height, width)
        for index in (made.reading, made.projecting, made.writing):
            assert index.has_pads == bool((index.index < 0).any())
            assert index.has_gaps == bool((index.inverse < 0).any())
            for steps, visits in zip(index.index, index.inverse, strict=True):
                for token in range(made.tokens):
                    at = (steps == token).nonzero().flatten().tolist()
                    found = visits[:, token].tolist()
                    assert found == at + [-1] * (index.visits - len(at))


# --- the cache


def test_a_size_seen_before_is_not_made_again():
    routes = RouteSet(["row", "zigzag"])
    made = routes.tables(4, 6)
    assert routes.tables(4, 6) is made
    assert RouteSet(["row", "zigzag"]).tables(4, 6, torch.device("cpu")) is made
    for other in (routes.tables(6, 4), RouteSet(["zigzag", "row"]).tables(4, 6)):
        assert other is not made
    assert routes.tables(6, 4).read.tolist()[1] == table(definitions.zigzag(6, 4), 6, 4)
    assert routes.tables(4, 6).read.tolist()[1] == table(definitions.zigzag(4, 6), 4, 6)


def test_copies_of_a_set_share_its_tables():
    preset = route_set("serpentine")
    made = preset.tables(4, 6)
    for copied in (copy.deepcopy(preset), pickle.loads(pickle.dumps(preset))):
        assert copied == preset
        assert hash(copied) == hash(preset)
        assert copied.tables(4, 6) is made


class Holder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.routes = route_set("cross")


def test_tables_are_no_part_of_a_module():
    module = Holder()
    module.routes.tables(4, 4)
    assert not module.state_dict()
    assert not list(module.buffers())
    assert copy.deepcopy(module).to("meta").routes.tables(4, 4).read.device.type == "cpu"


def test_tables_lie_where_they_are_asked_for():
    made = route_set("serpentine").tables(4, 4, "meta")
    tensors = [made.read, made.project, made.write, made.codes, made.reading.inverse]
    assert {t.device.type for t in tensors} == {"meta"}
    assert route_set("serpentine").tables(4, 4).read.device.type == "cpu"


def test_tables_made_in_inference_mode_serve_training():
    clear_table_cache()
    with torch.inference_mode():
        made = route_set("serpentine").tables(3, 3)
        single = ScanRoute("spiral").table(3, 3)
    assert not any(t.is_inference() for t in (made.read, made.reading.inverse, made.codes, single))


def test_tables_made_while_tensors_are_fake_are_real():
    clear_table_cache()
    with FakeTensorMode():
        route_set("cross").tables(3, 5)
        route_set("cross").tables(3, 5, "meta")
    assert type(route_set("cross").tables(3, 5).read) is torch.Tensor
    assert type(route_set("cross").tables(3, 5, "meta").read) is torch.Tensor


def test_the_cache_is_bounded(monkeypatch):
    clear_table_cache()
    made = route_set("cross").tables(8, 8)
    monkeypatch.setattr(tables, "CACHE_BYTES", 3 * tables._size_of(made))
    again = route_set("cross").tables(8, 8)
    assert again is made
    for width in (6, 7):
        route_set("cross").tables(8, width)
        assert route_set("cross").tables(8, 8) is made  # used last, so it stays
    for width in (9, 10, 11):
        route_set("cross").tables(8, width)
    assert len(tables._CACHE) == 2
    assert route_set("cross").tables(8, 8) is not made


# --- routes of one's own


@pytest.fixture
def own_routes(monkeypatch):
    monkeypatch.setattr(registry, "_GENERATORS", dict(registry._GENERATORS))


@pytest.mark.usefixtures("own_routes")
def test_an_own_route_walks():
    @register_route("every_other", permutation=False)
    def every_other(height, width, *, first: int = 0):
        return torch.arange(first, height * width, 2)

    assert known_routes()[-1] == "every_other"
    assert str(ScanRoute("every_other")) == "every_other(first=0)"
    assert ScanRoute("every_other") == ScanRoute("every_other", {"first": 0})
    made = RouteSet(["every_other", "~every_other(1)"]).tables(1, 5)
    assert made.read.tolist() == [[0, 2, 4], [3, 1, -1]]
    assert made.lengths == (3, 2)


@pytest.mark.usefixtures("own_routes")
@pytest.mark.parametrize(
    ("promises", "result", "message"),
    [
        ({}, np.array([0, 6]), r"'own' on 2x3: .* entries from 0 to 6, expected .* up to 5"),
        ({}, np.array([-2, 0]), "entries from -2 to 0"),
        ({}, np.array([0, 1, 0]), "token 0 is read 2 times, expected once at most"),
        ({}, np.array([0.0, 1.0]), "dtype float64, expected one dimension and integers"),
        ({}, np.zeros((2, 3), int), r"shape \(2, 3\)"),
        ({"permutation": True}, np.arange(5), "register it without permutation=True"),
        ({"permutation": True}, np.array([0, 1, 2, 3, 4, 5, -1]), "it pads or leaves tokens out"),
        ({"continuous": True}, np.arange(6), "it jumps; register it without continuous=True"),
    ],
)
def test_a_wrong_table_is_named(promises, result, message):
    register_route("own", **promises)(lambda height, width: result)
    with pytest.raises(ValueError, match=message):
        ScanRoute("own").table(2, 3)


@pytest.mark.usefixtures("own_routes")
def test_names_are_registered_once_and_functions_name_their_keywords():
    with pytest.raises(ValueError, match="route 'row' is registered already"):
        register_route("row")(lambda height, width: None)
    with pytest.raises(ValueError, match="'a b' is no identifier"):
        register_route("a b")(lambda height, width: None)
    for function in (lambda height: None, lambda h, w, **more: None, lambda *sizes: None):
        with pytest.raises(TypeError, match="must take height and width and then named keywords"):
            register_route("own")(function)
    assert "own" not in known_routes()


def test_impossible_sizes_and_keywords_are_refused():
    for size in ((0, 3), (3, -1)):
        with pytest.raises(ValueError, match="at least one row and column"):
            ScanRoute("row").table(*size)
    with pytest.raises(ValueError, match="unknown route 'diagonal'; known: row, col, snake_row"):
        ScanRoute("diagonal")
    with pytest.raises(TypeError, match=r"missing a required .*argument.* 'w'; its keywords: w"):
        ScanRoute("window")
    with pytest.raises(TypeError, match="'window' has no keyword 'size'; it has: w"):
        ScanRoute("window", {"size": 2})
    with pytest.raises(TypeError, match=r"w is .* expected numbers, strings"):
        ScanRoute("window", {"w": {1: 2}})
    with pytest.raises(ValueError, match="a side of at least 1, got w=0"):
        ScanRoute("window", {"w": 0}).table(2, 2)
    with pytest.raises(ValueError, match="got s=2, r0=2, c0=0"):
        ScanRoute.parse("phase(2,2,0,row)").table(2, 2)
    with pytest.raises(ValueError, match="major is 'diag', expected 'row' or 'col'"):
        ScanRoute.parse("phase(2,1,0,diag)").table(2, 2)


def test_jumping_routes_have_no_codes():
    for name in ("row", "zigzag", "window(2)", "hilbert", "snake_row:reverse_then_middle"):
        with pytest.raises(ValueError, match="has no step codes"):
            ScanRoute.parse(name).codes(3, 3)


def test_the_package_names_what_it_exports():
    assert sorted(routes.__all__) == routes.__all__
    assert all(hasattr(routes, name) for name in routes.__all__)
