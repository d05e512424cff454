"""Kernels of the selective scan: a thread per channel, its states in registers, time in a loop.

The states of a channel are a tuple of N vectors over the channels of a block, built anew every
step, so no exchange between threads is needed but for the gradients of B and C, which are sums
over channels. A block is one (batch item, segment of the sequence, group, run of its channels).
Nothing is specialised to sizes, strides or alignment: another image size is no other kernel.

Layouts of what only kernels see, all in the type of the computation and contiguous:
checkpoints (batch, saved, N, dim), carries (batch, segments, N, dim), spans of the step sizes
(batch, segments, 3, dim), partial sums of the gradients with (batch, segments) or the block in
front.
"""

# Triton's language has no starred tuples, and tells what is constant by the `if` it stands in.
# ruff: noqa: RUF005, SIM102

import triton
import triton.language as tl

from .lanes import share, sum_lanes
from .math import LN_2, LOG2_E, silu, silu_and_slope, softplus, softplus_and_slope


def run_time(*names: str):
    """Compile the decorated kernel once for all values of these arguments."""
    return triton.jit(do_not_specialize=[name for group in names for name in group.split()])


PLACE = "length width blocks groups segments segment_length states first_state"
INPUTS = "u delta z B C A D bias u_b u_c u_t delta_b delta_c delta_t B_b B_g B_t C_b C_g C_t"


@triton.jit
def place(width, blocks, groups, segments, BLOCK: tl.constexpr):
    """Which batch item, segment, group and block a program has, its channels and their mask."""
    program = tl.program_id(0)
    block = program % blocks
    group = program // blocks % groups
    segment = program // (blocks * groups) % segments
    batch = (program // (blocks * groups) // segments).to(tl.int64)
    within = block * BLOCK + tl.arange(0, BLOCK)
    channel = group.to(tl.int64) * width + within
    return batch, segment, group.to(tl.int64), block, channel, within < width


@triton.jit
def channel_rows(base, channel, states, first_state, mask, STATES: tl.constexpr):
    """Rows of a (dim, N) parameter, as a tuple of N vectors."""
    values = ()
    for n in tl.static_range(STATES):
        at = base + channel * states + first_state + n
        values = values + (tl.load(at, mask=mask, other=0.0),)
    return values


@triton.jit
def decay_rates(A, channel, states, first_state, mask, STATES: tl.constexpr):
    """A times log2(e): the decay of a step is a power of two."""
    rows = channel_rows(A, channel, states, first_state, mask, STATES)
    rates = ()
    for n in tl.static_range(STATES):
        rates = rates + (rows[n] * LOG2_E,)
    return rates


@triton.jit
def load_states(base, dim, mask, STATES: tl.constexpr):
    """N vectors that lie ``dim`` apart."""
    values = ()
    for n in tl.static_range(STATES):
        values = values + (tl.load(base + n * dim, mask=mask, other=0.0),)
    return values


@triton.jit
def store_states(base, values, dim, mask):
    """Store what :func:`load_states` loads."""
    for n in tl.static_range(len(values)):
        tl.store(base + n * dim, values[n], mask=mask)


@triton.jit
def zeros(BLOCK: tl.constexpr, dtype: tl.constexpr, COUNT: tl.constexpr):
    """COUNT vectors of zeros."""
    values = ()
    for _ in tl.static_range(COUNT):
        values = values + (tl.zeros([BLOCK], dtype),)
    return values


@triton.jit
def projection(row, fixed, valid, dtype: tl.constexpr, STATES: tl.constexpr, FIXED: tl.constexpr):
    """B or C of one step: N scalars that lie side by side, or the fixed vectors."""
    values = fixed
    if not FIXED:
        values = ()
        for n in tl.static_range(STATES):
            values = values + (tl.load(row + n, mask=valid, other=0.0).to(dtype),)
    return values


@triton.jit
def fixed_rows(base, channel, states, first_state, mask, STATES: tl.constexpr, FIXED: tl.constexpr):
    """B or C of all steps if it is FIXED, else nothing."""
    rows = ()
    if FIXED:
        rows = channel_rows(base, channel, states, first_state, mask, STATES)
    return rows


@triton.jit
def step_size(raw, bias, dtype: tl.constexpr, SOFTPLUS: tl.constexpr):
    """The step size of what delta holds."""
    dt = raw.to(dtype) + bias
    if SOFTPLUS:
        dt = softplus(dt)
    return dt


@triton.jit
def advanced(h, dt, drive, rates, B_t):
    """The states after one more step."""
    after = ()
    for n in tl.static_range(len(h)):
        after = after + (tl.exp2(dt * rates[n]) * h[n] + drive * B_t[n],)
    return after


@triton.jit
def optional_row(base, channel, mask, like, PRESENT: tl.constexpr):
    """One value a channel, or zeros."""
    value = tl.zeros_like(like)
    if PRESENT:
        value = tl.load(base + channel, mask=mask, other=0.0)
    return value


@run_time(
    INPUTS,
    PLACE,
    "out last_state checkpoints carries sums saved z_b z_c z_t out_b out_c out_t",
)
def scan_forward(
    u,
    delta,
    z,
    B,
    C,
    A,
    D,
    bias,
    out,
    last_state,
    checkpoints,
    carries,
    sums,
    length,
    width,
    blocks,
    groups,
    segments,
    segment_length,
    states,
    first_state,
    saved,
    u_b,
    u_c,
    u_t,
    delta_b,
    delta_c,
    delta_t,
    z_b,
    z_c,
    z_t,
    out_b,
    out_c,
    out_t,
    B_b,
    B_g,
    B_t,
    C_b,
    C_g,
    C_t,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    EVERY: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr,
    FIXED_B: tl.constexpr,
    FIXED_C: tl.constexpr,
    HAS_CARRY: tl.constexpr,
    SAVES: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
):
    """Outputs, last state and checkpoints, from STATES states at a time.

    More states than a thread can hold are taken in turns: all but the LAST leave their share of
    the output in ``sums`` (batch, length, dim), all but the FIRST add to what they find there.
    """
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, group, _, channel, mask = place(width, blocks, groups, segments, BLOCK)
    dim = tl.cast(groups * width, tl.int64)
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)

    rates = decay_rates(A, channel, states, first_state, mask, STATES)
    skip = optional_row(D, channel, mask, rates[0], HAS_D)
    shift = optional_row(bias, channel, mask, rates[0], HAS_BIAS)
    fixed_B = fixed_rows(B, channel, states, first_state, mask, STATES, FIXED_B)
    fixed_C = fixed_rows(C, channel, states, first_state, mask, STATES, FIXED_C)

    first = begin.to(tl.int64)
    u_row = u + batch * u_b + channel * u_c + first * u_t
    delta_row = delta + batch * delta_b + channel * delta_c + first * delta_t
    z_row = z + batch * z_b + channel * z_c + first * z_t
    out_row = out + batch * out_b + channel * out_c + first * out_t
    B_row = B + batch * B_b + group * B_g + first * B_t + first_state
    C_row = C + batch * C_b + group * C_g + first * C_t + first_state
    sums_row = sums + (batch * length + first) * dim + channel

    h = zeros(BLOCK, dtype, STATES)
    if HAS_CARRY:
        at = ((batch * segments + segment) * states + first_state) * dim + channel
        h = load_states(carries + at, dim, mask, STATES)

    # The loads of a step are under way while the step before it is computed.
    u_ahead = tl.load(u_row, mask=mask & (begin < end), other=0.0)
    delta_ahead = tl.load(delta_row, mask=mask & (begin < end), other=0.0)
    for t in range(begin, end):
        u_t_now = u_ahead.to(dtype)
        dt = step_size(delta_ahead, shift, dtype, SOFTPLUS)
        u_row += u_t
        delta_row += delta_t
        ahead = mask & (t + 1 < end)
        u_ahead = tl.load(u_row, mask=ahead, other=0.0)
        delta_ahead = tl.load(delta_row, mask=ahead, other=0.0)

        if SAVES:
            if (t % EVERY == 0) & (t > 0):
                save = (batch * saved + (t // EVERY - 1)) * states + first_state
                store_states(checkpoints + save * dim + channel, h, dim, mask)

        b = projection(B_row, fixed_B, True, dtype, STATES, FIXED_B)
        c = projection(C_row, fixed_C, True, dtype, STATES, FIXED_C)
        B_row += B_t
        C_row += C_t
        h = advanced(h, dt, dt * u_t_now, rates, b)
        y = tl.zeros_like(skip)
        if FIRST:
            if HAS_D:
                y = skip * u_t_now
        else:
            y = tl.load(sums_row, mask=mask, other=0.0)
        for n in tl.static_range(STATES):
            y += h[n] * c[n]
        if LAST:
            if HAS_Z:
                y *= silu(tl.load(z_row, mask=mask, other=0.0).to(dtype))
            tl.store(out_row, y.to(out.dtype.element_ty), mask=mask)
        else:
            tl.store(sums_row, y, mask=mask)
        z_row += z_t
        out_row += out_t
        sums_row += dim

    last = mask & (segment == segments - 1)
    for n in tl.static_range(STATES):
        at = (batch * dim + channel) * states + first_state + n
        tl.store(last_state + at, h[n], mask=last)


@triton.jit
def no_steps(BLOCK: tl.constexpr, dtype: tl.constexpr):
    """The span of no steps: their sum, the smallest and the largest."""
    total = tl.zeros([BLOCK], dtype)
    return total, total + float("inf"), total - float("inf")


@triton.jit
def with_step(span, dt, valid):
    """The span of one more step where it is valid."""
    total, least, most = span
    return (
        total + tl.where(valid, dt, 0.0),
        tl.where(valid & (dt < least), dt, least),
        tl.where(valid & (dt > most), dt, most),
    )


@run_time(INPUTS, PLACE, "carries spans")
def segment_states(
    u,
    delta,
    B,
    A,
    bias,
    carries,
    spans,
    length,
    width,
    blocks,
    groups,
    segments,
    segment_length,
    states,
    first_state,
    u_b,
    u_c,
    u_t,
    delta_b,
    delta_c,
    delta_t,
    B_b,
    B_g,
    B_t,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    FIXED_B: tl.constexpr,
):
    """Every segment by itself: its last states, from zero, and the span of its step sizes."""
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, group, _, channel, mask = place(width, blocks, groups, segments, BLOCK)
    dim = tl.cast(groups * width, tl.int64)
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)
    rates = decay_rates(A, channel, states, first_state, mask, STATES)
    shift = optional_row(bias, channel, mask, rates[0], HAS_BIAS)
    fixed_B = fixed_rows(B, channel, states, first_state, mask, STATES, FIXED_B)
    first = begin.to(tl.int64)
    u_row = u + batch * u_b + channel * u_c + first * u_t
    delta_row = delta + batch * delta_b + channel * delta_c + first * delta_t
    B_row = B + batch * B_b + group * B_g + first * B_t + first_state

    h = zeros(BLOCK, dtype, STATES)
    span = no_steps(BLOCK, dtype)
    for _ in range(begin, end):
        u_now = tl.load(u_row, mask=mask, other=0.0).to(dtype)
        raw = tl.load(delta_row, mask=mask, other=0.0)
        dt = step_size(raw, shift, dtype, SOFTPLUS)
        b = projection(B_row, fixed_B, True, dtype, STATES, FIXED_B)
        h = advanced(h, dt, dt * u_now, rates, b)
        span = with_step(span, dt, True)
        u_row += u_t
        delta_row += delta_t
        B_row += B_t
    at = batch * segments + segment
    store_states(carries + (at * states + first_state) * dim + channel, h, dim, mask)
    store_states(spans + at * 3 * dim + channel, span, dim, mask)


@run_time(INPUTS, PLACE, "grad_out carries spans z_b z_c z_t grad_b grad_c grad_t")
def segment_adjoints(
    grad_out,
    delta,
    z,
    C,
    A,
    bias,
    carries,
    spans,
    length,
    width,
    blocks,
    groups,
    segments,
    segment_length,
    states,
    first_state,
    grad_b,
    grad_c,
    grad_t,
    delta_b,
    delta_c,
    delta_t,
    z_b,
    z_c,
    z_t,
    C_b,
    C_g,
    C_t,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr,
    FIXED_C: tl.constexpr,
):
    """Every segment by itself, backwards: the gradient by the states before its first step."""
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, group, _, channel, mask = place(width, blocks, groups, segments, BLOCK)
    dim = tl.cast(groups * width, tl.int64)
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)
    rates = decay_rates(A, channel, states, first_state, mask, STATES)
    shift = optional_row(bias, channel, mask, rates[0], HAS_BIAS)
    fixed_C = fixed_rows(C, channel, states, first_state, mask, STATES, FIXED_C)
    final = (end - 1).to(tl.int64)
    grad_row = grad_out + batch * grad_b + channel * grad_c + final * grad_t
    delta_row = delta + batch * delta_b + channel * delta_c + final * delta_t
    z_row = z + batch * z_b + channel * z_c + final * z_t
    C_row = C + batch * C_b + group * C_g + final * C_t + first_state

    adjoint = zeros(BLOCK, dtype, STATES)
    span = no_steps(BLOCK, dtype)
    for _ in range(begin, end):
        dy = tl.load(grad_row, mask=mask, other=0.0).to(dtype)
        if HAS_Z:
            dy *= silu(tl.load(z_row, mask=mask, other=0.0).to(dtype))
        dt = step_size(tl.load(delta_row, mask=mask, other=0.0), shift, dtype, SOFTPLUS)
        c = projection(C_row, fixed_C, True, dtype, STATES, FIXED_C)
        before = ()
        for n in tl.static_range(STATES):
            before = before + (tl.exp2(dt * rates[n]) * (dy * c[n] + adjoint[n]),)
        adjoint = before
        span = with_step(span, dt, True)
        grad_row -= grad_t
        delta_row -= delta_t
        z_row -= z_t
        C_row -= C_t
    at = batch * segments + segment
    store_states(carries + (at * states + first_state) * dim + channel, adjoint, dim, mask)
    store_states(spans + at * 3 * dim + channel, span, dim, mask)


@triton.jit
def through(carry, rate, total, least, most):
    """What is left of a state behind a segment, as step by step.

    An infinite state stays so until a decay is zero, and one of zero until a decay is infinite;
    the product of all decays may be either though none of them is.
    """
    first, second = tl.exp2(rate * least), tl.exp2(rate * most)
    falls = rate < 0
    # In two halves: the decay alone may be too small or too large for a number.
    half = tl.exp2(rate * total * 0.5)
    left = carry * half * half
    left = tl.where(carry == 0.0, carry * tl.where(falls, first, second), left)
    infinite = tl.abs(carry) == float("inf")
    return tl.where(infinite, carry * tl.where(falls, second, first), left)


@run_time("carries spans A initial rows dim states segments")
def carry_over(
    carries,
    spans,
    A,
    initial,
    rows,
    dim,
    states,
    segments,
    BLOCK: tl.constexpr,
    HAS_INITIAL: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Replace what every segment yields by itself by what it takes over from those before it.

    A row is one (batch item, state, channel). ``initial`` (batch, dim, N) goes into the first
    segment on the way, which is the last one BACKWARD.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = row < rows
    channel = row % dim
    state = row // dim % states
    batch = row // dim // states
    rate = tl.load(A + channel * states + state, mask=mask, other=0.0) * LOG2_E
    carry = tl.zeros_like(rate)
    if HAS_INITIAL:
        carry = tl.load(initial + (batch * dim + channel) * states + state, mask=mask, other=0.0)
    for i in range(segments):
        segment = i
        if BACKWARD:
            segment = segments - 1 - i
        at = batch * segments + segment
        slot = carries + (at * states + state) * dim + channel
        own = tl.load(slot, mask=mask, other=0.0)
        tl.store(slot, carry, mask=mask)
        total, least, most = load_states(spans + at * 3 * dim + channel, dim, mask, 3)
        carry = through(carry, rate, total, least, most) + own


@run_time(
    INPUTS,
    PLACE,
    "grad_out grad_u grad_delta grad_z checkpoints carries windows sums grad_A grad_fixed_B "
    "grad_fixed_C grad_D grad_bias grad_records saved grad_b grad_c grad_t z_b z_c z_t plane du_b "
    "du_c du_t ddelta_b ddelta_c ddelta_t dz_b dz_c dz_t",
)
def scan_backward(
    grad_out,
    u,
    delta,
    z,
    B,
    C,
    A,
    D,
    bias,
    checkpoints,
    carries,
    windows,
    sums,
    grad_u,
    grad_delta,
    grad_z,
    grad_A,
    grad_fixed_B,
    grad_fixed_C,
    grad_D,
    grad_bias,
    grad_records,
    length,
    width,
    blocks,
    groups,
    segments,
    segment_length,
    states,
    first_state,
    saved,
    plane,
    grad_b,
    grad_c,
    grad_t,
    u_b,
    u_c,
    u_t,
    delta_b,
    delta_c,
    delta_t,
    z_b,
    z_c,
    z_t,
    B_b,
    B_g,
    B_t,
    C_b,
    C_g,
    C_t,
    du_b,
    du_c,
    du_t,
    ddelta_b,
    ddelta_c,
    ddelta_t,
    dz_b,
    dz_c,
    dz_t,
    STATES: tl.constexpr,
    BLOCK: tl.constexpr,
    LANE_STEPS: tl.constexpr,
    EVERY: tl.constexpr,
    WINDOW: tl.constexpr,
    BATCHED: tl.constexpr,
    RECORDS: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    HAS_D: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr,
    FIXED_B: tl.constexpr,
    FIXED_C: tl.constexpr,
    HAS_CARRY: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
):
    """All gradients, from the end of the sequence to its beginning.

    From every checkpoint the states are computed again, window by window: those at the beginning
    of each WINDOW steps go to memory, those within one stay in registers.

    The gradients of B and C are summed over the channels of a block and lie as (blocks, batch,
    groups, length, N, 2); BATCHED steps are summed at a time, which fills the lanes of a warp.
    More states than a thread can hold are taken in turns: all but the LAST leave three sums over
    states in ``sums`` (3, batch, length, dim), all but the FIRST add to what they find there.
    """
    dtype: tl.constexpr = A.dtype.element_ty
    batch, segment, group, block, channel, mask = place(width, blocks, groups, segments, BLOCK)
    lane = tl.arange(0, BLOCK)
    dim = tl.cast(groups * width, tl.int64)
    begin = segment * segment_length
    end = tl.minimum(begin + segment_length, length)

    rates = decay_rates(A, channel, states, first_state, mask, STATES)
    skip = optional_row(D, channel, mask, rates[0], HAS_D)
    shift = optional_row(bias, channel, mask, rates[0], HAS_BIAS)
    fixed_B = fixed_rows(B, channel, states, first_state, mask, STATES, FIXED_B)
    fixed_C = fixed_rows(C, channel, states, first_state, mask, STATES, FIXED_C)

    u_base = u + batch * u_b + channel * u_c
    delta_base = delta + batch * delta_b + channel * delta_c
    z_base = z + batch * z_b + channel * z_c
    grad_base = grad_out + batch * grad_b + channel * grad_c
    B_base = B + batch * B_b + group * B_g + first_state
    C_base = C + batch * C_b + group * C_g + first_state
    du_base = grad_u + batch * du_b + channel * du_c
    ddelta_base = grad_delta + batch * ddelta_b + channel * ddelta_c
    dz_base = grad_z + batch * dz_b + channel * dz_c
    row_base = batch * length * dim + channel
    sequence = batch * groups + group
    sequences = tl.num_programs(0) // (blocks * segments)
    record_base = grad_records + (block * sequences + sequence) * length * (2 * STATES)
    window_base = windows + tl.program_id(0).to(tl.int64) * (EVERY // WINDOW * STATES * BLOCK)

    adjoint = zeros(BLOCK, dtype, STATES)
    if HAS_CARRY:
        taken = ((batch * segments + segment) * states + first_state) * dim + channel
        adjoint = load_states(carries + taken, dim, mask, STATES)
    sum_A = zeros(BLOCK, dtype, STATES)
    sum_B = zeros(BLOCK, dtype, STATES if FIXED_B else 0)
    sum_C = zeros(BLOCK, dtype, STATES if FIXED_C else 0)
    sum_D = tl.zeros([BLOCK], dtype)
    sum_bias = tl.zeros([BLOCK], dtype)

    first_chunk = begin // EVERY
    chunks = tl.cdiv(end - begin, EVERY)
    for i in range(chunks):
        chunk = first_chunk + chunks - 1 - i
        chunk_begin = chunk * EVERY
        in_chunk = tl.cdiv(tl.minimum(chunk_begin + EVERY, end) - chunk_begin, WINDOW)
        save = (batch * saved + chunk - 1) * states + first_state
        saved_h = load_states(checkpoints + save * dim + channel, dim, mask & (chunk > 0), STATES)

        if EVERY > WINDOW:
            h = saved_h
            # The last window is computed below, from its beginning.
            until = chunk_begin + (in_chunk - 1) * WINDOW
            slot = window_base + lane
            for step in range(chunk_begin, until + 1):
                if (step - chunk_begin) % WINDOW == 0:
                    store_states(slot, h, BLOCK, mask)
                    slot += STATES * BLOCK
                t = tl.cast(step, tl.int64)
                u_now = tl.load(u_base + t * u_t, mask=mask, other=0.0).to(dtype)
                raw = tl.load(delta_base + t * delta_t, mask=mask, other=0.0)
                dt = step_size(raw, shift, dtype, SOFTPLUS)
                b = projection(B_base + t * B_t, fixed_B, True, dtype, STATES, FIXED_B)
                h = advanced(h, dt, dt * u_now, rates, b)

        for j in range(in_chunk):
            w = in_chunk - 1 - j
            window_begin = chunk_begin + w * WINDOW
            window_start = window_base + w * STATES * BLOCK + lane
            h = saved_h
            if EVERY > WINDOW:
                h = load_states(window_start, BLOCK, mask, STATES)

            # Forward through the window. A step behind the end has dt = 0 and drives nothing.
            us, dts, slopes, decays = (), (), (), ()
            history = h
            for k in tl.static_range(WINDOW):
                t = tl.cast(window_begin + k, tl.int64)
                valid = t < end
                u_now = tl.load(u_base + t * u_t, mask=mask & valid, other=0.0).to(dtype)
                raw = tl.load(delta_base + t * delta_t, mask=mask & valid, other=0.0)
                dt = raw.to(dtype) + shift
                if SOFTPLUS:
                    dt, slope = softplus_and_slope(dt)
                    slopes = slopes + (slope,)
                dt = tl.where(valid, dt, 0.0)
                b = projection(B_base + t * B_t, fixed_B, valid, dtype, STATES, FIXED_B)
                for n in tl.static_range(STATES):
                    decay = tl.exp2(dt * rates[n])
                    decays = decays + (decay,)
                    history = history + (decay * history[k * STATES + n] + dt * u_now * b[n],)
                us = us + (u_now,)
                dts = dts + (dt,)

            pending = ()
            for k in tl.static_range(WINDOW - 1, -1, -1):
                t = tl.cast(window_begin + k, tl.int64)
                valid = t < end
                here = mask & valid
                u_now = us[k]
                dt = dts[k]
                drive = dt * u_now
                dy = tl.load(grad_base + t * grad_t, mask=here, other=0.0).to(dtype)
                row = row_base + t * dim
                if HAS_Z:
                    gate, gate_slope = silu_and_slope(
                        tl.load(z_base + t * z_t, mask=here, other=0.0).to(dtype)
                    )
                    gate_slope *= dy
                    dy *= gate
                b = projection(B_base + t * B_t, fixed_B, valid, dtype, STATES, FIXED_B)
                c = projection(C_base + t * C_t, fixed_C, valid, dtype, STATES, FIXED_C)

                by_drive = tl.zeros([BLOCK], dtype)
                by_rate = tl.zeros([BLOCK], dtype)
                y = tl.zeros([BLOCK], dtype)
                if FIRST:
                    y = skip * u_now
                else:
                    by_drive = tl.load(sums + row, mask=here, other=0.0)
                    by_rate = tl.load(sums + plane + row, mask=here, other=0.0)
                    if HAS_Z:
                        y = tl.load(sums + 2 * plane + row, mask=here, other=0.0)
                earlier_h = history[k * STATES : (k + 1) * STATES]
                if k == 0 and EVERY > WINDOW:
                    # Read once more: kept all the while, they would spill.
                    earlier_h = load_states(window_start, BLOCK, mask, STATES)
                before, more_A, more_B, more_C, record = (), (), (), (), ()
                for n in tl.static_range(STATES):
                    h_now = history[(k + 1) * STATES + n]
                    g = dy * c[n] + adjoint[n]
                    s = g * decays[k * STATES + n]
                    q = s * earlier_h[n]
                    before = before + (s,)
                    more_A = more_A + (sum_A[n] + q * dt,)
                    by_drive += g * b[n]
                    by_rate += q * rates[n]
                    if HAS_Z:
                        y += h_now * c[n]
                    if FIXED_B:
                        more_B = more_B + (sum_B[n] + g * drive,)
                    if FIXED_C:
                        more_C = more_C + (sum_C[n] + dy * h_now,)
                    if RECORDS:
                        record = record + (share(g * drive, dy * h_now, lane, 1),)
                adjoint, sum_A, sum_B, sum_C = before, more_A, more_B, more_C

                if RECORDS:
                    pending = record + pending
                    if k % BATCHED == 0:
                        totals = sum_lanes(pending, lane, 1, LANE_STEPS)
                        entry = t * (2 * STATES) + lane
                        real = (lane < 2 * STATES * BATCHED) & (entry < end * (2 * STATES))
                        tl.store(record_base + entry, totals, mask=real)
                        pending = ()

                if LAST:
                    by_step = by_drive * u_now + by_rate * LN_2
                    if SOFTPLUS:
                        by_step *= slopes[k]
                    # Only what a lane of a real step and channel holds is summed.
                    sum_D += dy * u_now
                    sum_bias += tl.where(valid, by_step, 0.0)
                    du = by_drive * dt + skip * dy
                    tl.store(du_base + t * du_t, du.to(grad_u.dtype.element_ty), mask=here)
                    ddelta = by_step.to(grad_delta.dtype.element_ty)
                    tl.store(ddelta_base + t * ddelta_t, ddelta, mask=here)
                    if HAS_Z:
                        dz = y * gate_slope
                        tl.store(dz_base + t * dz_t, dz.to(grad_z.dtype.element_ty), mask=here)
                else:
                    tl.store(sums + row, by_drive, mask=here)
                    tl.store(sums + plane + row, by_rate, mask=here)
                    if HAS_Z:
                        tl.store(sums + 2 * plane + row, y, mask=here)

    own = batch * segments + segment
    at = (own * states + first_state) * dim + channel
    store_states(grad_A + at, sum_A, dim, mask)
    store_states(grad_fixed_B + at, sum_B, dim, mask)
    store_states(grad_fixed_C + at, sum_C, dim, mask)
    if LAST:
        if HAS_D:
            tl.store(grad_D + own * dim + channel, sum_D, mask=mask)
        if HAS_BIAS:
            tl.store(grad_bias + own * dim + channel, sum_bias, mask=mask)
