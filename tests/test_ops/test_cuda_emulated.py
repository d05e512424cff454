"""The CUDA kernels of the selective scan, executed on the CPU by the emulation of csrc/cuda.

The emulation runs every thread of every block, so arithmetic, indexing, barriers and reductions
are those of a GPU; see csrc/cuda/emulation.h for the misuse that it detects.
"""

import ctypes
import itertools
import re

import pytest
import torch
from cuda_builds import emulation
from scan_cases import (
    Case,
    assert_exact,
    assert_same_special_values,
    leaves,
    relative_error,
    run_with_gradients,
)

from mamba_mm.ops import selective_scan_ref
from mamba_mm.ops.compiled_scan import CHECKPOINT_LANES, CHECKPOINT_STEPS
from mamba_mm.ops.extension import EXTENSION

FLOAT32 = 3e-6  # of the largest value, as for the CPU
OPTIONS = ("D", "z", "delta_bias")


@pytest.fixture(scope="module", autouse=True)
def library():
    return ctypes.CDLL(str(emulation()))


@pytest.fixture(params=["whole", "segments"])
def segmentation(request, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", "1" if request.param == "whole" else "3")


class EmulatedScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, softplus, out_dtype, *tensors):
        ops = torch.ops.mamba_mm_emulated
        out, last_state, checkpoints = ops.selective_scan_fwd(*tensors, softplus, True, out_dtype)
        ctx.save_for_backward(*tensors, checkpoints)
        ctx.softplus = softplus
        return out, last_state

    @staticmethod
    def backward(ctx, grad_out, grad_last_state):
        *tensors, checkpoints = ctx.saved_tensors
        grads = torch.ops.mamba_mm_emulated.selective_scan_bwd(
            grad_out, grad_last_state, *tensors, ctx.softplus, checkpoints
        )
        for t, grad in zip(tensors, grads, strict=True):
            assert grad.shape == ((0,) if t is None else t.shape)
        pairs = zip(tensors, grads, strict=True)
        return (None, None, *(None if t is None else grad for t, grad in pairs))


def emulated_scan(
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True, out_dtype=None
):
    return EmulatedScan.apply(
        delta_softplus, out_dtype or u.dtype, u, delta, A, B, C, D, z, delta_bias
    )


def assert_emulated_exact(case, tolerance=FLOAT32):
    assert_exact(case, tolerance, function=emulated_scan)


@pytest.mark.parametrize("length", [1, 7, 31, 32, 33, 49, 64, 130])
@pytest.mark.parametrize("states", [1, 16])
def test_every_length(length, states, segmentation):
    assert_emulated_exact(Case(length=length, dim=10, groups=2, states=states))


@pytest.mark.parametrize("count", ["8", "9", "20"])
@pytest.mark.parametrize("states", [1, 3])
def test_many_segments(states, count, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", count)
    assert_emulated_exact(Case(batch=2, dim=3, length=20 * 32 - 5, states=states))


@pytest.mark.parametrize("states", [0, 2, 3, 4, 8, 17, 64])
def test_every_number_of_states(states, segmentation):
    assert_emulated_exact(Case(states=states, dim=9, length=70, batch=1))


def test_the_largest_number_of_states(segmentation):
    assert_emulated_exact(Case(states=256, dim=3, length=65, batch=1))


@pytest.mark.parametrize(("groups", "dim"), [(1, 1), (1, 37), (2, 76), (3, 420), (5, 5)])
@pytest.mark.parametrize("states", [1, 3, 5, 9])
def test_groups_and_odd_channels(groups, dim, states):
    assert_emulated_exact(Case(groups=groups, dim=dim, length=36, states=states, batch=1))


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize(
    "options", [o for n in range(4) for o in itertools.combinations(OPTIONS, n)]
)
@pytest.mark.parametrize("states", [1, 16, 18])
def test_every_optional_argument(options, softplus, states):
    assert_emulated_exact(
        Case(options=options, softplus=softplus, states=states, batch=1, dim=5, length=40)
    )


@pytest.mark.parametrize("fixed", [("B",), ("C",), ("B", "C")])
@pytest.mark.parametrize("states", [1, 3, 16, 20])
def test_projections_constant_in_time(fixed, states, segmentation):
    assert_emulated_exact(Case(fixed=fixed, states=states, groups=2, dim=18, length=70, batch=1))


@pytest.mark.parametrize("states", [1, 16])
def test_float64_is_computed_in_float64(states, segmentation):
    case = Case(dtype=torch.float64, dim=22, groups=2, length=67, states=states)
    assert_emulated_exact(case, 1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("states", [1, 16])
def test_half_precision_rounds_only_at_the_end(dtype, tolerance, states, segmentation):
    case = Case(dtype=dtype, dim=22, groups=2, length=67, states=states)
    assert_emulated_exact(case, tolerance)
    y, _ = emulated_scan(**case.arguments, delta_softplus=True, out_dtype=torch.float32)
    wide = {k: None if t is None else t.double() for k, t in case.arguments.items()}
    assert y.dtype == torch.float32
    assert relative_error(y, selective_scan_ref(**wide, delta_softplus=True)) < FLOAT32


def test_mixed_dtypes():
    case = Case(dtype=torch.bfloat16, dim=22)
    case.arguments["delta"] = case.arguments["delta"].float()
    case.arguments["B"] = case.arguments["B"].half()
    case.arguments["z"] = case.arguments["z"].double()
    assert_emulated_exact(case, 2**-8)
    y, _ = emulated_scan(**case.arguments, delta_softplus=True, out_dtype=torch.float64)
    assert y.dtype == torch.float64


LAYOUTS = {
    "channels last": lambda t: t.transpose(1, -1).contiguous().transpose(1, -1),
    "every second step": lambda t: torch.stack([t, t * torch.nan], -1).flatten(-2)[..., ::2],
    "between values that must not be read": lambda t: torch.nn.functional.pad(
        t, (3, 5), value=torch.nan
    )[..., 3:-5],
    "time outermost": lambda t: t.movedim(-1, 0).contiguous().movedim(0, -1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("states", [1, 3])
def test_strided_inputs_give_the_same_bits(layout, dtype, states):
    case = Case(dim=37, length=45, dtype=dtype, states=states, batch=2)
    strided = dict(case.arguments)
    for name in ("u", "delta", "z", "B", "C"):
        strided[name] = LAYOUTS[layout](case.arguments[name])
        assert torch.equal(strided[name], case.arguments[name])
    strided = {k: t.requires_grad_() for k, t in strided.items()}
    actual = run_with_gradients(strided, True, function=emulated_scan)
    expected = run_with_gradients(leaves(case.arguments), True, function=emulated_scan)
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


@pytest.mark.parametrize("empty", ["batch", "length", "dim"])
def test_empty_inputs(empty):
    case = Case(**{empty: 0})
    results = run_with_gradients(leaves(case.arguments), True, function=emulated_scan)
    assert results["y"].shape == case.arguments["u"].shape
    assert results["last_state"].shape == (case.batch, case.dim, case.states)
    for name, t in case.arguments.items():
        assert results[f"d{name}"].shape == t.shape
        assert results[f"d{name}"].count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("states", [0, 1, 4, 16, 17, 32, 64, 128, 256])
def test_blocks_fit_into_the_shared_memory_of_every_gpu(states, dtype, monkeypatch):
    """The emulation refuses more; with segments, all kernels run."""
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", "2")
    for fixed in ((), ("B", "C")):
        case = Case(batch=1, dim=130, length=34, states=states, dtype=dtype, fixed=fixed)
        run_with_gradients(leaves(case.arguments), True, function=emulated_scan)


@pytest.mark.parametrize("shift", [-15.0, 5.0, 25.0, 60.0])
@pytest.mark.parametrize("states", [1, 4])
def test_tiny_and_large_steps(shift, states, segmentation):
    assert_emulated_exact(Case(delta_shift=shift, dim=5, states=states, options=()))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
@pytest.mark.parametrize("states", [1, 3, 16])
def test_nan_and_infinity_reach_the_output(name, poison, states):
    case = Case(length=20, dim=9, states=states)
    t = case.arguments[name]
    t[(0,) * t.dim()] = poison
    actual, _ = emulated_scan(**case.arguments, delta_softplus=True)
    expected = selective_scan_ref(**case.arguments, delta_softplus=True)
    assert torch.equal(actual.isnan(), expected.isnan())
    finite = expected.isfinite()
    assert torch.equal(actual.isinf(), expected.isinf())
    assert relative_error(actual[finite], expected[finite].double()) < FLOAT32


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"])
def test_nan_reaches_later_segments_and_the_gradients(name, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", "2")
    case = Case(length=64, dim=3, batch=1)
    t = case.arguments[name]
    t[(0,) * t.dim()] = float("nan")
    actual = run_with_gradients(leaves(case.arguments), True, function=emulated_scan)
    expected = run_with_gradients(leaves(case.arguments), True, function=selective_scan_ref)
    for result, t in expected.items():
        assert torch.equal(actual[result].isnan(), t.isnan()), result


def whole_and_in_segments(case, monkeypatch):
    results = []
    for count in ("1", "5"):
        monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", count)
        results.append(
            run_with_gradients(leaves(case.arguments), case.softplus, function=emulated_scan)
        )
    return results


def slow_and_fast_decays(states, **fields):
    """One sequence of five segments; the decays of a whole segment multiply to zero for some."""
    return Case(batch=1, dim=4, length=160, states=states, delta_shift=3.0, **fields)


@pytest.mark.parametrize("name", ["u", "delta", "B", "C", "z"])
@pytest.mark.parametrize("states", [1, 3, 16])
def test_infinity_goes_through_segments_as_through_a_whole(states, name, monkeypatch):
    case = slow_and_fast_decays(states)
    t = case.arguments[name]
    t[..., 50].flatten()[0] = t[..., 100].flatten()[0] = float("inf")
    whole, cut = whole_and_in_segments(case, monkeypatch)
    assert_same_special_values(cut, whole)


@pytest.mark.parametrize("states", [1, 3])
def test_infinity_ends_where_one_step_forgets_everything(states, monkeypatch):
    case = slow_and_fast_decays(states)
    case.arguments["u"][0, 0, 20] = float("inf")
    case.arguments["delta"][0, 0, 70] = 1e30
    for name in ("B", "C"):
        case.arguments[name].abs_()
    whole, cut = whole_and_in_segments(case, monkeypatch)
    assert whole["last_state"][0, 0].isnan().all()
    assert whole["y"][0, 0, 69].isinf()
    assert_same_special_values(cut, whole)


@pytest.mark.parametrize("states", [1, 3])
@pytest.mark.parametrize("begins", [31, 150])
def test_states_grow_through_segments_as_through_a_whole(states, begins, monkeypatch):
    # Through a segment the decays multiply to what no float32 holds, and are finite each.
    case = Case(batch=1, dim=4, length=160, states=states, delta_shift=1.0, options=())
    delta, A, u = (case.arguments[name] for name in ("delta", "A", "u"))
    delta.clamp_(1.0, 1.5)
    A.copy_(torch.linspace(2.1, 2.2, A.numel()).view_as(A))
    u.fill_(0)
    u[..., begins] = 1e-38
    if begins == 31:
        delta[..., 64:] = -30.0  # or it would overflow
    whole, cut = whole_and_in_segments(case, monkeypatch)
    assert whole["last_state"].isfinite().all()
    assert whole["last_state"].all()
    assert relative_error(cut["y"], whole["y"].double()) < 1e-4
    assert relative_error(cut["last_state"], whole["last_state"].double()) < 1e-4


@pytest.mark.parametrize("states", [2, 3, 5])
def test_an_infinite_step_does_not_spread_through_states_that_only_pad(states):
    case = Case(length=12, dim=3, batch=1, states=states)
    case.arguments["delta"][0, 0, 4] = float("inf")
    actual = run_with_gradients(leaves(case.arguments), True, function=emulated_scan)
    expected = run_with_gradients(leaves(case.arguments), True, function=selective_scan_ref)
    for result, t in expected.items():
        assert torch.equal(actual[result].isfinite(), t.isfinite()), result


@pytest.mark.parametrize("states", [1, 5])
def test_same_bits_for_any_order_of_blocks_and_threads(states, segmentation, monkeypatch):
    case = Case(batch=2, dim=76, groups=2, length=70, states=states)
    results = []
    for seed in ("0", "0", "1"):
        monkeypatch.setenv("MAMBA_MM_EMULATION_SEED", seed)
        results.append(run_with_gradients(leaves(case.arguments), True, function=emulated_scan))
    for other in results[1:]:
        for name, t in results[0].items():
            assert torch.equal(t, other[name]), name


@pytest.mark.parametrize("states", [1, 3, 16])
@pytest.mark.parametrize(("groups", "dim"), [(1, 37), (3, 24)])
def test_checkpoints_are_those_of_the_cpu(states, groups, dim, segmentation):
    if not EXTENSION.loaded:
        pytest.skip(f"the compiled op is not built: {EXTENSION.detail}")
    case = Case(dim=dim, groups=groups, states=states, length=100)
    arguments = (*case.arguments.values(), True, True, torch.float32)
    *_, expected = torch.ops.mamba_mm.selective_scan_fwd(*arguments)
    *_, actual = torch.ops.mamba_mm_emulated.selective_scan_fwd(*arguments)
    per_group = dim // groups
    blocks = -(-per_group // CHECKPOINT_LANES)
    assert actual.shape == expected.shape
    assert actual.shape == (2, groups * blocks, 99 // CHECKPOINT_STEPS, states, CHECKPOINT_LANES)
    # Lanes beyond a group's channels belong to nobody.
    shape = (2, groups, blocks, *actual.shape[2:])
    actual, expected = (
        t.view(shape).movedim(2, 4).flatten(4)[..., :per_group].double() for t in (actual, expected)
    )
    assert relative_error(actual, expected) < FLOAT32


def test_no_checkpoints_without_need():
    arguments = (*Case(length=100).arguments.values(), True, False, torch.float32)
    *_, checkpoints = torch.ops.mamba_mm_emulated.selective_scan_fwd(*arguments)
    assert checkpoints.shape == (2, 1, 0, 3, CHECKPOINT_LANES)
    with pytest.raises(RuntimeError, match="checkpoints are not those"):
        torch.ops.mamba_mm_emulated.selective_scan_bwd(
            torch.ones(2, 12, 100), None, *Case(length=100).arguments.values(), True, checkpoints
        )


def test_more_states_than_a_block_can_keep_are_refused():
    arguments = (*Case(states=257, length=2).arguments.values(), True, False, torch.float32)
    with pytest.raises(RuntimeError, match=r"257 states.*up to 256"):
        torch.ops.mamba_mm_emulated.selective_scan_fwd(*arguments)


def test_few_channels_are_cut_into_segments_by_themselves(monkeypatch):
    # Two channels want 65536 / 2 segments, of at least 128 steps. Decays are slow here, or the
    # state before a segment would be gone before it changes a bit.
    case = Case(batch=1, dim=2, length=600, states=1, delta_shift=-6.0)
    arguments = (*case.arguments.values(), True, False, torch.float32)
    scan = torch.ops.mamba_mm_emulated.selective_scan_fwd
    monkeypatch.delenv("MAMBA_MM_CUDA_SEGMENTS", raising=False)
    by_rule, *_ = scan(*arguments)
    same = []
    for count in ("1", "2", "3", "4"):
        monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", count)
        same.append(torch.equal(by_rule, scan(*arguments)[0]))
    assert same == [False, False, False, True]


@pytest.mark.parametrize("forced", ["0", "-2", "three", "2x"])
def test_a_wrong_number_of_segments_is_named(forced, monkeypatch):
    monkeypatch.setenv("MAMBA_MM_CUDA_SEGMENTS", forced)
    with pytest.raises(RuntimeError, match=f"MAMBA_MM_CUDA_SEGMENTS is '{forced}', expected"):
        emulated_scan(**Case(length=4).arguments, delta_softplus=True)


# The emulation itself.


def floats(t):
    return ctypes.cast(t.data_ptr(), ctypes.POINTER(ctypes.c_float))


def test_sums_by_shuffles_and_through_shared_memory(library):
    x = torch.randn(5, 2, 32)
    shuffled, stored, eight = torch.empty(5, 2), torch.empty(5, 2), torch.empty(5, 2, 8)
    library.emulation_sums(5, *map(floats, (x, shuffled, stored, eight)))
    sums = x.double().sum(-1)
    assert relative_error(shuffled, sums) < 1e-6
    assert relative_error(stored, sums) < 1e-6
    assert relative_error(eight, sums[..., None] * torch.arange(1, 9)) < 1e-6


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        ("missed barrier", r"1 have finished; 63 wait in __syncthreads called in line \d+"),
        ("different barriers", r"wait for others.*32 wait in __syncthreads.*32 wait"),
        ("absent lane", r"2 have finished; 62 wait in __shfl_xor_sync"),
        ("beyond the end", r"thread \(63, 0, 0\): element 64 of a shared array of 64 is out of"),
        ("misaligned pack", r"a pack of 4 values at element 2 is not aligned"),
        ("too much memory", r"takes 512 bytes of shared memory, but was launched with 256"),
        ("half a warp", r"a block of 48 threads; whole warps"),
        ("large block", r"101377 bytes of shared memory, of which some GPUs have 101376"),
        ("grid", r"a grid of 1 x 65536 x 1 blocks"),
    ],
)
def test_misuse_is_detected(misuse, message, library):
    library.emulation_misuse.restype = ctypes.c_char_p
    assert re.search(message, library.emulation_misuse(misuse.encode()).decode())
    # And the next kernel runs.
    test_sums_by_shuffles_and_through_shared_memory(library)


def test_memory_that_nobody_wrote_is_nan(library):
    out = torch.zeros(64)
    library.emulation_missing_barrier(floats(out))
    assert out.isnan().any()


def test_blocks_run_in_an_order_of_the_seed(library, monkeypatch):
    orders = []
    for seed in ("0", "0", "1"):
        monkeypatch.setenv("MAMBA_MM_EMULATION_SEED", seed)
        order = torch.zeros(21)
        library.emulation_block_order(20, floats(order))
        assert sorted(order.tolist()) == [*map(float, range(20)), 20.0]
        orders.append(order)
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


@pytest.mark.parametrize("x", [-80.0, -15.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 15.0, 90.0])
def test_softplus_and_its_slope_keep_their_digits(x, library):
    for function in (library.emulation_softplus, library.emulation_softplus_slope):
        function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    exact = torch.tensor(x).double()
    expected = torch.nn.functional.softplus(exact)
    assert abs(library.emulation_softplus(x) / expected - 1) < 2e-6
    assert abs(library.emulation_softplus_slope(x) / exact.sigmoid() - 1) < 2e-6


@pytest.mark.parametrize(("brain", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_16_bit_numbers_are_rounded_as_by_torch(brain, dtype, library):
    library.emulation_round.restype = ctypes.c_float
    library.emulation_round.argtypes = [ctypes.c_float, ctypes.c_bool]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(300, generator=generator) * 10.0 ** torch.randint(
        -9, 6, (300,), generator=generator
    )
    for x in (*values.tolist(), 65519.0, 65520.0, 1e38, float("inf"), -float("inf"), float("nan")):
        actual = torch.tensor(library.emulation_round(x, brain))
        torch.testing.assert_close(
            actual, torch.tensor(x).to(dtype).float(), rtol=0, atol=0, equal_nan=True
        )
