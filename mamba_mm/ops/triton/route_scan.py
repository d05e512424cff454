"""The route scan on Triton kernels: tensors in, tensors out, with gradients.

Semantics and arguments are those of the compiled op, see ``csrc/route_scan.h``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, library

from mamba_mm.ops.scan_gradients import register_route_scan_gradients

from .route_kernels import route_backward, route_ends, route_forward
from .scan_kernels import carry_over
from .selective_scan import (
    CARRY_BLOCK,
    SHORTEST_SEGMENT,
    STATES_AT_A_TIME,
    THREADS_WANTED,
    WARP,
    _current_device,
    check_steps,
    forward_block,
    wrap_triton,
)

TABLE_WALK = 0
# Of the tables.
READ, PROJECT, WRITE = range(3)
# Walks are handed over in one 32-bit argument, three bits each.
SEQUENCES_AT_A_TIME = 10
# Ranks of the projection of step sizes that are taken at a time.
RANKS_AT_A_TIME = 8


@dataclass(frozen=True)
class Run:
    """Neighbouring sequences that one launch goes along: all with tables, or all without."""

    first: int
    walks: tuple[int, ...]

    @property
    def has_tables(self) -> bool:
        """Whether its sequences walk along tables."""
        return self.walks[0] == TABLE_WALK

    @property
    def code(self) -> int:
        """The walks in one number, three bits each."""
        return sum(walk << 3 * i for i, walk in enumerate(self.walks))


def make_runs(walks: list[int], together: int) -> list[Run]:
    """Cut the sequences into runs of at most ``together``."""
    runs: list[Run] = []
    for k, walk in enumerate(walks):
        last = runs[-1] if runs else None
        if last and last.has_tables == (walk == TABLE_WALK) and len(last.walks) < together:
            runs[-1] = Run(last.first, (*last.walks, walk))
        else:
            runs.append(Run(k, (walk,)))
    return runs


@dataclass(frozen=True)
class Plan:
    """How the work of a call is shared out: a function of its shapes alone.

    Attributes:
        batch: Batch items.
        dim: Channels.
        tokens: Positions of the map.
        length: Steps of a sequence.
        height: Height of the map, for walks without a table.
        width: Its width.
        sequences: Number of sequences.
        states: States of a channel.
        rank: Rank of the projection of step sizes, 0 where they are given whole.
        segments: Segments of the sequences.
        segment_length: Their length, a multiple of ``every``.
    """

    batch: int
    dim: int
    tokens: int
    length: int
    height: int
    width: int
    sequences: int
    states: int
    rank: int
    segments: int
    segment_length: int

    @property
    def window(self) -> int:
        """Steps whose loads are under way at a time; divides ``every``."""
        return 4 if self.states <= 4 else 2

    @property
    def backward_window(self) -> int:
        """Steps of which the backward pass has all states in registers; divides ``every``."""
        return 8 if self.states <= 2 else 4 if self.states <= 4 else 2

    @property
    def every(self) -> int:
        """Steps from one checkpoint to the next."""
        return checkpoint_distance(self.states)

    @property
    def saved(self) -> int:
        """Checkpoints of a sequence: one before every ``every`` steps, but not the first."""
        return (self.length - 1) // self.every

    @property
    def ranks(self) -> int:
        """The largest divisor of the rank that may be taken at a time."""
        return max(r for r in range(1, RANKS_AT_A_TIME + 1) if self.rank % r == 0)

    def turns(self) -> list[tuple[int, int]]:
        """First state and number of states of each turn."""
        firsts = range(0, self.states, STATES_AT_A_TIME)
        return [(n, min(STATES_AT_A_TIME, self.states - n)) for n in firsts]

    def runs(self, walks: list[int], records: int = 0) -> list[Run]:
        """The launches of a pass that keeps ``records`` values a sequence for its sums.

        Only a block that has a sequence for itself may go along several without waiting for the
        others; and the sums of a launch should not need more memory than a map.
        """
        together = SEQUENCES_AT_A_TIME
        if records:
            together = min(together, max(1, self.batch * self.dim * self.tokens // records))
        return make_runs(walks, 1 if self.segments > 1 else together)

    def sizes(self, run: Run, block: int) -> tuple[int, ...]:
        """The sizes that all kernels take, but for those of the records."""
        return (
            self.tokens,
            self.length,
            self.height,
            self.width,
            self.dim,
            -(-self.dim // block),
            self.segments,
            self.segment_length,
            self.sequences,
            run.first,
            len(run.walks),
            run.code,
        )

    def programs(self, block: int) -> int:
        """Blocks of threads of a launch, for each sequence that is not walked after another."""
        return self.batch * self.segments * -(-self.dim // block)


def checkpoint_distance(states: int) -> int:
    """Steps from one checkpoint to the next.

    With few states, checkpoints are so small that they may lie as close as the backward pass
    needs them; then it computes states only once again.
    """
    return 8 if states <= 2 else 32


def make_plan(x: Tensor, A: Tensor, weight: Tensor | None, read, height, width) -> Plan:
    """Share out the work of a call that is not empty."""
    batch, dim, tokens = x.shape
    sequences, _, states = A.shape
    length = tokens if read is None else read.shape[2]
    check_steps("route_scan", max(tokens, length))
    segments, segment_length = 1, length
    wanted = THREADS_WANTED // max(batch * dim, 1)
    # Segments take another pass over the inputs: they must shorten the way by more than that.
    if wanted > 2 and length >= 3 * SHORTEST_SEGMENT:
        every = checkpoint_distance(states)
        shortest = max(-(-length // wanted), SHORTEST_SEGMENT)
        segment_length = -(-shortest // every) * every
        segments = -(-length // segment_length)
    rank = 0 if weight is None else weight.shape[2]
    return Plan(
        batch,
        dim,
        tokens,
        length,
        height,
        width,
        sequences,
        states,
        rank,
        segments,
        segment_length,
    )


@dataclass(frozen=True)
class Inputs:
    """Tensors as the kernels read them; ``A`` stands for those that are absent."""

    x: Tensor  # (batch, positions, dim)
    params: Tensor  # (batch, sequences, positions, R + 2 N)
    delta: Tensor | None  # (batch, sequences, positions, dim)
    A: Tensor
    weight: Tensor | None  # (sequences, R, dim)
    D: Tensor | None
    bias: Tensor | None
    tables: tuple[Tensor, ...]  # read, project, write, or one for all of them, or none

    @classmethod
    def of(cls, x, params, delta, A, weight, D, bias, read, project, write) -> Inputs:
        """Lay out the arguments of the op."""
        tables = ()
        if read is not None:
            given = (read,) if project is None and write is None else (read, project, write)
            tables = tuple((read if t is None else t).contiguous() for t in given)
        return cls(
            _side_by_side(x.transpose(1, 2)),
            _side_by_side(params.transpose(2, 3)),
            None if delta is None else _side_by_side(delta.transpose(2, 3)),
            A.contiguous(),
            None if weight is None else weight.transpose(1, 2).contiguous(),
            None if D is None else D.contiguous(),
            None if bias is None else bias.contiguous(),
            tables,
        )

    def or_A(self, t: Tensor | None) -> Tensor:
        """The tensor, or what stands for one that is absent."""
        return self.A if t is None else t

    @property
    def delta_weight_A(self) -> tuple[Tensor, Tensor, Tensor]:
        """What step sizes and decays are made of."""
        return self.or_A(self.delta), self.or_A(self.weight), self.A

    def strides_of_records(self) -> tuple[int, ...]:
        """Strides of params and delta over batch items, sequences and positions."""
        delta = (0, 0, 0) if self.delta is None else self.delta.stride()[:3]
        return (*self.params.stride()[:3], *delta)

    def tables_of(self, run: Run) -> tuple[Tensor, Tensor, Tensor]:
        """Tables for reading, projecting and writing; any tensor where there are none."""
        if not run.has_tables:
            return self.A, self.A, self.A
        return self.tables if len(self.tables) == 3 else self.tables * 3

    def strides_of_tables(self, run: Run) -> tuple[int, ...]:
        """Strides over batch items: zero where all share a table."""
        tables = self.tables_of(run)
        return tuple(t.stride(0) if run.has_tables and t.shape[0] > 1 else 0 for t in tables)

    def repeats(self, *which: int) -> Tensor:
        """Which sequences come to a position twice in some of the tables, (batch or 1, sequences).

        Found on the GPU, and nobody waits for the answer.
        """
        tables = self.tables if len(self.tables) == 1 else [self.tables[i] for i in which]
        return functools.reduce(torch.maximum, (_repeats(t, self.x.shape[1]) for t in tables))

    def has_one_table(self, run: Run) -> bool:
        """Whether a step reads, projects and writes at one position."""
        return len(self.tables) == 1 or not run.has_tables


def _repeats(table: Tensor, tokens: int) -> Tensor:
    positions = table.sort(dim=2).values
    twice = (positions[..., 1:] == positions[..., :-1]) & (positions[..., 1:] >= 0)
    return (twice & (positions[..., 1:] < tokens)).any(2).int()


def _side_by_side(t: Tensor) -> Tensor:
    """The same tensor with the values of its last dimension next to each other."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


class RunningSum:
    """A map to which sequences are added in the type of the computation, and then rounded.

    Attributes:
        total: The sum, (batch, positions, dim).
        out: Where the last launch leaves it: another tensor if it rounds as well.
        starts: Whether the first launch finds nothing there.
        finishes: Whether the last launch comes to all positions, and so may leave the result.
    """

    def __init__(self, result: Tensor, walks: list[int], turns: int, compute: torch.dtype):
        """``result`` (batch, dim, positions) is what :meth:`finish` completes."""
        self.result = result
        self.out = result.transpose(1, 2)
        lies_well = self.out.is_contiguous()
        self.starts = walks[0] != TABLE_WALK
        self.finishes = lies_well and walks[-1] != TABLE_WALK
        at_once = len(walks) == 1 and turns == 1 and self.starts and self.finishes
        self.in_place = lies_well and (self.out.dtype == compute or at_once)
        if self.in_place:
            self.total = self.out
        else:
            self.total = result.new_empty(self.out.shape, dtype=compute)
        if not self.starts:
            self.total.zero_()
        if not lies_well:
            self.out = self.total

    def finish(self) -> Tensor:
        """Return the result, rounding the sum into it if no launch has."""
        if not (self.finishes or self.in_place):
            self.result.copy_(self.total.transpose(1, 2))
        return self.result


def map_like(x: Tensor, dtype: torch.dtype) -> Tensor:
    """An empty map of the shape of x, laid out like it: channels last, or positions last."""
    batch, dim, tokens = x.shape
    if x.stride(1) == 1 and x.stride(2) != 1:
        return x.new_empty((batch, tokens, dim), dtype=dtype).transpose(1, 2)
    return x.new_empty((batch, dim, tokens), dtype=dtype)


def _turns_and_runs(plan: Plan, runs: list[Run]):
    """Every launch, in order: first state, number of states, run, is first, is last."""
    turns = plan.turns()
    for turn, (first_state, count) in enumerate(turns):
        for i, run in enumerate(runs):
            starts = turn == 0 and i == 0
            finishes = turn == len(turns) - 1 and i == len(runs) - 1
            yield first_state, count, run, starts, finishes


def _carries(source: Tensor, inputs: Inputs, plan: Plan, walks, options, backward: bool) -> Tensor:
    """What every segment takes over, (batch, segments, N, sequences, dim).

    Forward these are the states before it, backward the gradient by the states after it.
    """
    A = inputs.A
    carries = A.new_zeros((plan.batch, plan.segments, plan.states, plan.sequences, plan.dim))
    spans = A.new_zeros((plan.batch, plan.segments, 3, plan.sequences, plan.dim))
    block = forward_block(plan.dim)
    softplus, scale = options
    for run in make_runs(walks, SEQUENCES_AT_A_TIME):
        tables, strides = inputs.tables_of(run), inputs.strides_of_tables(run)
        at_source = WRITE if backward else READ
        for first_state, count in plan.turns():
            wrap_triton(route_ends)[(plan.programs(block) * len(run.walks),)](
                source,
                inputs.params,
                *inputs.delta_weight_A,
                inputs.or_A(inputs.bias),
                tables[at_source],
                tables[PROJECT],
                carries,
                spans,
                *plan.sizes(run, block),
                plan.rank,
                plan.states,
                first_state,
                *inputs.strides_of_records(),
                *source.stride()[:2],
                strides[at_source],
                strides[PROJECT],
                STATES=count,
                BLOCK=block,
                WINDOW=plan.window,
                RANKS=plan.ranks,
                SCALE=scale,
                TABLE=run.has_tables,
                ONE_TABLE=inputs.has_one_table(run),
                SOFTPLUS=softplus,
                HAS_DELTA=inputs.delta is not None,
                HAS_BIAS=inputs.bias is not None,
                BACKWARD=backward,
                num_warps=block // WARP,
            )
    channels = plan.sequences * plan.dim
    rows = plan.batch * plan.states * channels
    wrap_triton(carry_over)[(-(-rows // CARRY_BLOCK),)](
        carries,
        spans,
        A,
        A,
        rows,
        channels,
        plan.states,
        plan.segments,
        BLOCK=CARRY_BLOCK,
        HAS_INITIAL=False,
        BACKWARD=backward,
        num_warps=CARRY_BLOCK // WARP,
    )
    return carries


@library.triton_op("mamba_mm::triton_route_scan_fwd", mutates_args=())
def triton_route_scan_fwd(
    x: Tensor,
    params: Tensor,
    delta: Tensor | None,
    A: Tensor,
    delta_weight: Tensor | None,
    D: Tensor | None,
    delta_bias: Tensor | None,
    walks: list[int],
    read: Tensor | None,
    project: Tensor | None,
    write: Tensor | None,
    height: int,
    width: int,
    delta_softplus: bool,
    scale: float,
    save_checkpoints: bool,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return the output, laid out like ``x``, and checkpoints.

    A, delta_weight, D and delta_bias are in the type of the computation, float32 or float64;
    there is at least one state.
    """
    out = map_like(x, out_dtype)
    if _is_empty(x, read):
        return out.zero_(), A.new_empty((0,))
    inputs = Inputs.of(x, params, delta, A, delta_weight, D, delta_bias, read, project, write)
    plan = make_plan(x, A, delta_weight, read, height, width)
    saves = save_checkpoints and plan.saved > 0
    shape = (plan.batch, plan.sequences, plan.saved, plan.states, plan.dim)
    checkpoints = A.new_empty(shape if saves else (0,))
    running = RunningSum(out, walks, len(plan.turns()), A.dtype)
    carries = None
    if plan.segments > 1:
        carries = _carries(inputs.x, inputs, plan, walks, (delta_softplus, scale), False)
    repeats = inputs.repeats(WRITE) if plan.segments > 1 and TABLE_WALK in walks else A
    block = forward_block(plan.dim)
    for first_state, count, run, is_first, is_last in _turns_and_runs(plan, plan.runs(walks)):
        has_D = D is not None and first_state == 0
        wrap_triton(route_forward)[(plan.programs(block),)](
            inputs.x,
            inputs.params,
            *inputs.delta_weight_A,
            inputs.D if has_D else inputs.A,
            inputs.or_A(inputs.bias),
            *inputs.tables_of(run),
            running.total,
            running.out,
            checkpoints,
            inputs.or_A(carries),
            repeats,
            *plan.sizes(run, block),
            plan.rank,
            plan.states,
            first_state,
            *inputs.strides_of_records(),
            *inputs.x.stride()[:2],
            *inputs.strides_of_tables(run),
            repeats.stride(0) if repeats.shape[0] > 1 else 0,
            plan.saved,
            int(is_first and running.starts),
            int(is_last and running.finishes),
            STATES=count,
            BLOCK=block,
            WINDOW=plan.window,
            EVERY=plan.every,
            RANKS=plan.ranks,
            SCALE=scale,
            TABLE=run.has_tables,
            ONE_TABLE=inputs.has_one_table(run),
            SOFTPLUS=delta_softplus,
            HAS_DELTA=delta is not None,
            HAS_D=has_D,
            HAS_BIAS=delta_bias is not None,
            HAS_CARRY=carries is not None,
            SAVES=saves,
            num_warps=block // WARP,
        )
    return running.finish(), checkpoints


@library.triton_op("mamba_mm::triton_route_scan_bwd", mutates_args=())
def triton_route_scan_bwd(
    grad_out: Tensor,
    x: Tensor,
    params: Tensor,
    delta: Tensor | None,
    A: Tensor,
    delta_weight: Tensor | None,
    D: Tensor | None,
    delta_bias: Tensor | None,
    walks: list[int],
    read: Tensor | None,
    project: Tensor | None,
    write: Tensor | None,
    height: int,
    width: int,
    delta_softplus: bool,
    scale: float,
    checkpoints: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, params, delta, A, delta_weight, D and delta_bias.

    Those of absent tensors are empty.
    """
    if _is_empty(x, read):
        given = (x, params, delta, A, delta_weight, D, delta_bias)
        return tuple(A.new_empty((0,)) if t is None else torch.zeros_like(t) for t in given)
    inputs = Inputs.of(x, params, delta, A, delta_weight, D, delta_bias, read, project, write)
    grads = _side_by_side(grad_out.transpose(1, 2))
    plan = make_plan(x, A, delta_weight, read, height, width)
    turns = plan.turns()
    running = RunningSum(map_like(x, x.dtype), walks, len(turns), A.dtype)
    carries = None
    if plan.segments > 1:
        carries = _carries(grads, inputs, plan, walks, (delta_softplus, scale), True)

    has_tables = TABLE_WALK in walks
    repeats = inputs.repeats(READ, PROJECT) if plan.segments > 1 and has_tables else A
    grad_params = _Records(params, plan, A.dtype)
    grad_delta = A.new_empty((0,))
    if delta is not None:
        shape = (plan.batch, plan.sequences, plan.tokens, plan.dim)
        sums_up = has_tables or len(turns) > 1
        grad_delta = A.new_empty(shape, dtype=A.dtype if sums_up else delta.dtype)
        if has_tables:
            grad_delta.zero_()
    parts = (plan.batch * plan.segments, plan.sequences)
    part_A = A.new_zeros((*parts, plan.states, plan.dim))
    part_weight = A.new_zeros((*parts, plan.rank, plan.dim))
    part_D = A if D is None else A.new_zeros((*parts, plan.dim))
    part_bias = [A if delta_bias is None else A.new_zeros((*parts, plan.dim)) for _ in turns]
    blocks = -(-plan.dim // WARP)
    ranks_batched = steps_summed_at_a_time(plan.ranks, plan.backward_window)
    widest = plan.rank + 2 * turns[0][1]
    runs = plan.runs(walks, blocks * plan.batch * plan.tokens * widest)
    for first_state, count, run, is_first, is_last in _turns_and_runs(plan, runs):
        has_D = D is not None and first_state == 0
        records = grad_params.parts(run, blocks, count)
        windows = A
        programs = plan.programs(WARP)
        if plan.every > plan.backward_window:
            windows = A.new_empty((programs, plan.every // plan.backward_window, count, WARP))
        wrap_triton(route_backward)[(programs,)](
            grads,
            inputs.x,
            inputs.params,
            *inputs.delta_weight_A,
            inputs.D if has_D else inputs.A,
            inputs.or_A(inputs.bias),
            *inputs.tables_of(run),
            checkpoints,
            inputs.or_A(carries),
            repeats,
            windows,
            running.total,
            running.out,
            grad_delta,
            records,
            part_weight,
            part_A,
            part_D,
            part_bias[first_state // STATES_AT_A_TIME],
            *plan.sizes(run, WARP),
            plan.rank,
            plan.states,
            first_state,
            *inputs.strides_of_records(),
            *inputs.x.stride()[:2],
            *grads.stride()[:2],
            *inputs.strides_of_tables(run),
            repeats.stride(0) if repeats.shape[0] > 1 else 0,
            plan.saved,
            int(is_first and running.starts),
            int(is_last and running.finishes),
            int(run.has_tables or first_state > 0),
            STATES=count,
            BLOCK=WARP,
            LANE_STEPS=WARP.bit_length() - 1,
            WINDOW=plan.backward_window,
            EVERY=plan.every,
            RANKS=plan.ranks,
            BATCHED=1
            if run.has_tables
            else steps_summed_at_a_time(2 * count, plan.backward_window),
            RANKS_BATCHED=1 if run.has_tables else ranks_batched,
            SCALE=scale,
            TABLE=run.has_tables,
            ONE_TABLE=inputs.has_one_table(run),
            SOFTPLUS=delta_softplus,
            HAS_DELTA=delta is not None,
            HAS_D=has_D,
            HAS_BIAS=delta_bias is not None,
            HAS_CARRY=carries is not None,
            num_warps=1,
        )
        grad_params.add(run, records, first_state, count)

    # Every sum below adds up its parts in an order that depends on the shapes alone.
    none = A.new_empty((0,))
    grad_A = part_A.sum(0).transpose(1, 2).contiguous()
    return (
        running.finish(),
        grad_params.result(),
        none if delta is None else grad_delta.to(delta.dtype).transpose(2, 3),
        grad_A,
        none.clone() if delta_weight is None else part_weight.sum(0).transpose(1, 2).contiguous(),
        none.clone() if D is None else part_D.sum(0),
        none.clone() if delta_bias is None else torch.stack(part_bias).sum((0, 1)),
    )


class _Records:
    """The gradient of the records, (batch, positions, sequences, R + 2 N), from its parts."""

    def __init__(self, params: Tensor, plan: Plan, compute: torch.dtype):
        self.plan = plan
        self.dtype = params.dtype
        shape = (plan.batch, plan.tokens, plan.sequences, plan.rank + 2 * plan.states)
        # With one turn no entry is added to, so it can be rounded at once.
        single = len(plan.turns()) == 1
        self.grad = params.new_empty(shape, dtype=params.dtype if single else compute)
        self.compute = compute

    def parts(self, run: Run, blocks: int, count: int) -> Tensor:
        """Memory for what each block of channels yields, zero where a table may not come."""
        plan = self.plan
        entries = plan.rank + 2 * count
        shape = (blocks, plan.batch, plan.tokens, len(run.walks), entries)
        new = self.grad.new_zeros if run.has_tables else self.grad.new_empty
        return new(shape, dtype=self.compute)

    def add(self, run: Run, parts: Tensor, first_state: int, count: int) -> None:
        """Take over a launch's parts, summed in the order of the blocks."""
        rank, states = self.plan.rank, self.plan.states
        own = self.grad[:, :, run.first : run.first + len(run.walks)]
        low, B, C = parts.sum(0).split((rank, count, count), dim=3)
        if first_state == 0:
            own[..., :rank] = low
        else:
            own[..., :rank] += low
        own[..., rank + first_state :][..., :count] = B
        own[..., rank + states + first_state :][..., :count] = C

    def result(self) -> Tensor:
        return self.grad.to(self.dtype).permute(0, 2, 3, 1)


def steps_summed_at_a_time(values: int, window: int) -> int:
    """As many steps as fill a warp with so many values each, a divisor of the window."""
    steps = window
    while steps > 1 and values * steps > WARP:
        steps //= 2
    return steps


def _is_empty(x: Tensor, read: Tensor | None) -> bool:
    return x.numel() == 0 or (read is not None and read.shape[2] == 0)


register_route_scan_gradients("triton_route_scan")


def route_scan_triton(
    x: Tensor,
    params: Tensor,
    delta: Tensor | None,
    A: Tensor,
    delta_weight: Tensor | None,
    D: Tensor | None,
    delta_bias: Tensor | None,
    walks: list[int],
    read: Tensor | None,
    project: Tensor | None,
    write: Tensor | None,
    height: int,
    width: int,
    delta_softplus: bool,
    scale: float,
    out_dtype: torch.dtype,
) -> Tensor:
    """Scan a map along all sequences and add up what they yield.

    Args:
        x: Map (B, D, T), in any strides.
        params: Low-rank inputs of the step sizes, B and C: (B, K, R + 2 N, T).
        delta: Step sizes (B, K, D, T), instead of ``delta_weight``.
        A: Decay rates (K, D, N).
        delta_weight: Projection of the step sizes, (K, D, R).
        D: Skip weights (K, D).
        delta_bias: (K, D).
        walks: A walk a sequence, as ``enum class Walk`` in csrc/route_scan.h numbers them.
        read: Position that each step reads, -1 where it is padded, int32 (B or 1, K, L); needed
            for walks along a table.
        project: The same for params and delta; that of ``read`` by default.
        write: The same for the output.
        height: Height of the map, for walks without a table.
        width: Its width.
        delta_softplus: Whether softplus is applied to the biased step sizes.
        scale: Factor of the output.
        out_dtype: Dtype of the output.

    Returns:
        Map (B, D, T), laid out like ``x``.

    Raises:
        ValueError: Walks and tables do not go together, or there are too many steps or positions.
    """
    _check_walks(x, walks, read, height, width)
    compute = torch.promote_types(x.dtype, torch.float32)
    A, delta_weight, D, delta_bias = (
        None if t is None else t.to(compute) for t in (A, delta_weight, D, delta_bias)
    )
    if A.shape[2] == 0:
        # The kernels have at least one state; one that nothing drives and reads adds nothing.
        A = A.new_zeros((*A.shape[:2], 1))
        nothing = params.new_zeros((*params.shape[:2], 2, params.shape[3]))
        params = torch.cat((params, nothing), dim=2)
    tensors = (x, params, delta, A, delta_weight, D, delta_bias)
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    with _current_device(x):
        y, _ = torch.ops.mamba_mm.triton_route_scan_fwd(
            *tensors,
            walks,
            read,
            project,
            write,
            height,
            width,
            delta_softplus,
            scale,
            needs_grad,
            out_dtype,
        )
    return y


def _check_walks(x: Tensor, walks, read: Tensor | None, height: int, width: int) -> None:
    tokens = x.shape[2]
    if TABLE_WALK in walks and read is None:
        raise ValueError("route_scan: a walk along a table needs the table `read`; give it")
    length = tokens if read is None else read.shape[2]
    if any(walk != TABLE_WALK for walk in walks) and not length == tokens == height * width:
        raise ValueError(
            f"route_scan: only a walk over all height x width = {height * width} positions goes "
            f"without a table, but there are {tokens} positions and {length} steps; give a table"
        )
