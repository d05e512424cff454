"""The Triton kernels of the route scan, compiled for GPUs that need not be there, and traced."""

import importlib

import pytest
import torch
from route_cases import RouteCase, call
from scan_cases import leaves

triton = pytest.importorskip("triton", reason="needs triton, which is not installed")
if triton.knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET is set: there is nothing to compile", allow_module_level=True)

from triton_builds import TARGETS, recorder  # noqa: E402

from mamba_mm.ops.triton import route_scan as backend  # noqa: E402

# The package offers the function under the name of its module.
front = importlib.import_module("mamba_mm.ops.route_scan")
WHOLE, SEGMENTED = {"THREADS_WANTED": 0}, {"SHORTEST_SEGMENT": 4}


@pytest.fixture
def on_triton(monkeypatch):
    """Call the route scan as on a machine whose backend is Triton."""
    monkeypatch.setattr(front, "choose_backend", lambda *_: "triton")
    return lambda case, inputs: call(inputs, **case.keywords(), delta_projection="inside")


@pytest.fixture
def launched(monkeypatch, on_triton):
    """What a call and its backward pass launch; nothing runs."""

    def record(case, constants=WHOLE, warp=32, layout=lambda t: t):
        launches = []
        with monkeypatch.context() as patch:
            for name, value in {
                "wrap_triton": recorder(launches),
                "WARP": warp,
                **constants,
            }.items():
                patch.setattr(backend, name, value)
            arguments = case.arguments()
            arguments["x"] = layout(arguments["x"])
            on_triton(case, leaves(arguments)).float().sum().backward()
        return launches

    return record


def case_of(name="cross", **fields):
    return RouteCase(name, **({"size": (4, 6), "batch": 1, "dim": 64, "states": 1} | fields))


def test_another_image_size_is_no_other_kernel(launched):
    def keys(constants, **fields):
        return {launch.key() for launch in launched(case_of(**fields), constants)}

    for constants, kernels in ((WHOLE, 2), (SEGMENTED, 6)):
        reference = keys(constants)
        assert len(reference) == kernels
        for size in ((5, 7), (7, 5), (16, 16)):
            assert keys(constants, size=size) == reference, size
        assert keys(constants, batch=3, dim=192) == reference
        # Six ranks and more are taken by divisors.
        assert keys(constants, rank=6) == keys(constants, rank=12)
    for constants in (WHOLE, SEGMENTED):
        tables = keys(constants, name="atrous2", size=(8, 8))
        assert keys(constants, name="atrous2", size=(7, 9)) == tables


def test_sequences_share_launches_where_they_need_not_wait(launched):
    def names(*arguments, **fields):
        return [launch.name for launch in launched(case_of(*arguments, **fields))]

    assert names(dim=512) == ["route_forward", "route_backward"]
    # Four walks without tables, four with.
    assert names("fer", dim=512)[:3] == ["route_forward", "route_forward", "route_backward"]
    # Where partial sums of all sequences would need more memory than the map.
    assert names(states=16).count("route_backward") == 4
    segmented = [launch.name for launch in launched(case_of(), SEGMENTED)]
    assert segmented[:6] == ["route_ends", "carry_over", *["route_forward"] * 4]
    assert segmented[6:] == ["route_ends", "carry_over", *["route_backward"] * 4]
    tables = launched(case_of("atrous2", size=(8, 8)), SEGMENTED)
    assert [launch.name for launch in tables] == segmented


def checked(launch, target, local_bytes=0):
    build = launch.build(target)
    assert build.atomics == 0
    assert build.shared == 0
    assert build.barriers == 0
    registers, local = build.resources()
    assert local <= local_bytes, f"{launch.name} for {target}: {local} bytes of local memory"
    return build, registers


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("case", "allowed"),
    [(case_of(), 128), (case_of("atrous2"), 128), (case_of(states=16), 192)],
    ids=str,
)
def test_forward_needs_no_exchange_of_threads(case, allowed, target, launched):
    launch = launched(case, warp=TARGETS[target].warp_size)[0]
    assert launch.name == "route_forward"
    build, registers = checked(launch, target)
    assert build.exchanges == 0
    # Softplus and one decay a state, some steps at a time.
    assert build.exponentials == {1: 4, 16: 2}[case.states] * (case.states + 1)
    assert registers <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["cross", "vim"])
def test_passes_over_segments_need_no_exchange_of_threads(name, target, launched):
    launches = launched(case_of(name), SEGMENTED, TARGETS[target].warp_size)
    assert [launch.name for launch in launches].count("route_ends") == 2
    for launch in launches:
        if launch.name == "route_ends":
            build, registers = checked(launch, target)
            assert build.exchanges == 0
            assert registers <= 96


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "target"),
    [
        (case_of(rank=2), "sm_90"),
        (case_of(rank=2), "gfx942"),
        (case_of(rank=None, states=16), "sm_80"),
    ],
    ids=str,
)
def test_backward_sums_over_lanes_only(case, target, launched):
    launch = launched(case, warp=TARGETS[target].warp_size)[-1]
    assert launch.name == "route_backward"
    # The states of a window leave no room for all: a few words a thread go to its local memory.
    build, _ = checked(launch, target, local_bytes={1: 32, 16: 256}[case.states])
    assert build.exchanges > 0


@pytest.mark.slow
def test_half_precision_rounds_to_nearest(launched):
    for dtype, suffix in ((torch.bfloat16, "bf16"), (torch.float16, "f16")):
        x_last = launched(
            case_of(dtype=dtype), layout=lambda t: t.contiguous(memory_format=torch.channels_last)
        )
        build, _ = checked(x_last[0], "sm_90")
        assert build.count(rf"cvt\.rn\.{suffix}(x2)?\.f32") > 0
        assert build.count(rf"cvt\.rz\.{suffix}") == 0


class NoGPU:
    """Stands in for Triton's driver: tracing asks it which GPU there is."""

    def get_current_target(self):
        return TARGETS["sm_90"]

    def get_current_device(self):
        return 0


class TracedError(Exception):
    """The kernels were traced and are about to run, which needs a GPU."""


@pytest.mark.parametrize("along_a_table", [False, True])
def test_torch_compile_sees_the_kernels(along_a_table, monkeypatch):
    from torch._dynamo.backends.common import aot_autograd

    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        raise TracedError

    monkeypatch.setattr(triton.runtime.driver, "_active", NoGPU())
    x, params = torch.randn(1, 32, 12, requires_grad=True), torch.randn(1, 1, 4, 12)
    A, weight = -torch.rand(1, 32, 1), torch.randn(1, 32, 2)
    table = torch.arange(12, dtype=torch.int32)[None, None] if along_a_table else None

    def function(x, params, A, weight, table):
        walks = [0 if along_a_table else 1]
        tables = (table, None, None)
        rest = (3, 4, True, 1.0, torch.float32)
        return backend.route_scan_triton(
            x, params, None, A, weight, None, None, walks, *tables, *rest
        ).exp()

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=aot_autograd(fw_compiler=keep), fullgraph=True)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="TracedError"):
        compiled(x, params, A, weight, table)
    torch._dynamo.reset()
    (kernel,) = (n for n in graphs[0].graph.nodes if "triton_kernel_wrapper" in str(n.target))
    # No map is copied: beyond new memory only what a table says of where to write.
    assert set(kernel.kwargs["tensors_to_clone"]) <= {"total", "out", "checkpoints", "read"}
