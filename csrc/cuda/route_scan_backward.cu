// The backward pass along one sequence, from the last chunk of a segment to the first.
//
// The steps are those of selective_scan_backward.cu: a thread has a few states of one channel, one
// where there is only one, else four, so that one, two or four lanes make a channel of up to 4, 8 or
// 16 states. More are gone through 16 at a time. The states of a chunk are computed again from its
// checkpoint: first up to the start of each quarter, then for one quarter after the other into
// registers.
//
// Sums over the channels (of B, C and the low-rank inputs of delta) are taken in the warp by
// shuffles, over the warps of a block through shared memory, over blocks by a kernel of its own
// (sums.cu), always in the same order.
#include "reduce.h"
#include "route_scan_blocks.h"

namespace mamba_mm {
namespace {

// kStates states a lane, kLanes lanes a channel, kSub steps whose states are in registers; of the
// projection of delta, kRanks ranks a lane.
template <int kStates_, int kLanes_, int kSub_, int kRanks_, bool kSeveralRounds_>
struct RouteSplit {
  static constexpr int kStates = kStates_, kLanes = kLanes_, kSub = kSub_, kRanks = kRanks_;
  static constexpr bool kSeveralRounds = kSeveralRounds_;
  static constexpr int kChannels = kWarp / kLanes;    // of a warp
  static constexpr int kTogether = kStates * kLanes;  // states of a channel that are in work
  static constexpr int kRanksTogether = kRanks * kLanes;
  static constexpr int kSubs = kTileSteps / kSub;
  // Values that are summed over the channels together: of B and C of so many steps, and of the
  // low-rank inputs.
  static constexpr int kStepsSummed = kTogether == 1 ? 4 : 1;
  static constexpr int kSums = 2 * kStates * kStepsSummed;
  static constexpr int kRankSteps = 2;
  static constexpr int kSumPitch = kTileSteps + 1;
};
using OneState = RouteSplit<1, 1, 8, 4, false>;
using FourStates = RouteSplit<4, 1, 8, 4, false>;
using EightStates = RouteSplit<4, 2, 8, 4, false>;
using ManyStates = RouteSplit<4, 4, 8, 4, true>;
// Double is for checks of gradients: small code counts, not speed.
using InDouble = RouteSplit<1, 1, 8, 4, true>;

// Blocks of a processor that registers must suffice for: as many as shared memory does.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBackwardBlocks = 3;
#else
constexpr int kBackwardBlocks = 4;
#endif

// With up to so many entries a record's sums are written down together.
constexpr int64_t kMostRows = 16;

__host__ __device__ constexpr bool whole_records(const RoutePass& pass) {
  return pass.entries() <= kMostRows;
}

// Rows of 32 sums that a warp holds: all entries of a record, or of what is in work.
template <class S>
__host__ __device__ constexpr int rows_of_sums(const RoutePass& pass) {
  if (whole_records(pass)) return static_cast<int>(pass.entries());
  return 2 * S::kTogether > S::kRanksTogether ? 2 * S::kTogether : S::kRanksTogether;
}

template <class T, class S>
struct BackwardTiles {
  using Tile = TileShape<S::kChannels>;
  Positions positions;
  LowRank<T> low;
  // Of each warp: inputs of the chunk, of which the gradients replace x and dt; the sums.
  SharedArray<T> x, dt, dy, by_x, by_dt, sums;
  SharedArray<T> B, C;
  // Of each thread: states at the starts of the parts of a chunk; adjoint and sum over time.
  SharedArray<T> starts, adjoint, dA;

  template <class Memory>
  __host__ __device__ BackwardTiles(Memory& memory, const RoutePass& pass, int warps)
      : BackwardTiles(memory, pass, warps, static_cast<int>((pass.states + S::kTogether - 1) / S::kTogether)) {}

 private:
  template <class Memory>
  __host__ __device__ BackwardTiles(Memory& memory, const RoutePass& pass, int warps, int rounds)
      : positions(memory, warps),
        low(memory, pass),
        x(memory.template take<T>(warps * Tile::kSize)),
        dt(memory.template take<T>(warps * Tile::kSize)),
        dy(memory.template take<T>(warps * Tile::kSize)),
        by_x(memory.template take<T>(S::kSeveralRounds && rounds > 1 ? warps * Tile::kSize : 0)),
        by_dt(memory.template take<T>(S::kSeveralRounds && rounds > 1 ? warps * Tile::kSize : 0)),
        sums(memory.template take<T>(warps * rows_of_sums<S>(pass) * S::kSumPitch)),
        B(memory.template take<T>(ProjectionShape<S::kTogether>::kSize)),
        C(memory.template take<T>(ProjectionShape<S::kTogether>::kSize)),
        starts(memory.template take<T>(S::kSubs * S::kStates * warps * kWarp)),
        adjoint(memory.template take<T>(rounds * S::kStates * warps * kWarp)),
        dA(memory.template take<T>(rounds * S::kStates * warps * kWarp)) {}
};

// One thread's work on 32 steps of a channel.
template <class T, class S>
struct RouteBackwardWork {
  static constexpr int kStates = S::kStates;
  using Tile = TileShape<S::kChannels>;

  const RoutePass& pass;
  const RouteBlock& place;
  const BackwardTiles<T, S>& tiles;
  const Positions& positions;
  const SharedArray<T> x, dt, dy, by_x, by_dt, sums;
  const int in_warp, part;  // the channel, and which of its states
  const bool present;
  const int channel;
  const T skip;
  T sum_D = 0, sum_bias = 0;

  __device__ __forceinline__ RouteBackwardWork(const RoutePass& pass, const RouteBlock& place,
                                               const BackwardTiles<T, S>& tiles, const Positions& positions,
                                               const RouteChannels& channels)
      : pass(pass),
        place(place),
        tiles(tiles),
        positions(positions),
        x(tiles.x.from(warp() * Tile::kSize)),
        dt(tiles.dt.from(warp() * Tile::kSize)),
        dy(tiles.dy.from(warp() * Tile::kSize)),
        by_x(several_rounds() ? tiles.by_x.from(warp() * Tile::kSize) : tiles.by_x),
        by_dt(several_rounds() ? tiles.by_dt.from(warp() * Tile::kSize) : tiles.by_dt),
        sums(tiles.sums.from(warp() * rows_of_sums<S>(pass) * S::kSumPitch)),
        in_warp(lane() / S::kLanes),
        part(lane() % S::kLanes),
        present(in_warp < channels.count),
        channel(present ? channels.first + in_warp : 0),
        skip(load_parameter<T>(pass.D, row(), present)) {}

  // Of D and of bias; of A without the states.
  __device__ __forceinline__ int64_t row() const { return place.sequence * pass.dim + channel; }

  __device__ __forceinline__ bool several_rounds() const { return S::kSeveralRounds && pass.states > S::kTogether; }
  __device__ __forceinline__ int at(int t) const { return t * Tile::kPitch + in_warp; }
  // Where this thread keeps the state i of a round.
  __device__ __forceinline__ int kept(int round, int i) const {
    return (round * kStates + i) * blockDim.x + threadIdx.x;
  }

  // Steps of a chunk, for the states from n0 on. `checkpoint` is the state n0 before the chunk, or
  // null for zeros; row_B and row_C say where sums go.
  __device__ __forceinline__ void run_states(int round, int n0, const T* checkpoint, int steps, int row_B, int row_C) {
    const int n = n0 + part * kStates;
    T rate[kStates], h[kStates], s[kStates], dA[kStates];
    // States beyond the last take part with zeros, which an infinite input must not touch.
    const int valid = S::kTogether == 1 ? 1 : static_cast<int>(pass.states) - n;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const bool loaded = present && i < valid;
      rate[i] = load_parameter<T>(pass.A, row() * pass.states + n + i, loaded) * T(kLog2E);
      h[i] = load_parameter<T>(checkpoint, (part * kStates + i) * kCheckpointLanes, loaded);
      s[i] = tiles.adjoint[kept(round, i)];
      dA[i] = tiles.dA[kept(round, i)];
    }
    for (int sub = 0; sub < S::kSubs; ++sub) {
#pragma unroll
      for (int i = 0; i < kStates; ++i) tiles.starts[kept(sub, i)] = h[i];
      if ((sub + 1) * S::kSub >= steps) break;
#pragma unroll 4
      for (int t = sub * S::kSub; t < (sub + 1) * S::kSub; ++t) advance(t, rate, valid, h);
    }
    for (int sub = (steps - 1) / S::kSub; sub >= 0; --sub) {
      const int t0 = sub * S::kSub;
      T history[S::kSub + 1][kStates];
#pragma unroll
      for (int i = 0; i < kStates; ++i) history[0][i] = h[i] = tiles.starts[kept(sub, i)];
#pragma unroll
      for (int k = 0; k < S::kSub; ++k) {
        if (t0 + k < steps) advance(t0 + k, rate, valid, h);
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
        if (exists) reverse(round, t, rate, valid, history[k], history[k + 1], s, dA, values + j * 2 * kStates);
        if (j == 0) sum_states(t, values, row_B, row_C);
      }
    }
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      tiles.adjoint[kept(round, i)] = s[i];
      tiles.dA[kept(round, i)] = dA[i];
    }
  }

  // Without states a step is finished at once.
  __device__ __forceinline__ void run_without_states(int steps) {
    if (part == 0)
      for (int t = 0; t < steps; ++t) finish_step(0, t, dt[at(t)], x[at(t)], dy[at(t)], 0, 0);
  }

  // The gradients of W, and of the low-rank inputs from rank r0 on, of which `ranks` are staged.
  // `section` is called after every sum with its first rank and their number.
  template <class Section>
  __device__ __forceinline__ void run_ranks(int r0, int ranks, int steps, bool in_place, const Section& section) {
    for (int r = 0; r < ranks; r += S::kRanksTogether) {
      run_some_ranks(r0, r, steps, (in_place ? r0 + r : 0) + part * S::kRanks);
      section(r0 + r, ranks - r < S::kRanksTogether ? ranks - r : S::kRanksTogether);
    }
  }

 private:
  __device__ __forceinline__ void advance(int t, const T (&rate)[kStates], int valid, T (&h)[kStates]) const {
    const T step = dt[at(t)], driven = step * x[at(t)];
    T b[kStates];
    read_projection<S::kTogether>(tiles.B, t, part * kStates, b);
#pragma unroll
    for (int i = 0; i < kStates; ++i)
      h[i] = i < valid ? power_of_two(step * rate[i]) * h[i] + driven * b[i] : T(0);
  }

  // One step backwards: states before and after it, adjoint in and out.
  __device__ __forceinline__ void reverse(int round, int t, const T (&rate)[kStates], int valid,
                                          const T (&before)[kStates], const T (&after)[kStates], T (&s)[kStates],
                                          T (&dA)[kStates], T* values) {
    const T step = dt[at(t)], u = x[at(t)], grad = dy[at(t)], driven = step * u;
    T b[kStates], c[kStates];
    read_projection<S::kTogether>(tiles.B, t, part * kStates, b);
    read_projection<S::kTogether>(tiles.C, t, part * kStates, c);
    T gB = 0, qA = 0;
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const T g = i < valid ? grad * c[i] + s[i] : T(0);
      values[2 * i] = present ? g * driven : T(0);
      values[2 * i + 1] = present ? grad * after[i] : T(0);
      s[i] = i < valid ? g * power_of_two(step * rate[i]) : T(0);  // an infinite step would make it NaN
      const T q = s[i] * before[i];
      dA[i] += q * step;
      gB += g * b[i];
      qA += q * rate[i];
    }
    gB = lane_sum<1, S::kLanes>(gB);
    qA = lane_sum<1, S::kLanes>(qA);
    // The other lanes of the channel must have read what is now replaced.
    if (S::kLanes > 1) __syncwarp();
    if (part == 0) finish_step(round, t, step, u, grad, gB, qA);
  }

  // The gradients of a step take the place of its inputs, once all states have been through.
  __device__ __forceinline__ void finish_step(int round, int t, T step, T u, T grad, T gB, T qA) {
    if (several_rounds()) {
      if (round > 0) {
        gB += by_x[at(t)];
        qA += by_dt[at(t)];
      }
      if ((round + 1) * S::kTogether < pass.states) {
        by_x[at(t)] = gB;
        by_dt[at(t)] = qA;
        return;
      }
    }
    T d_delta = u * gB + T(kLn2) * qA, du = step * gB;
    if (pass.softplus) d_delta *= softplus_slope(step);
    if (pass.D != nullptr) {
      du += skip * grad;
      sum_D += grad * u;
    }
    sum_bias += d_delta;
    x[at(t)] = du;
    dt[at(t)] = d_delta;
  }

  // dB and dC of the steps from t on, summed over the channels of the warp, for the block's sum.
  __device__ __forceinline__ void sum_states(int t, T (&values)[S::kSums], int row_B, int row_C) const {
    const T sum = lane_sums<S::kLanes>(values);
    if (lane() / S::kLanes >= S::kSums) return;  // lanes with copies
    const int index = lane_sums_index<S::kSums, S::kLanes>();
    const int step = index / (2 * kStates), i = part * kStates + index / 2 % kStates;
    if (whole_records(pass) && i >= pass.states) return;
    sums[((index % 2 == 0 ? row_B : row_C) + i) * S::kSumPitch + t + step] = sum;
  }

  __device__ __forceinline__ void run_some_ranks(int r0, int r, int steps, int sum_row) const {
    constexpr int kRanks = S::kRanks, kSteps = S::kRankSteps, kPack = 16 / sizeof(T);
    static_assert(kRanks % kPack == 0, "low-rank inputs are read in packs");
    const int rank = r0 + r + part * kRanks, pitch = LowRank<T>::pitch(pass.rank);
    const bool any = rank < pass.rank;
    T weight[kRanks], grad[kRanks];
    T* const grads = static_cast<T*>(pass.grad_weight) + (place.part(pass) * pass.rank + rank) * pass.dim + channel;
#pragma unroll
    for (int i = 0; i < kRanks; ++i) {
      const bool loaded = present && rank + i < pass.rank;
      weight[i] = load_parameter<T>(pass.weight, (place.sequence * pass.rank + rank + i) * pass.dim + channel, loaded);
      grad[i] = loaded ? grads[i * pass.dim] : T(0);
    }
#pragma unroll 1
    for (int t0 = 0; t0 < steps; t0 += kSteps) {
      T values[kSteps * kRanks];
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int t = t0 + k;
        const T d_delta = present && t < steps ? dt[at(t)] : T(0);
#pragma unroll
        for (int i = 0; i < kRanks; i += kPack) {
          Pack<T, kPack> pack = {};
          if (any) pack = low.template pack<kPack>(t * pitch + r + part * kRanks + i);
#pragma unroll
          for (int j = 0; j < kPack; ++j) {
            grad[i + j] += d_delta * pack.values[j];
            values[k * kRanks + i + j] = weight[i + j] * d_delta;
          }
        }
      }
      const T sum = lane_sums<S::kLanes>(values);
      if (lane() / S::kLanes >= kSteps * kRanks) continue;  // lanes with copies
      const int index = lane_sums_index<kSteps * kRanks, S::kLanes>();
      if (rank + index % kRanks < pass.rank)
        sums[(sum_row + index % kRanks) * S::kSumPitch + t0 + index / kRanks] = sum;
    }
#pragma unroll
    for (int i = 0; i < kRanks; ++i)
      if (present && rank + i < pass.rank) grads[i * pass.dim] = grad[i];
  }

  const SharedArray<T>& low = tiles.low.values;
};

// The warps' sums of `count` entries, added up in order and written down. By the whole block.
template <class T, class S>
__device__ __forceinline__ void store_sums(const RoutePass& pass, const RouteBlock& place, SharedArray<int> positions,
                                           SharedArray<T> sums, int row, int64_t entry, int count) {
  const int64_t entries = pass.entries(), record = pass.sequences * entries;
  T* const first = static_cast<T*>(pass.grad_params) + (place.block * pass.items + place.item) * pass.tokens * record +
                   place.sequence * entries + entry;
  const int warps = blockDim.x / kWarp, of_warp = rows_of_sums<S>(pass) * S::kSumPitch;
  int shift = 0;  // so many lanes, a power of two, go along a record
  while (shift < 5 && (1 << shift) < count) ++shift;
  const int lanes = 1 << shift;
  // Where a position comes twice, its entries have one thread for all steps.
  const int t_first = place.repeats ? (static_cast<int>(threadIdx.x) < lanes ? 0 : kTileSteps)
                                    : static_cast<int>(threadIdx.x) >> shift;
  const int t_stride = place.repeats ? 1 : static_cast<int>(blockDim.x) >> shift;
  for (int t = t_first; t < kTileSteps; t += t_stride) {
    if (positions[t] < 0) continue;
    for (int j = threadIdx.x & (lanes - 1); j < count; j += lanes) {
      const int at = (row + j) * S::kSumPitch + t;
      T sum = sums[at];
      for (int w = 1; w < warps; ++w) sum += sums[w * of_warp + at];
      T& to = first[positions[t] * record + j];
      to = place.repeats ? to + sum : sum;
    }
  }
}

// Add the warp's tile to a map, at the positions of its steps.
template <class T, int kChannels>
__device__ __forceinline__ void scatter_tile(const SumOfChannel<T>& to, bool present, SharedArray<int> positions,
                                             SharedArray<T> tile) {
  constexpr int kStepsAtOnce = kWarp / kChannels, kTogether = 4;
  if (!present) return;
  // Where a position comes twice, one lane has all steps of a channel.
  const int first = lane() / kChannels, c = lane() % kChannels;
  const int between = to.repeats ? 1 : kStepsAtOnce;
  if (to.repeats && first > 0) return;
#pragma unroll 1
  for (int t = first; t < kTileSteps; t += kTogether * between) {
    int at[kTogether];
    T values[kTogether], sums[kTogether] = {};
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      at[i] = positions[t + i * between];
      values[i] = tile[(t + i * between) * TileShape<kChannels>::kPitch + c];
    }
    to.prepare(at, sums);
    to.add(at, sums, values);
  }
}

template <class T, class S>
__global__ void __launch_bounds__(128, sizeof(T) == 8 ? 2 : kBackwardBlocks) route_backward(RoutePass pass) {
  constexpr int kStates = S::kStates, kChannels = S::kChannels;
  const int warps = blockDim.x / kWarp;
  SharedMemory memory;
  const BackwardTiles<T, S> tiles(memory, pass, warps);
  const Positions positions = tiles.positions.of_warp();
  RouteBlock place(pass, warps * kChannels, 0);
  place.leave_repeats_to_one_block(pass);
  const RouteChannels channels(pass, place, warps * kChannels, kChannels);
  RouteBackwardWork<T, S> work(pass, place, tiles, positions, channels);
  const StepSizes<T, kChannels> sizes{
      pass, place, tiles.low, work.channel, work.present, load_parameter<T>(pass.bias, work.row(), work.present)};
  const int rounds = static_cast<int>((pass.states + S::kTogether - 1) / S::kTogether);
  const int rank = static_cast<int>(pass.rank), states = static_cast<int>(pass.states);
  const bool whole = whole_records(pass);
  // Where tiles are written, the channels of neighbouring lanes are neighbours.
  const int c = lane() % kChannels;
  const bool c_present = c < channels.count;
  const int c_channel = channels.first + (c_present ? c : 0);

  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const int n = round * S::kTogether + work.part * kStates + i;
      tiles.adjoint[work.kept(round, i)] = load_parameter<T>(
          pass.ends, place.carry_at(pass, work.channel, n), work.present && n < states && place.continues(pass));
      tiles.dA[work.kept(round, i)] = 0;
    }

  const int chunks = (place.end - place.begin + kTileSteps - 1) / kTileSteps;
  for (int chunk = chunks - 1; chunk >= 0; --chunk) {
    const int t0 = place.begin + chunk * kTileSteps;
    const int steps = place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps;
    const T* const checkpoint =
        t0 == 0 ? nullptr
                : static_cast<const T*>(pass.checkpoints) +
                      pass.checkpoint_at(place.batch, place.sequence, work.channel, t0 / kTileSteps - 1);
    __syncthreads();
    positions.find(pass, place, t0, steps);
    __syncwarp();
    if (rank > 0) tiles.low.load(pass, place, positions.project, 0);
    gather_tile<kChannels>(pass.grad_out, place, channels, positions.write, static_cast<T>(pass.scale), work.dy);
    gather_tile<kChannels>(pass.x, place, channels, positions.read, T(1), work.x);
    __syncthreads();
    sizes.find(positions.project, work.dt);
    __syncwarp();
    if (rounds == 0) work.run_without_states(steps);
    for (int round = 0; round < rounds; ++round) {
      const int n0 = round * S::kTogether, left = states - n0, count = left < S::kTogether ? left : S::kTogether;
      const int row_B = whole ? rank + n0 : 0, row_C = whole ? rank + states + n0 : S::kTogether;
      __syncthreads();
      load_states<S::kTogether>(pass, place, positions.project, false, n0, tiles.B);
      load_states<S::kTogether>(pass, place, positions.project, true, n0, tiles.C);
      __syncthreads();
      work.run_states(round, n0, checkpoint == nullptr ? nullptr : checkpoint + n0 * kCheckpointLanes, steps, row_B,
                      row_C);
      if (whole) continue;
      __syncthreads();
      store_sums<T, S>(pass, place, positions.project, tiles.sums, row_B, rank + n0, count);
      store_sums<T, S>(pass, place, positions.project, tiles.sums, row_C, rank + states + n0, count);
    }
    __syncwarp();
    for (int r0 = 0; r0 < rank; r0 += kRanksStaged) {
      // The first ones are staged no more where others followed.
      if (rank > kRanksStaged) {
        __syncthreads();
        tiles.low.load(pass, place, positions.project, r0);
      }
      if (rank > kRanksStaged || !whole) __syncthreads();
      const int left = rank - r0;
      work.run_ranks(r0, left < kRanksStaged ? left : kRanksStaged, steps, whole, [&](int r, int count) {
        if (whole) return;
        __syncthreads();
        store_sums<T, S>(pass, place, positions.project, tiles.sums, 0, r, count);
        __syncthreads();
      });
    }
    if (pass.grad_delta != nullptr) {
      // A running sum finds its map by the item.
      const int64_t map = place.batch * pass.sequences + place.sequence - place.item;
      const RunningSum maps{static_cast<T*>(pass.grad_delta) + map * pass.tokens * pass.dim, place.repeats, nullptr,
                            DType::kFloat32};
      scatter_tile<T, kChannels>(SumOfChannel<T>(maps, pass, place, c_channel), c_present, positions.project, work.dt);
    }
    scatter_tile<T, kChannels>(SumOfChannel<T>(pass.grad_x, pass, place, c_channel), c_present, positions.read, work.x);
    if (whole) {
      __syncthreads();
      store_sums<T, S>(pass, place, positions.project, tiles.sums, 0, 0, rank + 2 * states);
    }
  }

  if (!work.present) return;
  const int64_t part = place.part(pass) * pass.dim + work.channel;
  for (int round = 0; round < rounds; ++round)
#pragma unroll
    for (int i = 0; i < kStates; ++i) {
      const int n = round * S::kTogether + work.part * kStates + i;
      if (n < states) static_cast<T*>(pass.grad_A)[part * states + n] = tiles.dA[work.kept(round, i)];
    }
  if (work.part != 0) return;
  if (pass.D != nullptr) static_cast<T*>(pass.grad_D)[part] = work.sum_D;
  if (pass.bias != nullptr) static_cast<T*>(pass.grad_bias)[part] = work.sum_bias;
}

// Warps of a block: as many channels as share records and their sums, but fewer where they have
// many states to keep.
template <class S>
int warps_of(const RoutePass& pass, bool is_double) {
  const int64_t rounds = divide_up(pass.states * S::kStates, S::kTogether);
  const int64_t most = rounds <= 8 ? 4 : rounds <= 32 ? 2 : 1;
  const int64_t needed = divide_up(pass.dim, S::kChannels);
  const int64_t fitting = is_double && most > 1 ? most / 2 : most;
  const int64_t warps = needed < fitting ? needed : fitting;
  return fitting_warps(warps, [&](SharedSize& size, int warps) {
    if (is_double)
      BackwardTiles<double, S>(size, pass, warps);
    else
      BackwardTiles<float, S>(size, pass, warps);
  });
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
void run(const RoutePass& pass, Stream stream) {
  const int warps = warps_of<S>(pass, sizeof(T) == 8);
  SharedSize size;
  BackwardTiles<T, S>(size, pass, warps);
  launch(route_backward<T, S>, RouteBlock::grid(pass, pass.segments.count, warps * S::kChannels),
         dim3(static_cast<unsigned>(warps * kWarp)), size.bytes(), stream, pass);
}

}  // namespace

int64_t route_backward_block(const RoutePass& pass, bool is_double) {
  return with_split(pass.states, is_double,
                    [&](auto, auto split) { return warps_of<decltype(split)>(pass, is_double) * split.kChannels; });
}

void run_route_backward(const RoutePass& pass, bool is_double, Stream stream) {
  with_split(pass.states, is_double,
             [&](auto number, auto split) { run<decltype(number), decltype(split)>(pass, stream); });
}

}  // namespace mamba_mm
