"""The Triton kernels, compiled for GPUs that need not be there, and traced by torch.compile."""

import pytest
import torch
from scan_cases import Case, leaves

triton = pytest.importorskip("triton", reason="needs triton, which is not installed")
if triton.knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET is set: there is nothing to compile", allow_module_level=True)

from triton_builds import TARGETS, recorder  # noqa: E402

from mamba_mm.ops.triton import selective_scan as backend  # noqa: E402


@pytest.fixture
def launched(monkeypatch):
    """What a call and its backward pass launch; nothing runs."""

    def record(case, layout=lambda t: t, warp=32, **constants):
        launches = []
        with monkeypatch.context() as patch:
            for name, value in (
                {"wrap_triton": recorder(launches), "WARP": warp} | constants
            ).items():
                patch.setattr(backend, name, value)
            arguments = {
                k: layout(t) if k in ("u", "delta", "z", "B", "C") and t is not None else t
                for k, t in leaves(case.arguments).items()
            }
            y, state = backend.selective_scan_triton(**arguments, delta_softplus=case.softplus)
            (y.float().sum() + state.sum()).backward()
        return launches

    return record


def case_of(states, **fields):
    return Case(**({"batch": 1, "dim": 64, "length": 40, "states": states} | fields))


SEGMENTED = {"SHORTEST_SEGMENT": 8}


def test_another_image_size_is_no_other_kernel(launched):
    def keys(length, layout=lambda t: t, **fields):
        case = Case(**{"dim": 64, "length": length, "states": 2} | fields)
        return {launch.key() for launch in launched(case, layout, **SEGMENTED)}

    def unaligned(t):
        return torch.cat([t[..., :1], t], -1)[..., 1:]

    assert len(keys(3136)) == 6
    for length in (197, 784, 1001):
        assert keys(length) == keys(3136), length
    assert keys(196, unaligned) == keys(3136)
    assert keys(196, batch=1, dim=192, groups=3) == keys(3136)
    assert keys(3136, states=1).isdisjoint(keys(3136) - {k for k in keys(3136) if "carry" in k})


def figures(launch, target):
    build = launch.build(target)
    assert build.atomics == 0
    assert build.shared == 0
    assert build.barriers == 0
    registers, local = build.resources()
    assert local == 0, f"{launch.name} for {target}: {local} bytes of local memory"
    return build, registers


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_forward_needs_no_exchange_of_threads(target, launched):
    warp = TARGETS[target].warp_size
    for states, registers_allowed in ((1, 64), (16, 128)):
        (launch,) = launched(case_of(states), warp=warp)[:1]
        build, registers = figures(launch, target)
        assert launch.name == "scan_forward"
        assert build.exchanges == 0
        # Softplus, the gate and one decay a state.
        assert build.exponentials == states + 2
        assert registers <= registers_allowed


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_passes_over_segments_need_no_exchange_of_threads(target, launched):
    launches = launched(case_of(4, length=100), warp=TARGETS[target].warp_size, **SEGMENTED)
    names = [launch.name for launch in launches]
    assert names == [
        "segment_states",
        "carry_over",
        "scan_forward",
        "segment_adjoints",
        "carry_over",
        "scan_backward",
    ]
    for launch in launches:
        if launch.name in ("segment_states", "segment_adjoints", "carry_over"):
            build, registers = figures(launch, target)
            assert build.exchanges == 0
            assert registers <= 64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("states", "window", "sums", "target"),
    # Sixteen states take Triton a quarter of a minute a target.
    [*((1, 8, 1, target) for target in TARGETS), (16, 2, 2, "sm_90")],
)
def test_backward_sums_over_lanes_by_halving(states, window, sums, target, launched):
    warp = TARGETS[target].warp_size
    launch = launched(case_of(states), warp=warp)[-1]
    assert launch.name == "scan_backward"
    build, registers = figures(launch, target)
    assert registers <= {1: 168, 16: 256}[states]
    # Vectors that are summed at a time, V of them: V - 1 exchanges, and one for each doubling
    # of V that is left to the width of a warp.
    vectors = 2 * states * window // sums
    exchanges = sums * (vectors - 1 + (warp // vectors).bit_length() - 1)
    # AMD's compiler finds cheaper ways for some.
    assert build.exchanges == exchanges if build.is_ptx else 0 < build.exchanges <= exchanges
    # Softplus, gate and decays of the window; softplus and decays on the way to it.
    again = states + 1 if states > 2 else 0
    assert build.exponentials == window * (states + 2) + again


@pytest.mark.slow
def test_half_precision_rounds_to_nearest(launched):
    launches = launched(case_of(1, dtype=torch.bfloat16))
    launches += launched(case_of(1, dtype=torch.float16))[:1]
    for launch, suffix in zip(launches, ("bf16", "bf16", "f16"), strict=True):
        build, _ = figures(launch, "sm_90")
        assert build.count(rf"cvt\.rn\.{suffix}(x2)?\.f32") > 0
        assert build.count(rf"cvt\.rz\.{suffix}") == 0


@pytest.mark.slow
def test_float64_and_fixed_projections_compile(launched):
    launches = launched(case_of(1, dtype=torch.float64))[:1]
    launches += launched(case_of(1, dtype=torch.float64, options=(), softplus=False))[1:]
    for launch in launches:
        build, _ = figures(launch, "sm_90")
        assert build.exponentials == 0  # those are of float32
    for launch in launched(case_of(2, fixed=("B", "C"), options=())):
        build, _ = figures(launch, "sm_90")
        assert build.exchanges == 0


class NoGPU:
    """Stands in for Triton's driver: tracing asks it which GPU there is."""

    def get_current_target(self):
        return TARGETS["sm_90"]

    def get_current_device(self):
        return 0


class TracedError(Exception):
    """The kernels were traced and are about to run, which needs a GPU."""


@pytest.fixture
def traced(monkeypatch):
    """The graph that torch.compile makes of a function, up to the kernels."""
    from torch._dynamo.backends.common import aot_autograd

    def trace(function, dynamic, *inputs):
        graphs = []

        def keep(graph, _):
            graphs.append(graph)
            raise TracedError

        monkeypatch.setattr(triton.runtime.driver, "_active", NoGPU())
        torch._dynamo.reset()
        compiled = torch.compile(
            function, backend=aot_autograd(fw_compiler=keep), fullgraph=True, dynamic=dynamic
        )
        with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="TracedError"):
            compiled(*inputs)
        torch._dynamo.reset()
        return graphs[0]

    return trace


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_sees_the_kernels(dynamic, traced):
    arguments = leaves(case_of(2).arguments)

    def function(*tensors):
        return backend.selective_scan_triton(*tensors, delta_softplus=True)[0] * 2

    kernels = [
        node
        for node in traced(function, dynamic, *arguments.values()).graph.nodes
        if "triton_kernel_wrapper" in str(node.target)
    ]
    # Only what the kernel writes is given to it as new memory: no input is copied.
    assert [k.kwargs["tensors_to_clone"] for k in kernels] == [["out", "last_state", "checkpoints"]]
