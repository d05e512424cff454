"""The selective scan on Triton kernels: tensors in, tensors out, with gradients."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
from torch import Tensor, library

from mamba_mm.ops.scan_gradients import register_selective_scan_gradients

from .scan_kernels import (
    carry_over,
    scan_backward,
    scan_forward,
    segment_adjoints,
    segment_states,
)

# States that a thread keeps in registers; more are taken in turns.
STATES_AT_A_TIME = 16
WARP = 64 if torch.version.hip else 32
# The sequence is cut into segments where channels alone would leave most of a GPU idle.
THREADS_WANTED = 1 << 16
SHORTEST_SEGMENT = 128
CARRY_BLOCK = 128
# Steps are counted in 32 bits, and the last segment may end a third of a sequence too far.
MOST_STEPS = 1_600_000_000

if triton.knobs.runtime.interpret:

    def wrap_triton(kernel):
        """Leave it: kernels are interpreted in Python, there is nothing to trace."""
        return kernel
else:
    wrap_triton = library.wrap_triton


@dataclass(frozen=True)
class Plan:
    """How the work of a call is shared out: a function of its shapes alone.

    Attributes:
        batch: Batch items.
        groups: Groups of channels that share B and C.
        width: Channels of a group.
        length: Steps.
        states: States of a channel.
        every: Steps from one checkpoint to the next.
        segments: Segments of the sequence.
        segment_length: Their length, a multiple of ``every``.
    """

    batch: int
    groups: int
    width: int
    length: int
    states: int
    every: int
    segments: int
    segment_length: int

    @property
    def dim(self) -> int:
        """Channels of all groups."""
        return self.groups * self.width

    @property
    def saved(self) -> int:
        """Checkpoints of a sequence: one before every ``every`` steps, but not the first."""
        return (self.length - 1) // self.every

    def turns(self) -> list[tuple[int, int]]:
        """First state and number of states of each turn."""
        firsts = range(0, self.states, STATES_AT_A_TIME)
        return [(n, min(STATES_AT_A_TIME, self.states - n)) for n in firsts]

    def sizes(self, block: int) -> tuple[int, ...]:
        """The sizes that all kernels take, but for the first state."""
        blocks = -(-self.width // block)
        return (
            self.length,
            self.width,
            blocks,
            self.groups,
            self.segments,
            self.segment_length,
            self.states,
        )

    def programs(self, block: int) -> int:
        """Blocks of a launch with ``block`` channels each."""
        return self.batch * self.segments * self.groups * -(-self.width // block)


def make_plan(u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Plan:
    """Share out the work of a call that is not empty."""
    batch, dim, length = u.shape
    check_steps("selective_scan", length)
    states = A.shape[1]
    groups = next((t.shape[1] for t in (B, C) if t.dim() == 4), 1)
    # With few states, checkpoints are so small that they may lie as close as the backward pass
    # needs them; then it computes states only once again.
    every = 8 if states <= 2 else 32
    segments, segment_length = 1, length
    wanted = THREADS_WANTED // max(batch * dim, 1)
    # Segments take another pass over the inputs: they must shorten the way by more than that.
    if wanted > 2 and length >= 3 * SHORTEST_SEGMENT:
        shortest = -(-length // wanted)
        segment_length = -(-max(shortest, SHORTEST_SEGMENT) // every) * every
        segments = -(-length // segment_length)
    return Plan(batch, groups, dim // groups, length, states, every, segments, segment_length)


def check_steps(op: str, steps: int) -> None:
    """Check that the kernels can count the steps of a sequence.

    Raises:
        ValueError: They cannot.
    """
    if steps > MOST_STEPS:
        raise ValueError(
            f"{op}: {steps} steps are too many for the Triton kernels, which count up to "
            f"{MOST_STEPS}; split the sequence, or use backend='cuda' or 'torch'"
        )


def forward_block(width: int) -> int:
    """Channels of a block: as many as leave the fewest idle, the more the better."""
    sizes = [WARP * warps for warps in (4, 2, 1)]
    return min(sizes, key=lambda block: (-width % block + width, -block))


def _states_last(t: Tensor, dtype: torch.dtype) -> Tensor:
    """B or C with its N values of a step side by side; fixed ones as a parameter."""
    if t.dim() == 2:
        return t.to(dtype).contiguous()
    if t.shape[2] == 1 or t.stride(2) == 1:
        return t
    return t.transpose(2, 3).contiguous().transpose(2, 3)


def _strides(t: Tensor) -> tuple[int, int, int]:
    """Strides over batch items, groups and steps of B or C; of no use for fixed ones."""
    return (t.stride(0), t.stride(1), t.stride(3)) if t.dim() == 4 else (0, 0, 0)


def _takes_over(
    plan: Plan,
    carries: Tensor,
    spans: Tensor,
    A: Tensor,
    initial: Tensor | None,
    backward: bool,
) -> None:
    rows = plan.batch * plan.states * plan.dim
    wrap_triton(carry_over)[(-(-rows // CARRY_BLOCK),)](
        carries,
        spans,
        A,
        A if initial is None else initial,
        rows,
        plan.dim,
        plan.states,
        plan.segments,
        BLOCK=CARRY_BLOCK,
        HAS_INITIAL=initial is not None,
        BACKWARD=backward,
        num_warps=CARRY_BLOCK // WARP,
    )


def _carries(u, delta, A, B, delta_bias, delta_softplus, plan) -> Tensor:
    """The states before every segment, (batch, segments, N, dim)."""
    carries = A.new_empty((plan.batch, plan.segments, plan.states, plan.dim))
    spans = A.new_empty((plan.batch, plan.segments, 3, plan.dim))
    block = forward_block(plan.width)
    for first_state, count in plan.turns():
        wrap_triton(segment_states)[(plan.programs(block),)](
            u,
            delta,
            B,
            A,
            A if delta_bias is None else delta_bias,
            carries,
            spans,
            *plan.sizes(block),
            first_state,
            *u.stride(),
            *delta.stride(),
            *_strides(B),
            STATES=count,
            BLOCK=block,
            SOFTPLUS=delta_softplus,
            HAS_BIAS=delta_bias is not None,
            FIXED_B=B.dim() == 2,
            num_warps=block // WARP,
        )
    _takes_over(plan, carries, spans, A, None, backward=False)
    return carries


def _adjoint_carries(
    grad_out, grad_last_state, delta, A, C, z, delta_bias, delta_softplus, plan
) -> Tensor:
    """The gradient by the states after every segment, (batch, segments, N, dim)."""
    carries = A.new_empty((plan.batch, plan.segments, plan.states, plan.dim))
    spans = A.new_empty((plan.batch, plan.segments, 3, plan.dim))
    block = forward_block(plan.width)
    for first_state, count in plan.turns():
        wrap_triton(segment_adjoints)[(plan.programs(block),)](
            grad_out,
            delta,
            delta if z is None else z,
            C,
            A,
            A if delta_bias is None else delta_bias,
            carries,
            spans,
            *plan.sizes(block),
            first_state,
            *grad_out.stride(),
            *delta.stride(),
            *(delta if z is None else z).stride(),
            *_strides(C),
            STATES=count,
            BLOCK=block,
            SOFTPLUS=delta_softplus,
            HAS_BIAS=delta_bias is not None,
            HAS_Z=z is not None,
            FIXED_C=C.dim() == 2,
            num_warps=block // WARP,
        )
    _takes_over(plan, carries, spans, A, grad_last_state, backward=True)
    return carries


def _parameters(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


def _is_empty(u: Tensor) -> bool:
    return u.shape[0] == 0 or u.shape[1] == 0 or u.shape[2] == 0


@library.triton_op("mamba_mm::triton_selective_scan_fwd", mutates_args=())
def triton_selective_scan_fwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    save_checkpoints: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, last state and checkpoints.

    A, D and delta_bias are in the type of the computation, float32 or float64; there is at
    least one state. The output is laid out like ``u``.
    """
    out = torch.empty_like(u, dtype=out_dtype)
    last_state = A.new_empty((u.shape[0], u.shape[1], A.shape[1]))
    if _is_empty(u):
        return out, last_state.zero_(), A.new_empty((0,))
    A, D, delta_bias = _parameters(A, D, delta_bias)
    B, C = _states_last(B, A.dtype), _states_last(C, A.dtype)
    plan = make_plan(u, A, B, C)
    saves = save_checkpoints and plan.saved > 0
    checkpoints = A.new_empty((plan.batch, plan.saved, plan.states, plan.dim) if saves else (0,))
    turns = plan.turns()
    sums = A if len(turns) == 1 else A.new_empty((plan.batch, plan.length, plan.dim))
    carries = None
    if plan.segments > 1:
        carries = _carries(u, delta, A, B, delta_bias, delta_softplus, plan)
    block = forward_block(plan.width)
    gate = u if z is None else z
    for first_state, count in turns:
        wrap_triton(scan_forward)[(plan.programs(block),)](
            u,
            delta,
            gate,
            B,
            C,
            A,
            A if D is None else D,
            A if delta_bias is None else delta_bias,
            out,
            last_state,
            checkpoints,
            A if carries is None else carries,
            sums,
            *plan.sizes(block),
            first_state,
            plan.saved,
            *u.stride(),
            *delta.stride(),
            *gate.stride(),
            *out.stride(),
            *_strides(B),
            *_strides(C),
            STATES=count,
            BLOCK=block,
            EVERY=plan.every,
            SOFTPLUS=delta_softplus,
            HAS_D=D is not None,
            HAS_BIAS=delta_bias is not None,
            HAS_Z=z is not None,
            FIXED_B=B.dim() == 2,
            FIXED_C=C.dim() == 2,
            HAS_CARRY=carries is not None,
            SAVES=saves,
            FIRST=first_state == 0,
            LAST=first_state + count == plan.states,
            num_warps=block // WARP,
        )
    return out, last_state, checkpoints


@library.triton_op("mamba_mm::triton_selective_scan_bwd", mutates_args=())
def triton_selective_scan_bwd(
    grad_out: Tensor,
    grad_last_state: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    checkpoints: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, delta, A, B, C, D, z and delta_bias; empty ones where absent."""
    grad_u, grad_delta = torch.empty_like(u), torch.empty_like(delta)
    grad_z = A.new_empty((0,)) if z is None else torch.empty_like(z)
    if _is_empty(u):
        inputs = (u, delta, A, B, C, D, z, delta_bias)
        return tuple(A.new_empty((0,)) if t is None else torch.zeros_like(t) for t in inputs)
    A, D, delta_bias = _parameters(A, D, delta_bias)
    dtypes = B.dtype, C.dtype
    B, C = _states_last(B, A.dtype), _states_last(C, A.dtype)
    fixed_B, fixed_C = B.dim() == 2, C.dim() == 2
    plan = make_plan(u, A, B, C)
    carries = grad_last_state
    if plan.segments > 1:
        carries = _adjoint_carries(
            grad_out,
            None if grad_last_state is None else grad_last_state.contiguous(),
            delta,
            A,
            C,
            z,
            delta_bias,
            delta_softplus,
            plan,
        )
    elif grad_last_state is not None:
        carries = grad_last_state.transpose(1, 2).contiguous()

    turns = plan.turns()
    sums = A if len(turns) == 1 else A.new_empty((3, plan.batch, plan.length, plan.dim))
    part_A = A.new_empty((plan.batch * plan.segments, plan.states, plan.dim))
    part_B = torch.empty_like(part_A) if fixed_B else A
    part_C = torch.empty_like(part_A) if fixed_C else A
    per_channel = (plan.batch * plan.segments, plan.dim)
    part_D = A if D is None else A.new_empty(per_channel)
    part_bias = A if delta_bias is None else A.new_empty(per_channel)
    blocks = -(-plan.width // WARP)
    gate, grad_gate = (u, grad_u) if z is None else (z, grad_z)
    records = []
    for first_state, count in turns:
        window = steps_in_registers(count)
        batched = _steps_summed_at_a_time(count, window)
        has_records = not (fixed_B and fixed_C)
        record = A
        if has_records:
            shape = (blocks, plan.batch, plan.groups, plan.length, count, 2)
            record = A.new_empty(shape)
            records.append(record)
        windows = A
        if plan.every > window:
            windows = A.new_empty((plan.programs(WARP), plan.every // window, count, WARP))
        wrap_triton(scan_backward)[(plan.programs(WARP),)](
            grad_out,
            u,
            delta,
            gate,
            B,
            C,
            A,
            A if D is None else D,
            A if delta_bias is None else delta_bias,
            checkpoints,
            A if carries is None else carries,
            windows,
            sums,
            grad_u,
            grad_delta,
            grad_gate,
            part_A,
            part_B,
            part_C,
            part_D,
            part_bias,
            record,
            *plan.sizes(WARP),
            first_state,
            plan.saved,
            plan.batch * plan.length * plan.dim,
            *grad_out.stride(),
            *u.stride(),
            *delta.stride(),
            *gate.stride(),
            *_strides(B),
            *_strides(C),
            *grad_u.stride(),
            *grad_delta.stride(),
            *grad_gate.stride(),
            STATES=count,
            BLOCK=WARP,
            LANE_STEPS=WARP.bit_length() - 1,
            EVERY=plan.every,
            WINDOW=window,
            BATCHED=batched,
            RECORDS=has_records,
            SOFTPLUS=delta_softplus,
            HAS_D=D is not None,
            HAS_BIAS=delta_bias is not None,
            HAS_Z=z is not None,
            FIXED_B=fixed_B,
            FIXED_C=fixed_C,
            HAS_CARRY=carries is not None,
            FIRST=first_state == 0,
            LAST=first_state + count == plan.states,
            num_warps=1,
        )

    # Every sum below adds up its parts in an order that depends on the shapes alone.
    grad_B, grad_C = _of_projections(records, dtypes)
    if fixed_B:
        grad_B = part_B.sum(0).t().contiguous().to(dtypes[0])
    if fixed_C:
        grad_C = part_C.sum(0).t().contiguous().to(dtypes[1])
    none = A.new_empty((0,))
    return (
        grad_u,
        grad_delta,
        part_A.sum(0).t().contiguous(),
        grad_B,
        grad_C,
        none if D is None else part_D.sum(0),
        grad_z,
        none.clone() if delta_bias is None else part_bias.sum(0),
    )


def steps_in_registers(states: int) -> int:
    """Steps of which the backward pass keeps all states: more would spill."""
    return 8 if states <= 2 else 4 if states <= 4 else 2


def _steps_summed_at_a_time(states: int, window: int) -> int:
    """As many steps as fill a warp with two values a state, a divisor of the window."""
    steps = window
    while steps > 1 and triton.next_power_of_2(2 * states * steps) > WARP:
        steps //= 2
    return steps


def _of_projections(records: list[Tensor], dtypes) -> list[Tensor | None]:
    """Gradients of B and C, (batch, groups, N, length), from the partial sums of all turns."""
    if not records:
        return [None, None]
    totals = [record.sum(0) for record in records]
    total = totals[0] if len(totals) == 1 else torch.cat(totals, dim=3)
    return [
        total[..., i].transpose(2, 3).to(dtype, memory_format=torch.contiguous_format, copy=True)
        for i, dtype in enumerate(dtypes)
    ]


register_selective_scan_gradients("triton_selective_scan")


def _with_a_zero_state(t: Tensor) -> Tensor:
    return F.pad(t, (0, 1) if t.dim() == 2 else (0, 0, 0, 1))


def _current_device(t: Tensor):
    """Kernels are launched on the current device; compiled code sees to it by itself."""
    if t.is_cuda and not torch.compiler.is_compiling():
        return torch.cuda.device(t.device)
    return contextlib.nullcontext()


def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (output, last state); arguments as in :func:`selective_scan_ref`.

    ``B`` and ``C`` are (B, G, N, L) or (D, N). Activations may mix dtypes; A, D and delta_bias
    are brought to float32, or float64 for float64 inputs.
    """
    compute = torch.promote_types(u.dtype, torch.float32)
    A, D, delta_bias = (None if t is None else t.to(compute) for t in (A, D, delta_bias))
    states = A.shape[1]
    if states == 0:
        # The kernels have at least one; one that nothing drives and nothing reads adds nothing.
        A, B, C = (_with_a_zero_state(t) for t in (A, B, C))
    tensors = (u, delta, A, B, C, D, z, delta_bias)
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    with _current_device(u):
        y, last_state, _ = torch.ops.mamba_mm.triton_selective_scan_fwd(
            *tensors, delta_softplus, needs_grad, out_dtype or u.dtype
        )
    return y, last_state[..., :states]
