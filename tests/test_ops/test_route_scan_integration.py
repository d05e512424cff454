"""The route scan as PyTorch sees it: registration, autograd, autocast, compile, memory, counts."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from route_cases import (
    FLOAT32,
    NAMES,
    DynamicCase,
    RouteCase,
    assert_close,
    assert_same_bits,
    call,
    expected,
    gradients_of,
    run,
)
from scan_cases import leaves, relative_error
from torch import library
from torch.utils._python_dispatch import TorchDispatchMode

from mamba_mm.measuring.peak_memory import peak_bytes
from mamba_mm.ops import route_scan
from mamba_mm.ops.compiled_scan import CHECKPOINT_LANES, CHECKPOINT_STEPS

pytestmark = pytest.mark.usefixtures("compiled")

ROOT = Path(__file__).parents[2]
SLACK_BYTES = 16 * 1024  # of small parameters that are copied, and rounding up


def given_leaves(case):
    """The tensors that are given, as leaves, and a function of them alone."""
    arguments = leaves(case.arguments())
    names = [name for name, t in arguments.items() if t is not None]

    def function(*tensors):
        given = dict.fromkeys(NAMES) | dict(zip(names, tensors, strict=True))
        return call(given, **case.keywords(), fused=True)

    return function, [arguments[name] for name in names]


@pytest.mark.parametrize(
    "name", ["cross", "atrous2", "serpentine", "vim", "two groups, twice each", "input only"]
)
@pytest.mark.parametrize("rank", [None, 2])
def test_gradcheck(name, rank):
    case = RouteCase(name, (2, 3), batch=1, dim=2, states=2, rank=rank, dtype=torch.float64)
    assert torch.autograd.gradcheck(*given_leaves(case))


def test_gradcheck_over_several_windows():
    case = RouteCase("hydra", (2, 33), batch=1, dim=1, states=1, rank=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(*given_leaves(case))


def test_gradcheck_of_orders_of_the_call():
    like = RouteCase(dim=2, rank=1, dtype=torch.float64)
    case = DynamicCase(((3, -1, 0), (-1, 2, 1)), 4, like=like)
    arguments = leaves(case.arguments())
    names = [name for name, t in arguments.items() if t is not None]

    def function(*tensors):
        given = dict.fromkeys(NAMES) | dict(zip(names, tensors, strict=True))
        return call(given, **case.keywords())

    assert torch.autograd.gradcheck(function, [arguments[name] for name in names])


@pytest.mark.parametrize("name", ["cross", "atrous2", "serpentine"])
@pytest.mark.parametrize("wanted", [*NAMES[:6], "codes"])
def test_any_one_input_may_need_a_gradient(wanted, name):
    case = RouteCase(name)
    arguments = case.arguments()
    if arguments[wanted] is None:
        arguments, wanted = RouteCase(name, rank=None).arguments(), "delta"
        case = RouteCase(name, rank=None)
    arguments[wanted].requires_grad_()
    results = gradients_of(call(arguments, **case.keywords(), fused=True), arguments)
    assert list(results) == ["y", f"d{wanted}"]
    assert torch.equal(results[f"d{wanted}"], run(case, fused=True)[f"d{wanted}"])


class Tables(TorchDispatchMode):
    """Which of the three tables the op is given, forward and backward."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        first = {"mamba_mm.route_scan_fwd.default": 8, "mamba_mm.route_scan_bwd.default": 9}
        if str(op) in first:
            at = first[str(op)]
            self.seen[str(op)] = [t is not None for t in args[at : at + 3]]
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cross", [False, False, False]),
        ("atrous2", [True, False, False]),
        ("input only", [True, True, False]),
        ("shifted, with pads", [True, False, True]),
        ("input only, shifted", [True, True, True]),
    ],
)
def test_equal_tables_are_one(name, given):
    case = RouteCase(name, (4, 4))
    with Tables() as tables:
        assert_close(run(case, fused=True), expected(case), FLOAT32, case)
    assert list(tables.seen.values()) == [given, given]


def test_one_table_serves_an_order_of_the_call():
    case = DynamicCase(((4, 0, 7, 2, 9, 1),), 10)
    arguments = leaves(case.arguments())
    with Tables() as tables:
        actual = gradients_of(call(arguments, **case.keywords()), arguments)
    assert_close(actual, case.reference(), FLOAT32, case)
    assert list(tables.seen.values()) == [[True, False, False]] * 2


def test_double_backward_raises_clearly():
    arguments = leaves(RouteCase().arguments())
    y = call(arguments, routes="cross")
    (gradient,) = torch.autograd.grad(y.sum(), arguments["x"], create_graph=True)
    message = "no double backward; use fused=False with backend='torch'"
    with pytest.raises(RuntimeError, match=message):
        gradient.sum().backward()


def test_the_way_out_of_double_backward_works():
    case = RouteCase("cross", (2, 2), batch=1, dim=2, states=1, rank=1)
    arguments = leaves(case.arguments())
    y = call(arguments, routes="cross", fused=False, backend="torch")
    (gradient,) = torch.autograd.grad(y.square().sum(), arguments["x"], create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), arguments["A"])
    assert second.isfinite().all()
    assert second.count_nonzero() > 0


class Checkpoints(TorchDispatchMode):
    """The shapes of the checkpoints that forward passes save."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        if function is torch.ops.mamba_mm.route_scan_fwd.default:
            self.shapes.append(tuple(results[1].shape))
        return results


def test_checkpoints_are_saved_only_for_gradients():
    case = RouteCase("cross", (10, 13), batch=2, dim=20, states=3)
    arguments = leaves(case.arguments())
    frozen = {name: t if t is None else t.detach() for name, t in arguments.items()}
    with Checkpoints() as seen:
        tracked = call(arguments, **case.keywords())
        with torch.no_grad():
            untracked = call(arguments, **case.keywords())
        call(frozen, **case.keywords())
        with torch.inference_mode():
            call(arguments, **case.keywords())
    # 130 steps: the states before steps 32, 64, 96 and 128, for two blocks of 16 channels.
    assert seen.shapes == [(2, 4 * 2, 4, 3, 16), *[(2, 4 * 2, 0, 3, 16)] * 3]
    assert not untracked.requires_grad
    assert torch.equal(tracked, untracked)


def test_a_raw_forward_pass_without_checkpoints_refuses_a_backward_pass():
    tensors, rest = raw_arguments(RouteCase(), save_checkpoints=False)
    y, _ = torch.ops.mamba_mm.route_scan_fwd(*tensors, *rest)
    with pytest.raises(RuntimeError, match="without checkpoints"):
        y.sum().backward()


def test_activation_checkpointing_gives_the_same_gradients():
    case = RouteCase("fer")

    def checkpointed(*positional, delta_weight, delta, codes, **keywords):
        def again(*tensors):
            return route_scan(*tensors[:5], delta_weight=tensors[5], **keywords)

        given = (*positional, delta_weight)
        return torch.utils.checkpoint.checkpoint(again, *given, use_reentrant=False)

    assert_same_bits(run(case, function=checkpointed), run(case))


def raw_arguments(case, walks=(1, 2, 3, 4), layout=None, save_checkpoints=True, out_dtype=None):
    """What ``route_scan_fwd`` itself takes."""
    arguments = leaves(case.arguments())
    arguments["x"], arguments["params"] = (
        arguments[name].detach().flatten(-2) for name in ("x", "params")
    )
    if layout is not None:
        arguments["x"] = arguments["x"].mT.contiguous().mT
        arguments["params"] = arguments["params"].movedim(3, 1).contiguous().movedim(1, 3)
    if arguments["delta"] is not None:
        arguments["delta"] = arguments["delta"].detach().flatten(-2).requires_grad_()
    for name in ("x", "params"):
        arguments[name].requires_grad_()
    tables = (None, None, None)
    if 0 in walks:
        made = case.routes.tables(*case.size)
        tables = (made.read[None], made.project[None], made.write[None])
    order = ("x", "params", "delta", "A", "delta_weight", "D", "delta_bias")
    rest = (list(walks), *tables, *case.size, case.softplus, 0.5, save_checkpoints)
    return [arguments[name] for name in order], (*rest, out_dtype or case.dtype)


RAW_CASES = {
    "plain walks": (RouteCase(), {}),
    "channels last": (RouteCase(), {"layout": "last"}),
    "several windows": (RouteCase(size=(5, 14), dim=36), {}),
    "tables": (RouteCase("atrous2"), {"walks": (0, 0, 0, 0)}),
    "tables of three kinds": (RouteCase("shifted, with pads"), {"walks": (0, 0)}),
    "walks beside tables": (RouteCase("fer"), {"walks": (1, 2, 3, 4, 0, 0, 0, 0)}),
    "delta given": (RouteCase(rank=None, options=()), {}),
    "bfloat16": (RouteCase(dtype=torch.bfloat16, rank=None), {"out_dtype": torch.float32}),
    "no states": (RouteCase(states=0), {}),
    "one token": (RouteCase(size=(1, 1)), {}),
}


@pytest.mark.parametrize("which", RAW_CASES)
def test_opcheck_forward(which):
    case, keywords = RAW_CASES[which]
    tensors, rest = raw_arguments(case, **keywords)
    library.opcheck(torch.ops.mamba_mm.route_scan_fwd, (*tensors, *rest))


@pytest.mark.parametrize("which", RAW_CASES)
def test_opcheck_backward(which):
    case, keywords = RAW_CASES[which]
    tensors, rest = raw_arguments(case, **keywords)
    tensors = [t if t is None else t.detach() for t in tensors]
    y, checkpoints = torch.ops.mamba_mm.route_scan_fwd(*tensors, *rest)
    library.opcheck(torch.ops.mamba_mm.route_scan_bwd, (y, *tensors, *rest[:-2], checkpoints))


@pytest.fixture
def fresh_compiler():
    """Dynamo counts compilations of a function, whichever test made them."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["cross", "atrous2", "serpentine", "vim", "mean"])
def test_compile_without_graph_breaks(name):
    case = RouteCase(name, (5, 8), dim=10)
    traced = torch.compile(route_scan, fullgraph=True, backend="aot_eager", dynamic=False)
    assert_same_bits(run(case, function=traced), run(case))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_one_compilation_serves_all_sizes_of_plain_walks(where):
    compilations = []

    def backend(module, inputs):
        compilations.append(module)
        return torch._dynamo.lookup_backend("aot_eager")(module, inputs)

    traced = torch.compile(route_scan, fullgraph=True, backend=backend, dynamic=True)
    for size in ((12, 9), (7, 16), (20, 11)):
        case = RouteCase("cross", size, dim=10)
        keywords = {"delta_projection": where}
        assert_same_bits(run(case, function=traced, **keywords), run(case, **keywords))
    assert len(compilations) == 1


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["atrous2", "vim"])
def test_tables_are_compiled_for_every_size(name):
    traced = torch.compile(route_scan, fullgraph=True, backend="aot_eager")
    for size in ((5, 8), (6, 7)):
        case = RouteCase(name, size, dim=10)
        assert_same_bits(run(case, function=traced), run(case))


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["cross", "atrous2"])
def test_compile_with_inductor(name):
    case = RouteCase(name, (5, 8), dim=10)
    traced = torch.compile(route_scan, fullgraph=True)
    assert_close(run(case, function=traced), expected(case), FLOAT32, case)


class Scan(torch.nn.Module):
    def __init__(self, case, **keywords):
        super().__init__()
        self.names = [n for n, t in case.arguments().items() if t is not None]
        self.keywords = case.keywords() | keywords

    def forward(self, *tensors):
        given = dict.fromkeys(NAMES) | dict(zip(self.names, tensors, strict=True))
        return call(given, **self.keywords)


def given(case):
    return tuple(t for t in case.arguments().values() if t is not None)


def test_export_with_dynamic_batch_height_and_width():
    small = RouteCase(size=(5, 7), batch=2, dim=6)
    batch, height, width = (torch.export.Dim(name, min=2) for name in ("batch", "h", "w"))
    shapes = [{0: batch, 2: height, 3: width}, {0: batch, 3: height, 4: width}]
    shapes += [{}] * (len(given(small)) - 2)
    program = torch.export.export(Scan(small), given(small), dynamic_shapes=(tuple(shapes),))
    for size, count in (((12, 9), 3), ((2, 40), 2)):
        large = RouteCase(size=size, batch=count, dim=6)
        assert torch.equal(program.module()(*given(large)), Scan(large)(*given(large)))


def test_export_with_tables():
    case = RouteCase("serpentine", batch=2, dim=6)
    program = torch.export.export(Scan(case), given(case))
    assert torch.equal(program.module()(*given(case)), Scan(case)(*given(case)))


class Casts(TorchDispatchMode):
    """Dtypes that the scan was called with."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.mamba_mm.route_scan_fwd.default:
            self.seen = [None if t is None else t.dtype for t in args[:7]]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_activations_and_keeps_parameters(dtype, where):
    case = RouteCase("cross", dim=10)
    arguments = leaves(case.arguments())
    keywords = {**case.keywords(), "delta_projection": where}
    with Casts() as casts, torch.autocast("cpu", dtype=dtype):
        y = call(arguments, **keywords)
        wide = call(arguments, **keywords, out_dtype=torch.float32)
        apart = call(arguments, **keywords, out_dtype=torch.float32, fused=False)
    wanted = {"inside": (None, torch.float32), "outside": (torch.float32, None)}[where]
    assert casts.seen == [dtype, dtype, wanted[0], torch.float32, wanted[1], *[torch.float32] * 2]
    assert (y.dtype, wide.dtype) == (dtype, torch.float32)
    rounded = {
        n: t.to(dtype).float() if n in ("x", "params") else t for n, t in case.arguments().items()
    }
    reference = call(
        {n: t if t is None else t.double() for n, t in rounded.items()}, **case.keywords()
    )
    assert relative_error(wide, reference) < FLOAT32
    assert relative_error(apart, reference) < FLOAT32
    assert relative_error(y, reference) < torch.finfo(dtype).eps
    y.float().sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in arguments.values() if t is not None)


def test_autocast_leaves_float64_alone():
    case = RouteCase(dtype=torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = call(case.arguments(), **case.keywords())
    assert y.dtype == torch.float64
    assert relative_error(y, expected(case)["y"]) < 1e-12


def test_a_gradient_under_autocast_is_that_of_rounded_inputs():
    case = RouteCase("fer")
    arguments, narrow = leaves(case.arguments()), case.arguments()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = call(arguments, **case.keywords(), out_dtype=torch.float32)
    narrow |= {name: narrow[name].bfloat16() for name in ("x", "params")}
    reference = run(case, narrow, out_dtype=torch.float32)
    for name, t in gradients_of(y, arguments).items():
        assert torch.equal(t, reference[name].float()), name


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def large(size, dim, layout, name="cross", **fields):
    case = RouteCase(name, size, batch=1, dim=dim, states=1, rank=6, **fields)
    arguments = case.arguments()
    if layout == "channels last":
        arguments["x"] = arguments["x"].to(memory_format=torch.channels_last)
        arguments["params"] = arguments["params"].movedim(2, -1).contiguous().movedim(-1, 2)
    return case, arguments


SHAPES = [((56, 56), 192), ((200, 320), 96)]


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
@pytest.mark.parametrize(("size", "dim"), SHAPES)
def test_the_forward_pass_needs_one_map(size, dim, layout, threads):
    case, arguments = large(size, dim, layout)
    map_bytes = 4 * dim * size[0] * size[1]
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **case.keywords()))
    # The output, and at most one map.
    assert map_bytes < most <= 2 * map_bytes + SLACK_BYTES


@pytest.mark.parametrize("name", ["fer", "atrous2", "hydra"])
def test_tables_need_no_more(name):
    case, arguments = large((56, 56), 192, "contiguous", name)
    map_bytes = 4 * 192 * 56 * 56
    call(arguments, **case.keywords())  # makes the tables, which are kept
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **case.keywords()))
    assert most <= 2 * map_bytes + SLACK_BYTES


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_needs_one_map_of_float32(dtype, threads):
    case, arguments = large((56, 56), 192, "contiguous", dtype=dtype)
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **case.keywords(), out_dtype=dtype))
    assert most <= (2 + 4) * 192 * 56 * 56 + SLACK_BYTES


def test_few_channels_need_two_tiles_of_sixteen():
    case, arguments = large((56, 56), 8, "contiguous")
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **case.keywords()))
    assert most <= 4 * (8 + 2 * 16) * 56 * 56 + SLACK_BYTES


@pytest.mark.parametrize(("size", "dim"), SHAPES)
def test_training_keeps_one_map_and_the_states_of_chunks(size, dim, threads):
    case, arguments = large(size, dim, "channels last")
    arguments = leaves(arguments)
    length = size[0] * size[1]
    chunks = (length - 1) // CHECKPOINT_STEPS
    states = 4 * 4 * chunks * -(-dim // CHECKPOINT_LANES) * CHECKPOINT_LANES
    most = peak_bytes(lambda: call(arguments, **case.keywords()))
    assert states < most <= 2 * 4 * dim * length + states + SLACK_BYTES


def test_gather_scan_merge_needs_several_maps():
    # Or the measurement proves nothing.
    case, arguments = large((56, 56), 192, "contiguous")
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **case.keywords(), fused=False))
    assert most > 8 * 4 * 192 * 56 * 56


def test_a_projection_outside_needs_the_maps_that_it_says():
    case, arguments = large((56, 56), 192, "contiguous")
    keywords = case.keywords() | {"delta_projection": "outside"}
    with torch.no_grad():
        most = peak_bytes(lambda: call(arguments, **keywords))
    assert most > 4 * 4 * 192 * 56 * 56


RESIDENT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, "tests/test_ops")
from route_cases import RouteCase, call

def high_water():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

case = RouteCase("cross", (200, 320), batch=1, dim=96, states=1, rank=6)
small = RouteCase("cross", (20, 20), batch=1, dim=96, states=1, rank=6)
arguments = case.arguments()
call(small.arguments(), **small.keywords())
for fused in (True, False):
    # Forget the peak of what made the arguments.
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water()
    y = call(arguments, **case.keywords(), fused=fused)
    print((high_water() - before) / (y.numel() * 4))
    del y
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux has it")
def test_no_memory_is_taken_behind_the_allocator():
    done = subprocess.run(
        [sys.executable, "-c", RESIDENT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    fused, apart = (float(line) for line in done.stdout.split())
    # Output, one map and what pages and threads round up to.
    assert 1 < fused < 2.5
    assert apart > 6


def counted(case, **keywords):
    """Operations by MMEngine's analyser, and by PyTorch's counter."""
    module, tensors = Scan(case, **keywords), given(case)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        module(*tensors)
    analysis = pytest.importorskip("mmengine.analysis", reason="MMEngine is not installed")
    return analysis.FlopAnalyzer(module, tensors).total(), counter.get_total_flops()


COUNTED = [
    # Name, sequences and steps of each on 5 x 7.
    ("cross", 4, 35),
    ("atrous2", 4, 12),
    ("fer", 8, 35),
    ("msvmamba_v1, half map", 1, 105),
    ("vim", 2, 36),
    ("serpentine", 4, 35),
]


@pytest.mark.parametrize(("name", "sequences", "length"), COUNTED)
def test_flops_in_mmengine_and_torch(name, sequences, length):
    elements = sequences * 20 * length
    scan, product = elements * (9 * 2 + 1), elements * 3
    case = RouteCase(name, batch=1, dim=20, states=2, rank=3)
    # By hand: 9 operations a state and one for the skip, and the projection of the step sizes.
    assert counted(case) == (scan + product, scan + 2 * product)
    assert counted(case, fused=False) == counted(case)


def test_flops_of_a_projection_outside():
    case = RouteCase("cross", batch=1)
    assert counted(case, delta_projection="outside") == counted(case)


def test_flops_of_a_batch_without_skip_and_projection():
    batch, elements = 3, 4 * 20 * 35
    case = RouteCase("cross", batch=batch, rank=None, options=())
    assert counted(case) == (batch * elements * 18,) * 2
    projected = RouteCase("cross", batch=batch, rank=3, options=())
    assert counted(projected) == (batch * elements * (18 + 3), batch * elements * (18 + 6))


@pytest.mark.parametrize(("arch", "published"), [("tiny_s1l8", 4.9056), ("v0_tiny", 5.6269)])
def test_flops_of_a_model_are_the_published_ones(arch, published):
    analysis = pytest.importorskip("mmengine.analysis", reason="MMEngine is not installed")
    from mamba_mm.models.backbones import VMamba

    model = VMamba(arch, out_indices=(3,)).eval()
    head = 768 * 1000
    total = analysis.FlopAnalyzer(model, torch.rand(1, 3, 224, 224)).total() + head
    assert round(total / 1e9, 4) == published


def test_heads_compile_whole():
    function, tensors = given_leaves(RouteCase("two heads", (3, 5), dim=8, states=2))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), function(*tensors))


class DeltaSpy(TorchDispatchMode):
    """Notes whether delta came whole to the op: it was projected outside."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.mamba_mm.route_scan_fwd.default:
            self.outside = args[2] is not None
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("rank", [6, 39, 40, 95, 96])
@pytest.mark.parametrize("where", ["auto", "inside", "outside"])
def test_where_delta_is_projected(where, rank, gradients):
    case = RouteCase("cross", (3, 4), dim=8, states=1, rank=rank)
    arguments = leaves(case.arguments())
    with torch.set_grad_enabled(gradients), DeltaSpy() as spy:
        y = call(arguments, **case.keywords(), delta_projection=where)
    large = rank >= (40 if gradients else 96)
    assert spy.outside == {"auto": large, "inside": False, "outside": True}[where]
    reference = call(arguments, **case.keywords(), fused=False)
    assert relative_error(y, reference.double()) < FLOAT32
