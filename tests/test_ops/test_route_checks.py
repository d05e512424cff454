"""Every mistake in the arguments of the route scan is named, with what was expected."""

import pytest
import torch
from route_cases import NAMES, RouteCase, call

from mamba_mm.ops.routes import RouteSet, dynamic_index, multi_head, route_set

CASE = RouteCase(size=(3, 4), batch=2, dim=6, states=2, rank=3)
VIM = route_set("vim")
DYNAMIC = RouteSet(["row", "~row"], dynamic=True)
CODED = RouteSet(["spiral"], codes="step")


def scan(**changes):
    given = {**CASE.arguments(), "routes": "cross", **changes}
    return call({name: given.pop(name) for name in NAMES}, **given)


def ones(*shape, **keywords):
    return torch.ones(*shape, **keywords)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": ones(6, 3)}, ValueError, r"x has shape \(6, 3\), expected \(B, D, H, W\) or"),
        ({"x": ones(2, 6, 12)}, ValueError, r"x has shape \(2, 6, 12\); tokens need size=\(H, W\)"),
        ({"params": ones(2, 4, 6, 3, 4)}, ValueError, r"params has .* \(2, 4, 7, 3, 4\), .* R = 3"),
        ({"params": ones(2, 4, 7, 12)}, ValueError, r"params has shape \(2, 4, 7, 12\), expected"),
        ({"params": ones(2, 1, 7, 3, 4)}, ValueError, r"params has .* expected \(2, 4, 7, 3, 4\)"),
        ({"A": ones(6, 2)}, ValueError, r"A has shape \(6, 2\), expected \(G, D, N\) with G = 4"),
        ({"A": ones(4, 5, 2)}, ValueError, r"A has shape .* parameter groups and D = 6"),
        ({"D": ones(24)}, ValueError, r"D has shape \(24,\), expected \(4, 6\), \(G, D\)"),
        ({"delta_bias": ones(4, 1)}, ValueError, r"delta_bias has shape \(4, 1\), expected"),
        ({"delta_weight": ones(24, 3)}, ValueError, r"delta_weight has .* expected \(4, 6, R\)"),
        ({"delta_weight": None}, ValueError, "expected one of delta and delta_weight"),
        ({"delta": ones(2, 4, 6, 3, 4)}, ValueError, "expected one of delta and delta_weight"),
        (
            {"delta": ones(2, 4, 6, 4, 3), "delta_weight": None, "params": ones(2, 4, 4, 3, 4)},
            ValueError,
            r"delta has shape \(2, 4, 6, 4, 3\), expected \(2, 4, 6, 3, 4\)",
        ),
        ({"codes": ones(5, 2)}, ValueError, "a set with codes=None takes no codes"),
        ({"routes": CODED}, ValueError, r"a set with codes='step' needs codes, \(5, N\)"),
        ({"size": (3, 4)}, ValueError, "size is for tokens .* x is a map, leave size out"),
        ({"routes": VIM, "size": (3, 4)}, ValueError, "size is for tokens"),
        ({"routes": VIM}, ValueError, r"these routes walk tokens; give x as \(B, D, T\)"),
        (
            {"routes": VIM, "size": (3, 4), "x": ones(2, 6, 12)},
            ValueError,
            r"x has 12 tokens, expected H W = 3 \* 4 and 1 extra",
        ),
        ({"routes": "msvmamba_v1"}, ValueError, r"walk 2 maps, .* routes.on_branch\(b\)"),
        ({"routes": DYNAMIC}, ValueError, "dynamic=True needs an index, from dynamic_index"),
        (
            {"index": dynamic_index(DYNAMIC, torch.arange(3), 12)},
            ValueError,
            "dynamic=False takes no index",
        ),
        (
            {"routes": DYNAMIC, "index": dynamic_index(DYNAMIC, torch.arange(3), 12)},
            ValueError,
            "these routes walk tokens",
        ),
        (
            {
                "routes": DYNAMIC,
                "index": dynamic_index(DYNAMIC, torch.arange(3), 11),
                "x": ones(2, 6, 12),
            },
            ValueError,
            "the index is for 11 tokens, x has 12",
        ),
        (
            {"routes": multi_head(["cross", "atrous2"], 8)},
            ValueError,
            r"slices \[\(0, 4\), \(4, 8\)\] do not cut D = 6 channels into equal heads",
        ),
        ({"routes": "crosses"}, ValueError, "unknown route set 'crosses'; known: cross, "),
        ({"delta_projection": "in"}, ValueError, "'in', expected one of auto, inside, outside"),
        ({"backend": "mkl"}, ValueError, "backend is 'mkl'; expected one of cpu"),
        ({"x": [1.0]}, TypeError, "x is list, expected a tensor"),
        ({"x": ones(2, 6, 3, 4, dtype=torch.int64)}, TypeError, "x is torch.int64, expected"),
        ({"A": ones(4, 6, 2, dtype=torch.complex64)}, TypeError, "A is torch.complex64"),
        ({"D": ones(4, 6, device="meta")}, ValueError, "D is on meta, expected cpu"),
    ],
)
def test_the_offending_argument_is_named(changes, error, message):
    with pytest.raises(error, match=message) as caught:
        scan(**changes)
    assert "\n" not in str(caught.value)


def test_codes_of_a_wrong_shape_are_refused():
    case = RouteCase("serpentine", (3, 4))
    arguments = case.arguments()
    arguments["codes"] = arguments["codes"][:4]
    with pytest.raises(ValueError, match=r"codes has shape \(4, 2\), expected \(5, 2\), one row"):
        call(arguments, **case.keywords())


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mhsvm_c", "the fused op sums, and the routes are merged by 'gated'"),
        ("local_vim_small", "the routes are merged by 'per_route_gated'"),
        ("codes that walk", r"it takes step codes only .* in raster order \(input_only\)"),
    ],
)
def test_the_fused_op_says_why_it_cannot_run(name, reason):
    case = RouteCase(name, (3, 4))
    with pytest.raises(ValueError, match=f"fused=True, but .*{reason}.*; leave fused open"):
        call(case.arguments(), **case.keywords(), fused=True)


def test_a_backend_without_the_fused_op_says_so():
    with pytest.raises(ValueError, match="fused=True, but backend 'torch' has no fused op"):
        scan(fused=True, backend="torch")


def test_gates_go_with_their_merge_only():
    case = RouteCase("local_vim_small", (3, 4))
    keywords = case.keywords()
    del keywords["gates"]
    with pytest.raises(ValueError, match="merge='per_route_gated' needs gates"):
        call(case.arguments(), **keywords)
    with pytest.raises(ValueError, match="merge='gated' takes no gates"):
        call(RouteCase("mhsvm_c").arguments(), routes="mhsvm_c", gates=torch.ones(1))


@pytest.mark.parametrize("fused", [None, False])
def test_gates_are_refused_by_a_sum_however_it_runs(fused):
    with pytest.raises(ValueError, match="merge='sum' takes no gates"):
        scan(gates=torch.ones(1), fused=fused)


RAW = ("x", "params", "delta", "A", "delta_weight", "D", "delta_bias")
TABLE = torch.arange(12, dtype=torch.int32).expand(1, 4, 12)


def raw_arguments():
    given = CASE.arguments()
    return given | {"x": given["x"].flatten(2), "params": given["params"].flatten(3)}


def raw_scan(**changes):
    """Call the op that is under ``route_scan``, which tests what it is given itself."""
    rest = {"walks": [1, 2, 3, 4], "read": None, "project": None, "write": None}
    rest |= {"height": 3, "width": 4, "delta_softplus": True, "scale": 1.0}
    rest |= {"save_checkpoints": False, "out_dtype": torch.float32}
    given = raw_arguments() | changes
    tensors = [given[name] for name in RAW]
    return torch.ops.mamba_mm.route_scan_fwd(
        *tensors, *(changes.get(n, v) for n, v in rest.items())
    )


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": ones(2, 6, 3, 4)}, r"x must be \(batch, dim, positions\)"),
        ({"A": ones(24, 2)}, r"A must be \(sequences, dim, states\)"),
        ({"params": ones(2, 4, 8, 12)}, "params has a shape that does not fit x, params and A"),
        ({"D": ones(4, 5)}, "D has a shape that does not fit"),
        ({"delta": ones(2, 4, 6, 12)}, "give either delta or delta_weight"),
        ({"delta_weight": None}, "give either delta or delta_weight"),
        ({"walks": [1, 2, 3]}, "walks must name one walk a sequence"),
        ({"walks": [1, 2, 3, 5]}, "there is no such walk"),
        ({"walks": [1, 2, 3, -1]}, "there is no such walk"),
        ({"walks": [0, 1, 2, 3]}, "a walk along a table needs the table `read`"),
        ({"height": 4}, "only a walk over all height x width positions goes without a table"),
        ({"walks": [1, 0, 0, 0], "read": TABLE[..., :9]}, "goes without a table"),
        ({"walks": [0] * 4, "read": TABLE.long()}, "the table read must be int32"),
        ({"walks": [0] * 4, "read": TABLE + 1}, "read holds the position 12, .* one, 11"),
        ({"walks": [0] * 4, "read": TABLE - 2}, "read holds the position -2, expected -1"),
        ({"walks": [0] * 4, "read": TABLE.expand(3, 4, 12)}, "read must be for all batch items or"),
        ({"walks": [0] * 4, "read": TABLE[:, :3]}, "read has a shape"),
        ({"walks": [0] * 4, "read": TABLE, "write": TABLE + 1}, "write holds the position 12"),
        ({"walks": [0] * 4, "read": TABLE, "project": TABLE[..., :3]}, "project has a shape"),
    ],
)
def test_the_op_never_reads_or_writes_outside_its_tensors(changes, message):
    with pytest.raises(RuntimeError, match=message):
        raw_scan(**changes)


@pytest.mark.usefixtures("compiled")
def test_the_backward_op_takes_its_own_checkpoints_only():
    tensors = [raw_arguments()[name] for name in RAW]
    rest = ([1, 2, 3, 4], None, None, None, 3, 4, True, 1.0)
    with pytest.raises(RuntimeError, match="checkpoints are not those of this call"):
        torch.ops.mamba_mm.route_scan_bwd(ones(2, 6, 12), *tensors, *rest, ones(2, 4, 1, 2, 16))
    with pytest.raises(RuntimeError, match="grad_out has a shape"):
        torch.ops.mamba_mm.route_scan_bwd(ones(2, 6, 13), *tensors, *rest, ones(2, 4, 0, 2, 16))


def test_good_arguments_pass():
    assert scan().shape == (2, 6, 3, 4)


@pytest.mark.usefixtures("compiled")
def test_good_raw_arguments_pass():
    y, checkpoints = raw_scan()
    assert torch.equal(y, scan().flatten(2))
    assert checkpoints.numel() == 0
