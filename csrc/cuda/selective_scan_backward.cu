// The backward pass, from the last chunk of a segment to the first.
//
// With s the adjoint that arrives from the later step, and a_t the decay of step t,
//
//   g = dy C + s,   s' = g a,   q = s' h_{t-1}
//   dC += dy h   dB += g dt u   dA += q dt   du += g B dt   ddt += g B u + q A
//
// A thread has a few states of one channel: one where there is only one, else four, so that one, two
// or four lanes make a channel of up to 4, 8 or 16 states and a warp has 32, 16 or eight channels (in
// double, two). More than 16 states are gone through 16 at a time. The states of a chunk are
// computed again from its checkpoint: first up to the start of each quarter, then for one quarter
// after the other into registers.
//
// dB and dC are sums over the channels: in the warp by shuffles, over the warps of a block through
// shared memory, over blocks by a kernel of its own (sums.cu), always in the same order.
#include "reduce.h"
#include "scan_blocks.h"

namespace mamba_mm {
namespace {

// kStates states a lane, kLanes lanes a channel, kSub steps whose states are in registers. Only with
// kSeveralRounds may there be more states than these lanes have.
template <int kStates_, int kLanes_, int kSub_, bool kSeveralRounds_>
struct Split {
  static constexpr int kStates = kStates_, kLanes = kLanes_, kSub = kSub_;
  static constexpr bool kSeveralRounds = kSeveralRounds_;
  static constexpr int kChannels = kWarp / kLanes;  // of a warp
  static constexpr int kTogether = kStates * kLanes;  // states of a channel that are in work
  static constexpr int kSubs = kTileSteps / kSub;
  // Values of dB and dC that are summed over the lanes together: of one step, or of four.
  static constexpr int kStepsSummed = kTogether == 1 ? 4 : 1;
  static constexpr int kSums = 2 * kStates * kStepsSummed;
  static constexpr int kSumPitch = kTileSteps + 1;
};
using OneState = Split<1, 1, 8, false>;
using FourStates = Split<4, 1, 8, false>;
using EightStates = Split<4, 2, 8, false>;
using ManyStates = Split<4, 4, 8, true>;
// Double is for checks of gradients: small code counts, not speed.
using InDouble = Split<1, 16, 8, true>;

// Blocks of a processor that registers must suffice for, without spilling: as many as shared
// memory does, or one less.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 1000
constexpr int kBlocksOfOne = 4, kBlocksOfMany = 4;
#elif __CUDA_ARCH__ >= 900
constexpr int kBlocksOfOne = 3, kBlocksOfMany = 4;
#else
constexpr int kBlocksOfOne = 3, kBlocksOfMany = 3;
#endif
// Tiles of 32 channels of four states leave room for three everywhere.
constexpr int kBlocksOfFour = 3;
template <class T, class S>
constexpr int kBackwardBlocks = sizeof(T) == 8          ? 2
                                : S::kTogether == 1     ? kBlocksOfOne
                                : S::kChannels == kWarp ? kBlocksOfFour
                                                        : kBlocksOfMany;

template <class T, class S>
struct BackwardTiles {
  using Tile = TileShape<S::kChannels>;
  // Of each warp: inputs of the chunk, which the gradients replace; what dB is summed from.
  SharedArray<T> u, delta, dy, by_u, by_delta, y, sums;
  SharedArray<T> B, C;
  // Of each thread: states at the starts of the parts of a chunk; adjoint and sums over time.
  SharedArray<T> starts, adjoint, dA, fixed_dB, fixed_dC;

  template <class Memory>
  __host__ __device__ BackwardTiles(Memory& memory, const Problem& in, int warps)
      : BackwardTiles(memory, in, warps, static_cast<int>((in.states + S::kTogether - 1) / S::kTogether)) {}

 private:
  template <class Memory>
  __host__ __device__ BackwardTiles(Memory& memory, const Problem& in, int warps, int rounds)
      : u(memory.template take<T>(warps * Tile::kSize)),
        delta(memory.template take<T>(warps * Tile::kSize)),
        dy(memory.template take<T>(warps * Tile::kSize)),
        by_u(memory.template take<T>(rounds != 1 ? warps * Tile::kSize : 0)),
        by_delta(memory.template take<T>(rounds != 1 ? warps * Tile::kSize : 0)),
        y(memory.template take<T>(rounds != 1 && in.z.data != nullptr ? warps * Tile::kSize : 0)),
        sums(memory.template take<T>(warps * 2 * S::kTogether * S::kSumPitch)),
        B(memory.template take<T>(ProjectionShape<S::kTogether>::kSize)),
        C(memory.template take<T>(ProjectionShape<S::kTogether>::kSize)),
        starts(memory.template take<T>(S::kSubs * S::kStates * warps * kWarp)),
        adjoint(memory.template take<T>(rounds * S::kStates * warps * kWarp)),
        dA(memory.template take<T>(rounds * S::kStates * warps * kWarp)),
        fixed_dB(memory.template take<T>(in.B.varies ? 0 : rounds * S::kStates * warps * kWarp)),
        fixed_dC(memory.template take<T>(in.C.varies ? 0 : rounds * S::kStates * warps * kWarp)) {}
};

// The adjoint at the first step of a segment into which none comes, and what its steps are.
// It needs no states. Four states at a time go through a chunk, or the only one.
template <class T, int kStates>
struct AdjointTiles {
  using Tile = TileShape<kWarp>;
  SharedArray<T> delta, dy, C, adjoint;

  template <class Memory>
  __host__ __device__ AdjointTiles(Memory& memory, int warps, int64_t states)
      : delta(memory.template take<T>(warps * Tile::kSize)),
        dy(memory.template take<T>(warps * Tile::kSize)),
        C(memory.template take<T>(ProjectionShape<kStates>::kSize)),
        adjoint(memory.template take<T>(states * warps * kWarp)) {}
};

// Load the gradient of the outputs, and take it through the gate: dy = grad_out SiLU(z).
template <int kChannels, class T>
__device__ __forceinline__ void load_dy(const Backward& call, const TilePlace& place, SharedArray<T> dy,
                                        SharedArray<T> spare) {
  load_tile<kChannels>(call.grad_out, place, dy);
  if (call.in.z.data == nullptr) return;
  load_tile<kChannels>(call.in.z, place, spare);
  __syncwarp();
  TileShape<kChannels>::along(false, [&](int t, int c) {
    const int i = t * TileShape<kChannels>::kPitch + c;
    dy[i] *= silu(spare[i]);
  });
  __syncwarp();
}

template <class T, int kStates>
__global__ void __launch_bounds__(128, sizeof(T) == 8 ? 2 : 6) scan_adjoint(BackwardPass pass) {
  using Tile = TileShape<kWarp>;
  const Backward& call = pass.call;
  const Problem& in = call.in;
  const int states = static_cast<int>(in.states);
  SharedMemory memory;
  const AdjointTiles<T, kStates> tiles(memory, blockDim.x / kWarp, states);
  const SharedArray<T> delta = tiles.delta.from(warp() * Tile::kSize), dy = tiles.dy.from(warp() * Tile::kSize);
  const ScanBlock place(in, pass.segments, blockDim.x, 1);
  const WarpChannels channels(in, place, blockDim.x, kWarp);
  const bool present = lane() < channels.count;
  const int64_t channel = present ? channels.first + lane() : 0, row = channel * states;

  for (int n = 0; n < states; ++n) tiles.adjoint[n * blockDim.x + threadIdx.x] = 0;
  const T bias = load_parameter<T>(in.bias, channel, present);
  StepSpan<T> span;
  for (int64_t t0 = (place.end - 1) / kTileSteps * kTileSteps; t0 >= place.begin; t0 -= kTileSteps) {
    const int steps = static_cast<int>(place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps);
    const TilePlace here{place.batch, channels.first, t0, channels.count, steps};
    __syncwarp();
    load_dy<kWarp>(call, here, dy, delta);
    load_tile<kWarp>(in.delta, here, delta);
    __syncwarp();
    for (int t = 0; t < steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      const T dt = step_size(delta[i], bias, in.softplus);
      delta[i] = dt;
      span.add(dt);
    }
    for (int n = 0; n < states; n += kStates) {
      const int valid = states - n < kStates ? states - n : kStates;
      __syncthreads();
      if (in.C.varies) load_projection<kStates>(in.C, place.batch, place.group, n, valid, t0, steps, tiles.C);
      __syncthreads();
      T rate[kStates], s[kStates], c[kStates];
#pragma unroll
      for (int i = 0; i < kStates; ++i) {
        rate[i] = load_parameter<T>(in.A, row + n + i, present && i < valid) * T(kLog2E);
        s[i] = i < valid ? tiles.adjoint[(n + i) * blockDim.x + threadIdx.x] : T(0);
        c[i] = load_parameter<T>(in.fixed_C, row + n + i, present && i < valid);
      }
#pragma unroll 2
      for (int t = steps - 1; t >= 0; --t) {
        const int i = t * Tile::kPitch + lane();
        if (in.C.varies) read_projection<kStates>(tiles.C, t, 0, c);
#pragma unroll
        for (int j = 0; j < kStates; ++j)
          s[j] = j < valid ? (dy[i] * c[j] + s[j]) * power_of_two(delta[i] * rate[j]) : T(0);
      }
#pragma unroll
      for (int i = 0; i < kStates; ++i)
        if (i < valid) tiles.adjoint[(n + i) * blockDim.x + threadIdx.x] = s[i];
    }
  }
  if (!present) return;
  span.store(static_cast<T*>(pass.spans) + span_at(in, place, channel), in.dim);
  for (int n = 0; n < states; ++n)
    static_cast<T*>(pass.ends)[carry_at(in, place, channel, n)] = tiles.adjoint[n * blockDim.x + threadIdx.x];
}

// One thread's work on 32 steps of some states of a channel.
template <class T, class S>
struct BackwardStates {
  static constexpr int kStates = S::kStates;
  using Tile = TileShape<S::kChannels>;

  const Backward& call;
  const Problem& in;
  const BackwardTiles<T, S>& tiles;
  const SharedArray<T> u, delta, dy, by_u, by_delta, y, sums;
  const bool present;
  const int in_warp, part;  // the channel, and which of its states
  const T skip;
  T sum_D = 0, sum_bias = 0;

  __device__ __forceinline__ BackwardStates(const Backward& call, const BackwardTiles<T, S>& tiles, bool present,
                                            T skip)
      : call(call),
        in(call.in),
        tiles(tiles),
        u(tiles.u.from(warp() * Tile::kSize)),
        delta(tiles.delta.from(warp() * Tile::kSize)),
        dy(tiles.dy.from(warp() * Tile::kSize)),
        by_u(several_rounds() ? tiles.by_u.from(warp() * Tile::kSize) : tiles.by_u),
        by_delta(several_rounds() ? tiles.by_delta.from(warp() * Tile::kSize) : tiles.by_delta),
        y(several_rounds() && gated() ? tiles.y.from(warp() * Tile::kSize) : tiles.y),
        sums(tiles.sums.from(warp() * 2 * S::kTogether * S::kSumPitch)),
        present(present),
        in_warp(lane() / S::kLanes),
        part(lane() % S::kLanes),
        skip(skip) {}

  __device__ __forceinline__ bool several_rounds() const { return S::kSeveralRounds && in.states > S::kTogether; }
  __device__ __forceinline__ bool gated() const { return in.z.data != nullptr; }
  __device__ __forceinline__ int at(int t) const { return t * Tile::kPitch + in_warp; }
  // Where this thread keeps the state i of a round.
  __device__ __forceinline__ int kept(int round, int i) const {
    return (round * kStates + i) * blockDim.x + threadIdx.x;
  }

  // Steps of a chunk, for the states from n0 on. `checkpoint` is the state n0 before the chunk, or
  // null for zeros; `row` the channel's states in arrays of all channels.
  __device__ __forceinline__ void run(int round, int n0, const T* checkpoint, int64_t row, int steps) {
    const int n = n0 + part * kStates;
    T rate[kStates], b[kStates], c[kStates], h[kStates], s[kStates], dA[kStates];
    bool valid[kStates];
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      // States beyond the last take part with zeros, which an infinite input must not touch.
      valid[i] = S::kTogether == 1 || n + i < in.states;
      const bool loaded = present && valid[i];
      rate[i] = load_parameter<T>(in.A, row + n + i, loaded) * T(kLog2E);
      b[i] = load_parameter<T>(in.fixed_B, row + n + i, loaded);
      c[i] = load_parameter<T>(in.fixed_C, row + n + i, loaded);
      h[i] = load_parameter<T>(checkpoint, (part * kStates + i) * kCheckpointLanes, loaded);
      s[i] = tiles.adjoint[kept(round, i)];
      dA[i] = tiles.dA[kept(round, i)];
    }

    for (int sub = 0; sub < S::kSubs; ++sub) {
#pragma unroll
      for (int i = 0; i < kStates; ++i) tiles.starts[kept(sub, i)] = h[i];
      if ((sub + 1) * S::kSub >= steps) break;
#pragma unroll 2
      for (int t = sub * S::kSub; t < (sub + 1) * S::kSub; ++t) advance(t, rate, b, valid, h);
    }
    for (int sub = (steps - 1) / S::kSub; sub >= 0; --sub) {
      const int t0 = sub * S::kSub;
      T history[S::kSub + 1][kStates];
#pragma unroll
      for (int i = 0; i < kStates; ++i) history[0][i] = h[i] = tiles.starts[kept(sub, i)];
#pragma unroll
      for (int k = 0; k < S::kSub; ++k) {
        if (t0 + k < steps) advance(t0 + k, rate, b, valid, h);
#pragma unroll
        for (int i = 0; i < kStates; ++i) history[k + 1][i] = h[i];
      }
      T values[S::kSums];
#pragma unroll
      for (int k = S::kSub - 1; k >= 0; --k) {
        const int t = t0 + k, j = k % S::kStepsSummed;
        const bool exists = t < steps;
        if (S::kStepsSummed == 1 && !exists) continue;
#pragma unroll
        for (int i = 0; i < 2 * kStates; ++i) values[j * 2 * kStates + i] = 0;
        if (exists) reverse(round, t, rate, b, c, valid, history[k], history[k + 1], s, dA, values + j * 2 * kStates);
        if (j == 0 && t < steps) sum_over_channels(t, values);
      }
    }
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      tiles.adjoint[kept(round, i)] = s[i];
      tiles.dA[kept(round, i)] = dA[i];
    }
  }

  __device__ __forceinline__ void advance(int t, const T (&rate)[kStates], T (&b)[kStates], const bool (&valid)[kStates],
                                          T (&h)[kStates]) const {
    const T dt = delta[at(t)], driven = dt * u[at(t)];
    if (in.B.varies) read_projection<S::kTogether>(tiles.B, t, part * kStates, b);
#pragma unroll
    for (int i = 0; i < kStates; ++i)
      h[i] = valid[i] ? power_of_two(dt * rate[i]) * h[i] + driven * b[i] : T(0);
  }

  // One step backwards: states before and after it, adjoint in and out.
  __device__ __forceinline__ void reverse(int round, int t, const T (&rate)[kStates], T (&b)[kStates], T (&c)[kStates],
                                          const bool (&valid)[kStates], const T (&before)[kStates],
                                          const T (&after)[kStates], T (&s)[kStates], T (&dA)[kStates], T* values) {
    const T dt = delta[at(t)], x = u[at(t)], grad = dy[at(t)], driven = dt * x;
    if (in.B.varies) read_projection<S::kTogether>(tiles.B, t, part * kStates, b);
    if (in.C.varies) read_projection<S::kTogether>(tiles.C, t, part * kStates, c);
    T gB = 0, qA = 0, out = 0;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const T g = valid[i] ? grad * c[i] + s[i] : T(0);
      const T dB = present ? g * driven : T(0), dC = present ? grad * after[i] : T(0);
      s[i] = valid[i] ? g * power_of_two(dt * rate[i]) : T(0);  // an infinite step would make it NaN
      const T q = s[i] * before[i];
      dA[i] += q * dt;
      gB += g * b[i];
      qA += q * rate[i];
      out += c[i] * after[i];
      values[2 * i] = dB;
      values[2 * i + 1] = dC;
      if (!in.B.varies) tiles.fixed_dB[kept(round, i)] += dB;
      if (!in.C.varies) tiles.fixed_dC[kept(round, i)] += dC;
    }
    gB = lane_sum<1, S::kLanes>(gB);
    qA = lane_sum<1, S::kLanes>(qA);
    if (gated()) out = lane_sum<1, S::kLanes>(out);
    // The other lanes of the channel must have read what is now replaced.
    if (S::kLanes > 1) __syncwarp();
    if (part == 0) finish_step(round, t, dt, x, grad, gB, qA, out);
  }

  // The gradients of a step take the place of its inputs, once all states have been through.
  __device__ __forceinline__ void finish_step(int round, int t, T dt, T x, T grad, T gB, T qA, T out) {
    if (several_rounds()) {
      if (round > 0) {
        gB += by_u[at(t)];
        qA += by_delta[at(t)];
        if (gated()) out += y[at(t)];
      }
      if ((round + 1) * S::kTogether < in.states) {
        by_u[at(t)] = gB;
        by_delta[at(t)] = qA;
        if (gated()) y[at(t)] = out;
        return;
      }
    }
    T d_delta = x * gB + T(kLn2) * qA, du = dt * gB;
    if (in.softplus) d_delta *= softplus_slope(dt);
    if (in.D != nullptr) {
      du += skip * grad;
      out += skip * x;
      sum_D += grad * x;
    }
    sum_bias += d_delta;
    u[at(t)] = du;
    delta[at(t)] = d_delta;
    dy[at(t)] = out;
  }

  // dB and dC of the steps from t on, summed over the channels of the warp, for the block's sum.
  __device__ __forceinline__ void sum_over_channels(int t, T (&values)[S::kSums]) const {
    if (!in.B.varies && !in.C.varies) return;
    const T sum = lane_sums<S::kLanes>(values);
    if (lane() / S::kLanes >= S::kSums) return;  // lanes with copies
    const int index = lane_sums_index<S::kSums, S::kLanes>();
    const int step = index / (2 * kStates), i = index / 2 % kStates, which = index % 2;
    sums[(which * S::kTogether + part * kStates + i) * S::kSumPitch + t + step] = sum;
  }
};

// The warps' sums of dB (which = 0) or dC (1), added up in order and written down.
template <class T, class S>
__device__ __forceinline__ void store_projection_sums(const Problem& in, const ScanBlock& place, SharedArray<T> sums,
                                                      int which, int n0, int64_t t0, int steps, void* to) {
  T* const first = static_cast<T*>(to) +
                   (((place.block * in.batch + place.batch) * in.groups + place.group) * in.states + n0) * in.length + t0;
  for (int i = threadIdx.x; i < S::kTogether * kTileSteps; i += blockDim.x) {
    const int n = i / kTileSteps, t = i % kTileSteps;
    if (t >= steps || n0 + n >= in.states) continue;
    const int at = (which * S::kTogether + n) * S::kSumPitch + t;
    T sum = sums[at];
    for (int w = 1; w < static_cast<int>(blockDim.x) / kWarp; ++w)
      sum += sums[w * 2 * S::kTogether * S::kSumPitch + at];
    first[n * in.length + t] = sum;
  }
}

template <class T, class S>
__global__ void __launch_bounds__(128, (kBackwardBlocks<T, S>)) scan_backward(BackwardPass pass) {
  using Tile = TileShape<S::kChannels>;
  constexpr int kStates = S::kStates;
  const Backward& call = pass.call;
  const Problem& in = call.in;
  const int warps = blockDim.x / kWarp;
  SharedMemory memory;
  const BackwardTiles<T, S> tiles(memory, in, warps);
  const ScanBlock place(in, pass.segments, warps * S::kChannels, 0);
  const WarpChannels channels(in, place, warps * S::kChannels, S::kChannels);
  const int in_warp = lane() / S::kLanes, part = lane() % S::kLanes;
  const bool present = in_warp < channels.count;
  const int64_t channel = present ? channels.first + in_warp : 0, row = channel * in.states;
  BackwardStates<T, S> work(call, tiles, present, load_parameter<T>(in.D, channel, present));
  const int rounds = static_cast<int>((in.states + S::kTogether - 1) / S::kTogether);
  const T bias = load_parameter<T>(in.bias, channel, present);

  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const int n = round * S::kTogether + part * kStates + i;
      const bool loaded = present && n < in.states;
      tiles.adjoint[work.kept(round, i)] =
          pass.segments.count > 1
              ? load_parameter<T>(pass.ends, carry_at(in, place, channel, n), loaded)
              : load_parameter<T>(call.grad_last_state, place.batch * in.dim * in.states + row + n, loaded);
      tiles.dA[work.kept(round, i)] = 0;
      if (!in.B.varies) tiles.fixed_dB[work.kept(round, i)] = 0;
      if (!in.C.varies) tiles.fixed_dC[work.kept(round, i)] = 0;
    }

  for (int64_t t0 = (place.end - 1) / kTileSteps * kTileSteps; t0 >= place.begin; t0 -= kTileSteps) {
    const int steps = static_cast<int>(place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps);
    const TilePlace here{place.batch, channels.first, t0, channels.count, steps};
    const T* const checkpoint =
        t0 == 0 ? nullptr
                : static_cast<const T*>(call.checkpoints) +
                      in.checkpoint_at(place.batch, place.group, present ? channels.offset + in_warp : 0,
                                       t0 / kTileSteps - 1, 0);
    __syncwarp();
    load_dy<S::kChannels>(call, here, work.dy, work.u);
    load_tile<S::kChannels>(in.u, here, work.u);
    load_tile<S::kChannels>(in.delta, here, work.delta);
    __syncwarp();
    for (int t = part; t < steps; t += S::kLanes)
      work.delta[work.at(t)] = step_size(work.delta[work.at(t)], bias, in.softplus);
    __syncwarp();
    if (rounds == 0 && part == 0)
      for (int t = 0; t < steps; ++t)
        work.finish_step(0, t, work.delta[work.at(t)], work.u[work.at(t)], work.dy[work.at(t)], 0, 0, 0);
    for (int round = 0; round < rounds; ++round) {
      const int n0 = round * S::kTogether;
      const int left = static_cast<int>(in.states) - n0, states = left < S::kTogether ? left : S::kTogether;
      __syncthreads();
      if (in.B.varies)
        load_projection<S::kTogether>(in.B, place.batch, place.group, n0, states, t0, steps, tiles.B);
      if (in.C.varies)
        load_projection<S::kTogether>(in.C, place.batch, place.group, n0, states, t0, steps, tiles.C);
      __syncthreads();
      work.run(round, n0, checkpoint == nullptr ? nullptr : checkpoint + n0 * kCheckpointLanes, row, steps);
      __syncthreads();
      if (in.B.varies) store_projection_sums<T, S>(in, place, tiles.sums, 0, n0, t0, steps, call.grad_B);
      if (in.C.varies) store_projection_sums<T, S>(in, place, tiles.sums, 1, n0, t0, steps, call.grad_C);
    }
    __syncwarp();
    store_tile<S::kChannels>(call.grad_u, here, work.u);
    store_tile<S::kChannels>(call.grad_delta, here, work.delta);
    if (work.gated()) {
      // out = y SiLU(z), and y is where dy was.
      __syncwarp();
      load_tile<S::kChannels>(call.grad_out, here, work.u);
      load_tile<S::kChannels>(in.z, here, work.delta);
      __syncwarp();
      Tile::along(false, [&](int t, int c) {
        const int i = t * Tile::kPitch + c;
        if (t < steps) work.dy[i] *= work.u[i] * silu_slope(work.delta[i]);
      });
      __syncwarp();
      store_tile<S::kChannels>(call.grad_z, here, work.dy);
    }
  }

  if (!present) return;
  const int64_t item = place.segment * in.batch + place.batch;
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const int n = round * S::kTogether + part * kStates + i;
      if (n >= in.states) continue;
      const int64_t at = item * in.dim * in.states + row + n;
      static_cast<T*>(call.grad_A)[at] = tiles.dA[work.kept(round, i)];
      if (!in.B.varies) static_cast<T*>(call.grad_fixed_B)[at] = tiles.fixed_dB[work.kept(round, i)];
      if (!in.C.varies) static_cast<T*>(call.grad_fixed_C)[at] = tiles.fixed_dC[work.kept(round, i)];
    }
  if (part != 0) return;
  if (in.D != nullptr) static_cast<T*>(call.grad_D)[item * in.dim + channel] = work.sum_D;
  if (in.bias != nullptr) static_cast<T*>(call.grad_bias)[item * in.dim + channel] = work.sum_bias;
}

// Warps of a backward block: as many channels as share B and C, and sum dB and dC in shared
// memory, but fewer where they have many states to keep.
template <class S>
int warps_of(const Problem& in, bool is_double) {
  const int64_t rounds = divide_up(in.states, S::kTogether);
  const int64_t most = rounds <= 2 ? 4 : rounds <= 8 ? 2 : 1;
  const int64_t needed = divide_up(in.channels_per_group(), S::kChannels);
  const int64_t fitting = is_double && most > 1 ? most / 2 : most;
  const int64_t warps = needed < fitting ? needed : fitting;
  return fitting_warps(warps, [&](SharedSize& size, int warps) {
    if (is_double)
      BackwardTiles<double, S>(size, in, warps);
    else
      BackwardTiles<float, S>(size, in, warps);
  });
}

template <class T, int kStates>
void run_adjoint(const BackwardPass& pass, Stream stream) {
  const Problem& in = pass.call.in;
  const int64_t needed = divide_up(in.channels_per_group(), kWarp);
  int64_t warps = needed < 4 ? needed : 4;
  while (warps > 1 && warps * kWarp * in.states * static_cast<int64_t>(sizeof(T)) > 32 * 1024) warps /= 2;
  const auto lay_out = [&](SharedSize& size, int warps) { AdjointTiles<T, kStates>(size, warps, in.states); };
  warps = fitting_warps(warps, lay_out);
  SharedSize size;
  lay_out(size, static_cast<int>(warps));
  // Nothing follows the first segment.
  launch(scan_adjoint<T, kStates>, ScanBlock::grid(in, pass.segments.count - 1, warps * kWarp),
         dim3(static_cast<unsigned>(warps * kWarp)), size.bytes(), stream, pass);
}

// Calls with the type of the computation and the split that the states get.
template <class Call>
auto with_split(int64_t states, bool is_double, const Call& call) {
  if (is_double) return call(double(), InDouble());
  if (states == 1) return call(float(), OneState());
  if (states <= FourStates::kTogether) return call(float(), FourStates());
  if (states <= EightStates::kTogether) return call(float(), EightStates());
  return call(float(), ManyStates());
}

template <class T, class S>
void run(const BackwardPass& pass, Stream stream) {
  const Problem& in = pass.call.in;
  const bool is_double = sizeof(T) == 8;
  if (pass.segments.count > 1) {
    run_adjoint<T, S::kStates>(pass, stream);
    SegmentCarry carry{pass.segments.count, in.batch, 1, in.dim, in.states, in.A, pass.ends, pass.spans,
                       pass.call.grad_last_state, true};
    carry_over_segments(carry, is_double, stream);
  }
  const int warps = warps_of<S>(in, is_double);
  SharedSize size;
  BackwardTiles<T, S>(size, in, warps);
  launch(scan_backward<T, S>, ScanBlock::grid(in, pass.segments.count, warps * S::kChannels),
         dim3(static_cast<unsigned>(warps * kWarp)), size.bytes(), stream, pass);
}

}  // namespace

int64_t backward_block(const Problem& in, bool is_double) {
  return with_split(in.states, is_double,
                    [&](auto, auto split) { return warps_of<decltype(split)>(in, is_double) * split.kChannels; });
}

void run_backward(const BackwardPass& pass, bool is_double, Stream stream) {
  with_split(pass.call.in.states, is_double,
             [&](auto number, auto split) { run<decltype(number), decltype(split)>(pass, stream); });
}

}  // namespace mamba_mm
