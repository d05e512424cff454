"""Kernels of the route scan: a thread per channel, its states in registers, time in a loop.

A block is one (batch item, segment of the sequences, run of channels); it goes along one
sequence after another and adds what each yields to one map, always in the same order. Channels
never meet but in the gradients of the records, which are sums over channels. Nothing is
specialised to sizes: another image size is no other kernel.

Layouts of what only kernels see, all in the type of the computation and contiguous: running sums
(batch, positions, dim), checkpoints (batch, sequences, saved, N, dim), carries (batch, segments,
N, sequences, dim), spans of the step sizes (batch, segments, 3, sequences, dim), partial sums with
(batch, segments) or the block in front.
"""

# Triton has no starred tuples, and constant conditions stand alone.
# ruff: noqa: RUF005, SIM102

import triton.language as tl

from .lanes import share, sum_lanes
from .math import LN_2, softplus_and_slope
from .route_walks import (
    add_to_map,
    entries_at,
    formers,
    locate,
    places,
    put_entries,
    raw_step_sizes,
    rows_at,
    stretch,
    walk_of,
)
from .scan_kernels import (
    advanced,
    decay_rates,
    load_states,
    no_steps,
    optional_row,
    run_time,
    step_size,
    store_states,
    with_step,
    zeros,
)

SIZES = "tokens length height width dim blocks segments segment_length sequences first count walks"
RECORDS = "rank states first_state records_b records_k records_t delta_b delta_k delta_t"
POINTERS = "records delta weight A D bias read project write total out checkpoints carries repeats"


@run_time(
    POINTERS, SIZES, RECORDS, "x x_b x_t read_b project_b write_b repeats_b saved starts finishes"
)
def route_forward(
    x,
    records,
    delta,
    weight,
    A,
    D,
    bias,
    read,
    project,
    write,
    total,
    out,
    checkpoints,
    carries,
    repeats,
    tokens,
    length,
    height,
    width,
    dim,
    blocks,
    segments,
    segment_length,
    sequences,
    first,
    count,
    walks,
    rank,
    states,
    first_state,
    records_b,
    records_k,
    records_t,
    delta_b,
    delta_k,
    delta_t,
    x_b,
    x_t,
    read_b,
    project_b,
    write_b,
    repeats_b,
    saved,
    starts,
    finishes,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
    EVERY: tl.constexpr,
    RANKS: tl.constexpr,
    SCALE: tl.constexpr,
    TABLE: tl.constexpr,
    ONE_TABLE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_DELTA: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CARRY: tl.constexpr,
    SAVES: tl.constexpr,
):
    """Add the outputs of ``count`` sequences to the map, and save checkpoints.

    The first of them ``starts`` the map, where nothing was before, the last ``finishes`` it. More
    states than a thread can hold are taken in turns, each of which adds its share.
    """
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, _, channel, mask = locate(dim, blocks, segments, BLOCK)
    dim = tl.cast(dim, tl.int64)
    x_row = x + batch * x_b + channel
    total_row = total + batch * tokens * dim + channel
    out_row = out + batch * tokens * dim + channel

    for i in range(count):
        k = (first + i).to(tl.int64)
        walk = walk_of(walks, i)
        adds = (starts == 0) | (i > 0)
        ends = (finishes != 0) & (i == count - 1)
        rates = decay_rates(A + k * dim * states, channel, states, first_state, mask, STATES)
        skip = optional_row(D + k * dim, channel, mask, rates[0], HAS_D)
        shift = optional_row(bias + k * dim, channel, mask, rates[0], HAS_BIAS)
        weight_row = weight + k * rank * dim + channel
        delta_row = delta + batch * delta_b + k * delta_k + channel
        record = records + batch * records_b + k * records_k
        read_row = read + batch * read_b + k * length
        project_row = project + batch * project_b + k * length
        write_row = write + batch * write_b + k * length
        cut = True
        if TABLE:
            if HAS_CARRY:
                cut = tl.load(repeats + batch * repeats_b + k) == 0
        begin, end = stretch(segment, segment_length, length, cut)

        h = zeros(BLOCK, dtype, STATES)
        if HAS_CARRY:
            carry = ((batch * segments + segment) * states + first_state) * sequences + k
            h = load_states(carries + carry * dim + channel, sequences * dim, mask & cut, STATES)

        for t0 in range(begin, end, WINDOW):
            if SAVES:
                if (t0 % EVERY == 0) & (t0 > 0):
                    save = (batch * sequences + k) * saved + (t0 // EVERY - 1)
                    save = (save * states + first_state) * dim
                    store_states(checkpoints + save + channel, h, dim, mask)
            at_read = places(read_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
            at_project, at_write = at_read, at_read
            if not ONE_TABLE:
                at_project = places(
                    project_row, t0, end, walk, tokens, height, width, WINDOW, TABLE
                )
                at_write = places(write_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
            xs = rows_at(x_row, x_t, at_read, mask, dtype)
            former = formers(total_row, dim, at_write, mask, adds, dtype, TABLE)
            raws = raw_step_sizes(
                delta_row,
                delta_t,
                record,
                records_t,
                weight_row,
                rank,
                dim,
                at_project,
                mask,
                BLOCK,
                RANKS,
                HAS_DELTA,
                dtype,
            )
            ys = ()
            for j in tl.static_range(WINDOW):
                dt = step_size(raws[j], shift, dtype, SOFTPLUS)
                b = entries_at(record, records_t, at_project[j], rank + first_state, STATES, dtype)
                c = entries_at(
                    record, records_t, at_project[j], rank + states + first_state, STATES, dtype
                )
                h = advanced(h, dt, dt * xs[j], rates, b)
                y = tl.zeros([BLOCK], dtype)
                if HAS_D:
                    y = skip * xs[j]
                for n in tl.static_range(STATES):
                    y += h[n] * c[n]
                ys = ys + (y * SCALE,)
            add_to_map(total_row, out_row, at_write, ys, former, dim, mask, adds, ends, TABLE)


@run_time(
    SIZES,
    RECORDS,
    "inputs records delta weight A bias at_inputs project carries spans inputs_b inputs_t "
    "at_inputs_b project_b",
)
def route_ends(
    inputs,
    records,
    delta,
    weight,
    A,
    bias,
    at_inputs,
    project,
    carries,
    spans,
    tokens,
    length,
    height,
    width,
    dim,
    blocks,
    segments,
    segment_length,
    sequences,
    first,
    count,
    walks,
    rank,
    states,
    first_state,
    records_b,
    records_k,
    records_t,
    delta_b,
    delta_k,
    delta_t,
    inputs_b,
    inputs_t,
    at_inputs_b,
    project_b,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
    RANKS: tl.constexpr,
    SCALE: tl.constexpr,
    TABLE: tl.constexpr,
    ONE_TABLE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_DELTA: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Every segment by itself, from zero, and the span of its step sizes.

    What it yields are the states after its last step, driven by x; or, BACKWARD, the
    gradient by those before its first step, driven by the gradient of the output.
    """
    dtype: tl.constexpr = A.dtype.element_ty
    rest, segment, _, channel, mask = locate(dim, blocks, segments, BLOCK)
    batch = rest // count
    i = rest % count
    k = first + i
    walk = walk_of(walks, i).to(tl.int32)
    dim = tl.cast(dim, tl.int64)
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)
    rates = decay_rates(A + k * dim * states, channel, states, first_state, mask, STATES)
    shift = optional_row(bias + k * dim, channel, mask, rates[0], HAS_BIAS)
    weight_row = weight + k * rank * dim + channel
    delta_row = delta + batch * delta_b + k * delta_k + channel
    record = records + batch * records_b + k * records_k
    inputs_row = inputs + batch * inputs_b + channel
    table_row = at_inputs + batch * at_inputs_b + k.to(tl.int64) * length
    project_row = project + batch * project_b + k.to(tl.int64) * length
    entry = rank + first_state
    if BACKWARD:
        entry += states

    h = zeros(BLOCK, dtype, STATES)
    span = no_steps(BLOCK, dtype)
    FIRST: tl.constexpr = WINDOW - 1 if BACKWARD else 0
    LAST: tl.constexpr = -1 if BACKWARD else WINDOW
    STRIDE: tl.constexpr = -1 if BACKWARD else 1
    windows = tl.cdiv(end - begin, WINDOW)
    for w in range(windows):
        t0 = begin + w * WINDOW
        if BACKWARD:
            t0 = begin + (windows - 1 - w) * WINDOW
        at = places(table_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
        at_project = at
        if not ONE_TABLE:
            at_project = places(project_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
        drives = rows_at(inputs_row, inputs_t, at, mask, dtype)
        raws = raw_step_sizes(
            delta_row,
            delta_t,
            record,
            records_t,
            weight_row,
            rank,
            dim,
            at_project,
            mask,
            BLOCK,
            RANKS,
            HAS_DELTA,
            dtype,
        )
        for j in tl.static_range(FIRST, LAST, STRIDE):
            valid = t0 + j < end
            dt = step_size(raws[j], shift, dtype, SOFTPLUS)
            entries = entries_at(record, records_t, at_project[j], entry, STATES, dtype)
            if BACKWARD:
                more = ()
                for n in tl.static_range(STATES):
                    # A step behind the end hands on what it gets, whatever its decay.
                    decay = tl.where(valid, tl.exp2(dt * rates[n]), 1.0)
                    more = more + (decay * (h[n] + drives[j] * SCALE * entries[n]),)
                h = more
            else:
                h = advanced(h, dt, dt * drives[j], rates, entries)
            span = with_step(span, dt, valid)
    own = batch * segments + segment
    carry = ((own * states + first_state) * sequences + k) * dim + channel
    store_states(carries + carry, h, sequences * dim, mask)
    slot = spans + (own * 3 * sequences + k) * dim + channel
    store_states(slot, span, sequences * dim, mask)


@run_time(
    POINTERS,
    SIZES,
    RECORDS,
    "grad_out x windows grad_delta grad_records grad_weight grad_A grad_D grad_bias "
    "x_b x_t grad_b grad_t read_b project_b write_b repeats_b saved starts finishes adds_delta",
)
def route_backward(
    grad_out,
    x,
    records,
    delta,
    weight,
    A,
    D,
    bias,
    read,
    project,
    write,
    checkpoints,
    carries,
    repeats,
    windows,
    total,
    out,
    grad_delta,
    grad_records,
    grad_weight,
    grad_A,
    grad_D,
    grad_bias,
    tokens,
    length,
    height,
    width,
    dim,
    blocks,
    segments,
    segment_length,
    sequences,
    first,
    count,
    walks,
    rank,
    states,
    first_state,
    records_b,
    records_k,
    records_t,
    delta_b,
    delta_k,
    delta_t,
    x_b,
    x_t,
    grad_b,
    grad_t,
    read_b,
    project_b,
    write_b,
    repeats_b,
    saved,
    starts,
    finishes,
    adds_delta,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    LANE_STEPS: tl.constexpr,
    WINDOW: tl.constexpr,
    EVERY: tl.constexpr,
    RANKS: tl.constexpr,
    BATCHED: tl.constexpr,
    RANKS_BATCHED: tl.constexpr,
    SCALE: tl.constexpr,
    TABLE: tl.constexpr,
    ONE_TABLE: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_DELTA: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_CARRY: tl.constexpr,
):
    """All gradients of ``count`` sequences, each from its end to its beginning.

    From every checkpoint the states are computed again, window by window: those at the beginning
    of each WINDOW steps go to memory, those within one stay in registers. The gradients of the
    records are summed over the channels of a block and lie as (blocks, batch, positions, count,
    R + 2 STATES). BATCHED or RANKS_BATCHED steps are summed at a time, which fills the lanes of a
    warp. The gradient of the weights (batch, segments, sequences, R, dim) is added to what is
    there.
    """
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, block, channel, mask = locate(dim, blocks, segments, BLOCK)
    lane = tl.arange(0, BLOCK)
    items = tl.num_programs(0) // (blocks * segments)
    dim = tl.cast(dim, tl.int64)
    x_row = x + batch * x_b + channel
    grad_row = grad_out + batch * grad_b + channel
    total_row = total + batch * tokens * dim + channel
    out_row = out + batch * tokens * dim + channel
    window_base = windows + tl.program_id(0).to(tl.int64) * (EVERY // WINDOW * STATES * BLOCK)
    entries = rank + 2 * STATES
    # In which order the two gradients of a state follow each other, and where they belong.
    state_lane = lane % (2 * STATES)
    state_entry = rank + state_lane % 2 * STATES + state_lane // 2

    for i in range(count):
        k = (first + i).to(tl.int64)
        walk = walk_of(walks, i)
        adds = (starts == 0) | (i > 0)
        ends = (finishes != 0) & (i == count - 1)
        rates = decay_rates(A + k * dim * states, channel, states, first_state, mask, STATES)
        skip = optional_row(D + k * dim, channel, mask, rates[0], HAS_D)
        shift = optional_row(bias + k * dim, channel, mask, rates[0], HAS_BIAS)
        weight_row = weight + k * rank * dim + channel
        delta_row = delta + batch * delta_b + k * delta_k + channel
        record = records + batch * records_b + k * records_k
        read_row = read + batch * read_b + k * length
        project_row = project + batch * project_b + k * length
        write_row = write + batch * write_b + k * length
        cut = True
        if TABLE:
            if HAS_CARRY:
                cut = tl.load(repeats + batch * repeats_b + k) == 0
        begin, end = stretch(segment, segment_length, length, cut)
        own = (batch * segments + segment) * sequences + k
        weights_row = grad_weight + own * rank * dim + channel
        sums_of_records = grad_records + ((block * items + batch) * tokens * count + i) * entries
        ddelta_row = grad_delta + (batch * sequences + k) * tokens * dim + channel

        adjoint = zeros(BLOCK, dtype, STATES)
        if HAS_CARRY:
            carry = ((batch * segments + segment) * states + first_state) * sequences + k
            adjoint = load_states(
                carries + carry * dim + channel, sequences * dim, mask & cut, STATES
            )
        sum_A = zeros(BLOCK, dtype, STATES)
        sum_D = tl.zeros([BLOCK], dtype)
        sum_bias = tl.zeros([BLOCK], dtype)

        first_chunk = begin // EVERY
        chunks = tl.cdiv(end - begin, EVERY)
        for c in range(chunks):
            chunk = first_chunk + chunks - 1 - c
            chunk_begin = chunk * EVERY
            in_chunk = tl.cdiv(tl.minimum(chunk_begin + EVERY, end) - chunk_begin, WINDOW)
            save = (batch * sequences + k) * saved + chunk - 1
            save = (save * states + first_state) * dim
            saved_h = load_states(checkpoints + save + channel, dim, mask & (chunk > 0), STATES)

            if EVERY > WINDOW:
                h = saved_h
                for w in range(in_chunk - 1):
                    store_states(window_base + w * (STATES * BLOCK) + lane, h, BLOCK, mask)
                    t0 = chunk_begin + w * WINDOW
                    at_read = places(read_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
                    at_project = at_read
                    if not ONE_TABLE:
                        at_project = places(
                            project_row, t0, end, walk, tokens, height, width, WINDOW, TABLE
                        )
                    xs = rows_at(x_row, x_t, at_read, mask, dtype)
                    raws = raw_step_sizes(
                        delta_row,
                        delta_t,
                        record,
                        records_t,
                        weight_row,
                        rank,
                        dim,
                        at_project,
                        mask,
                        BLOCK,
                        RANKS,
                        HAS_DELTA,
                        dtype,
                    )
                    for j in tl.static_range(WINDOW):
                        dt = step_size(raws[j], shift, dtype, SOFTPLUS)
                        b = entries_at(
                            record, records_t, at_project[j], rank + first_state, STATES, dtype
                        )
                        h = advanced(h, dt, dt * xs[j], rates, b)
                store_states(window_base + (in_chunk - 1) * (STATES * BLOCK) + lane, h, BLOCK, mask)

            for v in range(in_chunk):
                w = in_chunk - 1 - v
                t0 = chunk_begin + w * WINDOW
                h = saved_h
                if EVERY > WINDOW:
                    h = load_states(window_base + w * (STATES * BLOCK) + lane, BLOCK, mask, STATES)
                at_read = places(read_row, t0, end, walk, tokens, height, width, WINDOW, TABLE)
                at_project, at_write = at_read, at_read
                if not ONE_TABLE:
                    at_project = places(
                        project_row, t0, end, walk, tokens, height, width, WINDOW, TABLE
                    )
                    at_write = places(
                        write_row, t0, end, walk, tokens, height, width, WINDOW, TABLE
                    )
                xs = rows_at(x_row, x_t, at_read, mask, dtype)
                dys = rows_at(grad_row, grad_t, at_write, mask, dtype)
                former = formers(total_row, dim, at_read, mask, adds, dtype, TABLE)
                raws = raw_step_sizes(
                    delta_row,
                    delta_t,
                    record,
                    records_t,
                    weight_row,
                    rank,
                    dim,
                    at_project,
                    mask,
                    BLOCK,
                    RANKS,
                    HAS_DELTA,
                    dtype,
                )

                # Forward through the window. A step behind the end keeps the states.
                dts, slopes = (), ()
                history = h
                for j in tl.static_range(WINDOW):
                    valid = t0 + j < end
                    dt = raws[j] + shift
                    if SOFTPLUS:
                        dt, slope = softplus_and_slope(dt)
                        slopes = slopes + (slope,)
                    b = entries_at(
                        record, records_t, at_project[j], rank + first_state, STATES, dtype
                    )
                    drive = dt * xs[j]
                    after = ()
                    for n in tl.static_range(STATES):
                        decay = tl.where(valid, tl.exp2(dt * rates[n]), 1.0)
                        after = after + (decay * h[n] + drive * b[n],)
                    h = after
                    dts = dts + (dt,)
                    history = history + h

                dxs, ddeltas, pending = (), (), ()
                for j in tl.static_range(WINDOW - 1, -1, -1):
                    valid = t0 + j < end
                    u = xs[j]
                    dt = dts[j]
                    dy = dys[j] * SCALE
                    drive = dt * u
                    b = entries_at(
                        record, records_t, at_project[j], rank + first_state, STATES, dtype
                    )
                    e = entries_at(
                        record, records_t, at_project[j], rank + states + first_state, STATES, dtype
                    )
                    by_drive = tl.zeros([BLOCK], dtype)
                    by_rate = tl.zeros([BLOCK], dtype)
                    before, more_A, sums = (), (), ()
                    for n in tl.static_range(STATES):
                        g = dy * e[n] + adjoint[n]
                        s = g * tl.where(valid, tl.exp2(dt * rates[n]), 1.0)
                        q = tl.where(valid, s * history[j * STATES + n], 0.0)
                        before = before + (s,)
                        more_A = more_A + (sum_A[n] + q * dt,)
                        by_drive += g * b[n]
                        by_rate += q * rates[n]
                        # Lanes without a channel multiply zeros by infinities of the records.
                        by_b = tl.where(mask, g * drive, 0.0)
                        by_c = tl.where(mask, dy * history[(j + 1) * STATES + n], 0.0)
                        sums = sums + (share(by_b, by_c, lane, 1),)
                    adjoint, sum_A = before, more_A
                    pending = sums + pending
                    if j % BATCHED == 0:
                        totals = sum_lanes(pending, lane, 1, LANE_STEPS)
                        put_entries(
                            sums_of_records,
                            count * entries,
                            at_project,
                            totals,
                            lane,
                            state_entry,
                            j,
                            BATCHED,
                            2 * STATES,
                            TABLE,
                        )
                        pending = ()

                    ddelta = by_drive * u + by_rate * LN_2
                    if SOFTPLUS:
                        ddelta *= slopes[j]
                    ddelta = tl.where(mask & valid, ddelta, 0.0)
                    dx = by_drive * dt
                    if HAS_D:
                        dx += skip * dy
                        sum_D += dy * u
                    sum_bias += ddelta
                    dxs = (dx,) + dxs
                    ddeltas = (ddelta,) + ddeltas

                add_to_map(total_row, out_row, at_read, dxs, former, dim, mask, adds, ends, TABLE)
                if HAS_DELTA:
                    for j in tl.static_range(WINDOW):
                        here = mask & (at_project[j] >= 0)
                        slot = ddelta_row + at_project[j].to(tl.int64) * dim
                        former_d = tl.load(slot, mask=here & (adds_delta != 0), other=0.0)
                        ddelta = ddeltas[j] + former_d.to(dtype)
                        tl.store(slot, ddelta.to(grad_delta.dtype.element_ty), mask=here)
                else:
                    for r0 in range(0, rank, RANKS):
                        ws, grads = (), ()
                        for r in tl.static_range(RANKS):
                            skipped = (r0 + r) * dim
                            ws = ws + (tl.load(weight_row + skipped, mask=mask, other=0.0),)
                            grad = tl.load(weights_row + skipped, mask=mask, other=0.0)
                            grads = grads + (grad,)
                        pending = ()
                        for j in tl.static_range(WINDOW):
                            low = entries_at(record, records_t, at_project[j], r0, RANKS, dtype)
                            more = ()
                            for r in tl.static_range(RANKS):
                                more = more + (grads[r] + ddeltas[j] * low[r],)
                                pending = pending + (ws[r] * ddeltas[j],)
                            grads = more
                            if (j + 1) % RANKS_BATCHED == 0:
                                totals = sum_lanes(pending, lane, 0, LANE_STEPS)
                                put_entries(
                                    sums_of_records,
                                    count * entries,
                                    at_project,
                                    totals,
                                    lane,
                                    r0 + lane % RANKS,
                                    j + 1 - RANKS_BATCHED,
                                    RANKS_BATCHED,
                                    RANKS,
                                    TABLE,
                                )
                                pending = ()
                        for r in tl.static_range(RANKS):
                            tl.store(weights_row + (r0 + r) * dim, grads[r], mask=mask)

        row_A = (own * states + first_state) * dim
        store_states(grad_A + row_A + channel, sum_A, dim, mask)
        if HAS_D:
            tl.store(grad_D + own * dim + channel, sum_D, mask=mask)
        if HAS_BIAS:
            tl.store(grad_bias + own * dim + channel, sum_bias, mask=mask)
