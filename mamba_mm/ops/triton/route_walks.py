"""Where a sequence of the route scan is at each step, and what its kernels find there.

Kernels go through a sequence in windows of a few steps, so that the loads of several steps are
under way at once; what belongs to the steps of a window is a tuple. Maps lie with their channels
side by side, and so do the R + 2 N entries of a position's record.
"""

# Triton has no starred tuples.
# ruff: noqa: RUF005

import triton
import triton.language as tl

from .scan_kernels import zeros


@triton.jit
def locate(dim, blocks, segments, BLOCK: tl.constexpr):
    """What a program works on: batch item, segment, block, its channels and their mask."""
    program = tl.program_id(0)
    block = program % blocks
    segment = program // blocks % segments
    rest = (program // blocks // segments).to(tl.int64)
    channel = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return rest, segment, block.to(tl.int64), channel, channel < dim


@triton.jit
def walk_of(walks, i):
    """The walk of sequence i, as in ``enum class Walk`` of csrc/route_scan.h: three bits each."""
    return (walks >> (3 * i)) & 7


@triton.jit
def stretch(segment, segment_length, length, cut):
    """Where a segment begins and ends in a sequence that is cut, or else must stay in one piece.

    A table may come to a position twice, which has to happen one after the other: then the first
    segment's program walks the whole sequence, and the others nothing.
    """
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)
    begin = tl.where(cut, begin, tl.where(segment == 0, 0, length))
    return begin, tl.where(cut, end, length)


@triton.jit
def places(table, t0, end, walk, tokens, height, width, WINDOW: tl.constexpr, TABLE: tl.constexpr):
    """The positions of the steps from t0 on; -1 where one is padded or not before ``end``.

    An entry of a table that names no position counts as padding: to refuse it would take
    waiting for the GPU.
    """
    found = ()
    if TABLE:
        for k in tl.static_range(WINDOW):
            position = tl.load(table + t0 + k, mask=t0 + k < end, other=-1)
            found = found + (tl.where(position < tokens, position, -1),)
    else:
        along_columns = walk % 2 == 0
        back = walk > 2
        step = tl.where(back, tokens - 1 - t0, t0)
        position = tl.where(along_columns, step % height * width + step // height, step)
        stride = tl.where(along_columns, width, 1)
        stride = tl.where(back, -stride, stride)
        # One step beyond the end of a column is this far from the beginning of the next.
        turn = tokens - 1
        for k in tl.static_range(WINDOW):
            found = found + (tl.where(t0 + k < end, position, -1),)
            position += stride
            position = tl.where(position >= tokens, position - turn, position)
            position = tl.where(position < 0, position + turn, position)
    return found


@triton.jit
def rows_at(row, pitch, at, mask, dtype: tl.constexpr):
    """One vector of channels a step; zeros where it is padded."""
    values = ()
    for k in tl.static_range(len(at)):
        here = mask & (at[k] >= 0)
        value = tl.load(row + at[k].to(tl.int64) * pitch, mask=here, other=0.0)
        values = values + (value.to(dtype),)
    return values


@triton.jit
def raw_step_sizes(
    delta_row,
    delta_pitch,
    record,
    record_pitch,
    weight_row,
    rank,
    dim,
    at,
    mask,
    BLOCK: tl.constexpr,
    RANKS: tl.constexpr,
    HAS_DELTA: tl.constexpr,
    dtype: tl.constexpr,
):
    """What the step sizes of a window are before bias and softplus.

    They are given whole, or projected, RANKS ranks at a time from the weights (rank, dim).
    """
    raws = ()
    if HAS_DELTA:
        raws = rows_at(delta_row, delta_pitch, at, mask, dtype)
    else:
        raws = zeros(BLOCK, dtype, len(at))
        for r0 in range(0, rank, RANKS):
            weights = ()
            for i in tl.static_range(RANKS):
                weights = weights + (tl.load(weight_row + (r0 + i) * dim, mask=mask, other=0.0),)
            more = ()
            for k in tl.static_range(len(at)):
                raw = raws[k]
                entries = entries_at(record, record_pitch, at[k], r0, RANKS, dtype)
                for i in tl.static_range(RANKS):
                    raw += weights[i] * entries[i]
                more = more + (raw,)
            raws = more
    return raws


@triton.jit
def entries_at(record, pitch, position, first, COUNT: tl.constexpr, dtype: tl.constexpr):
    """COUNT scalars of a position's record; zeros where the step is padded."""
    row = record + position.to(tl.int64) * pitch + first
    values = ()
    for i in tl.static_range(COUNT):
        values = values + (tl.load(row + i, mask=position >= 0, other=0.0).to(dtype),)
    return values


@triton.jit
def add_to_map(
    total_row, out_row, at, values, former, dim, mask, adds, finishes, TABLE: tl.constexpr
):
    """Add a window's values to a running sum, or, when it ``finishes``, leave the sum in ``out``.

    A table may come to a position twice, so then nothing can have been loaded beforehand.
    """
    for k in tl.static_range(len(values)):
        here = mask & (at[k] >= 0)
        place = at[k].to(tl.int64) * dim
        value = values[k]
        if TABLE:
            value += tl.load(total_row + place, mask=here & adds, other=0.0)
        else:
            value += former[k]
        tl.store(total_row + place, value, mask=here & (finishes == 0))
        rounded = value.to(out_row.dtype.element_ty)
        tl.store(out_row + place, rounded, mask=here & (finishes != 0))


@triton.jit
def formers(total_row, dim, at, mask, adds, dtype: tl.constexpr, TABLE: tl.constexpr):
    """What a running sum holds at the positions of a window: loaded early where that is safe."""
    values = ()
    if not TABLE:
        values = rows_at(total_row, dim, at, mask & adds, dtype)
    return values


@triton.jit
def put_entries(
    base,
    pitch,
    at,
    totals,
    lane,
    entry,
    FIRST: tl.constexpr,
    STEPS: tl.constexpr,
    COUNT: tl.constexpr,
    TABLE: tl.constexpr,
):
    """Write sums of entries: lane s COUNT + i has that of value i of step FIRST + s.

    ``entry`` is where in the record the value of a lane belongs. A table may come to a position
    twice: then there is one step at a time, and it adds.
    """
    step = lane // COUNT
    position = tl.full(lane.shape, -1, tl.int32)
    for s in tl.static_range(STEPS):
        position = tl.where(step == s, at[FIRST + s], position)
    here = position >= 0
    slot = base + position.to(tl.int64) * pitch + entry
    if TABLE:
        totals += tl.load(slot, mask=here, other=0.0)
    tl.store(slot, totals, mask=here)
