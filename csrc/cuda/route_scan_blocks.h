// What the kernels of the route scan share: where a block works, where its sequence is at each
// step, and what it finds there.
#pragma once

#include "device_math.h"
#include "route_scan_passes.h"
#include "scan_blocks.h"
#include "stage.h"
#include "step_span.h"

namespace mamba_mm {

// Ranks of the projection of delta that are staged at a time.
constexpr int kRanksStaged = 32;

// A block of a grid of segments x items x sequences x blocks of `channels` channels, the last
// varying fastest. The first segments may be left out.
// Numbers of 32 bit save registers; they are widened where they are multiplied.
struct RouteBlock {
  int segment, item, batch, sequence, block, begin, end;
  Walk walk;
  bool repeats;

  static dim3 grid(const RoutePass& pass, int64_t segments, int64_t channels) {
    const int64_t blocks = segments * pass.items * pass.launched * divide_up(pass.dim, channels);
    if (blocks > INT32_MAX)
      throw std::runtime_error("route_scan: the call needs " + std::to_string(blocks) +
                               " blocks, more than one launch takes; split it along the channels");
    return dim3(static_cast<unsigned>(blocks));
  }

  __device__ __forceinline__ RouteBlock(const RoutePass& pass, int channels, int first_segment) {
    const int items = static_cast<int>(pass.items), sequences = static_cast<int>(pass.launched);
    const int blocks = (static_cast<int>(pass.dim) + channels - 1) / channels;
    int rest = static_cast<int>(blockIdx.x);
    block = rest % blocks;
    rest /= blocks;
    const int launched = rest % sequences;
    rest /= sequences;
    item = rest % items;
    segment = rest / items + first_segment;
    batch = static_cast<int>(pass.first_item) + item;
    sequence = static_cast<int>(pass.first_sequence) + launched;
    walk = pass.walks[launched];
    const int64_t first = segment * pass.segments.steps, last = first + pass.segments.steps;
    begin = static_cast<int>(first);
    end = static_cast<int>(last < pass.length ? last : pass.length);
    repeats = walk == Walk::kTable && pass.repeats != nullptr &&
              pass.repeats[batch * pass.repeats_batch + sequence] != 0;
  }

  // A sequence that visits a position twice is left to the first segment's block, from end to end.
  __device__ __forceinline__ void leave_repeats_to_one_block(const RoutePass& pass) {
    if (!repeats) return;
    end = static_cast<int>(pass.length);
    begin = segment == 0 ? 0 : end;
  }

  // Whether the segment begins in the state that the segments before it leave.
  __device__ __forceinline__ bool continues(const RoutePass& pass) const { return pass.ends != nullptr && !repeats; }

  // Where a channel's states lie in the buffers between segments: a state every `dim` elements.
  __device__ __forceinline__ int64_t carry_at(const RoutePass& pass, int64_t channel, int64_t n) const {
    return (carry_row(pass) * pass.states + n) * pass.dim + channel;
  }
  // Where its StepSpan lies: a number every `dim` elements.
  __device__ __forceinline__ int64_t span_at(const RoutePass& pass, int64_t channel) const {
    return carry_row(pass) * kSpanNumbers * pass.dim + channel;
  }
  // Of the partial sums over batch x segments.
  __device__ __forceinline__ int64_t part(const RoutePass& pass) const {
    return (batch * pass.segments.count + segment) * pass.sequences + sequence;
  }

 private:
  __device__ __forceinline__ int64_t carry_row(const RoutePass& pass) const {
    return (segment * pass.items + item) * pass.sequences + sequence;
  }
};

// The channels of one warp: `count` of them, perhaps none, from `first` on.
struct RouteChannels {
  int first, count;

  __device__ __forceinline__ RouteChannels(const RoutePass& pass, const RouteBlock& place, int channels,
                                           int per_warp) {
    first = place.block * channels + warp() * per_warp;
    const int left = static_cast<int>(pass.dim) - first;
    count = left < 0 ? 0 : left < per_warp ? left : per_warp;
    if (count == 0) first = 0;  // loads that nobody uses stay inside the tensors
  }
};

// The positions of 32 steps, -1 where a step is padded or behind the last one. A warp finds them
// for itself, so that there is no barrier between finding and using them.
struct Positions {
  SharedArray<int> read, project, write;

  template <class Memory>
  __host__ __device__ Positions(Memory& memory, int warps)
      : read(memory.template take<int>(warps * kTileSteps)),
        project(memory.template take<int>(warps * kTileSteps)),
        write(memory.template take<int>(warps * kTileSteps)) {}

  __device__ __forceinline__ Positions of_warp() const {
    const int first = warp() * kTileSteps;
    return Positions(read.from(first), project.from(first), write.from(first));
  }

  __device__ __forceinline__ void find(const RoutePass& pass, const RouteBlock& place, int t0, int steps) const {
    const int t = t0 + lane();
    const bool exists = lane() < steps;
    if (place.walk != Walk::kTable) {
      const int position = exists ? plain(pass, place.walk, t) : -1;
      read[lane()] = project[lane()] = write[lane()] = position;
      return;
    }
    const auto at = [&](const Table& table) { return exists ? entry(pass, table, place, t) : -1; };
    const int position = at(pass.read);
    read[lane()] = position;
    project[lane()] = RoutePass::has_own(pass.project) ? at(pass.project) : position;
    write[lane()] = RoutePass::has_own(pass.write) ? at(pass.write) : position;
  }

 private:
  __device__ __forceinline__ Positions(SharedArray<int> read, SharedArray<int> project, SharedArray<int> write)
      : read(read), project(project), write(write) {}

  // One division in 32 steps, as each lane finds one step.
  __device__ __forceinline__ static int plain(const RoutePass& pass, Walk walk, int t) {
    const bool back = walk == Walk::kRowBack || walk == Walk::kColumnBack;
    const int step = back ? static_cast<int>(pass.tokens) - 1 - t : t;
    if (walk == Walk::kRow || walk == Walk::kRowBack) return step;
    const int height = static_cast<int>(pass.height), column = step / height;
    return (step - column * height) * static_cast<int>(pass.width) + column;
  }

  // An entry that names no position counts as padding: to refuse it would take waiting for the GPU.
  __device__ __forceinline__ static int entry(const RoutePass& pass, const Table& table, const RouteBlock& place,
                                              int t) {
    const int position = table.data[place.batch * table.batch + place.sequence * table.sequence + t];
    return position < 0 || position >= pass.tokens ? -1 : position;
  }
};

namespace staging {

template <class Stored, class T>
__device__ __forceinline__ void load_entries(const Records& params, int64_t first, SharedArray<int> positions,
                                             int count, int padded, int pitch, SharedArray<T> to) {
  const Stored* const data = static_cast<const Stored*>(params.data) + first;
  const auto load = [&](int t, int j) {
    const int position = positions[t];
    to[t * pitch + j] = position >= 0 && j < count ? widen(data[position * params.position + j * params.entry]) : T(0);
  };
  if (params.entry == 1) {
    int shift = 0;  // so many lanes, a power of two, go along a record
    while (shift < 5 && (1 << shift) < padded) ++shift;
    for (int t = threadIdx.x >> shift; t < kTileSteps; t += blockDim.x >> shift)
      for (int j = threadIdx.x & ((1 << shift) - 1); j < padded; j += 1 << shift) load(t, j);
  } else {
    const int warps = blockDim.x / kWarp;
    for (int j = warp(); j < padded; j += warps) load(lane(), j);
  }
}

}  // namespace staging

// Some entries of the records of 32 steps, side by side; `padded` entries are written, zeros where
// there is nothing. By the whole block; `first` is the offset of position 0.
__device__ inline void load_entries(const Records& params, int64_t first, SharedArray<int> positions, int count,
                                    int padded, int pitch, SharedArray<float> to) {
  switch (params.dtype) {
    case DType::kFloat16: return staging::load_entries<Half>(params, first, positions, count, padded, pitch, to);
    case DType::kBFloat16: return staging::load_entries<BFloat16>(params, first, positions, count, padded, pitch, to);
    default: return staging::load_entries<float>(params, first, positions, count, padded, pitch, to);
  }
}
__device__ inline void load_entries(const Records& params, int64_t first, SharedArray<int> positions, int count,
                                    int padded, int pitch, SharedArray<double> to) {
  staging::load_entries<double>(params, first, positions, count, padded, pitch, to);
}

// The positions of kCount steps from t on, kBetween apart; neighbours are read in packs.
template <int kCount, int kBetween>
__device__ __forceinline__ void read_positions(SharedArray<int> positions, int t, int (&values)[kCount]) {
  if constexpr (kBetween == 1 && kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const Pack<int, 4> pack = positions.template pack<4>(t + i);
#pragma unroll
      for (int j = 0; j < 4; ++j) values[i + j] = pack.values[j];
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = positions[t + i * kBetween];
  }
}

// The values of one channel at some positions. What padded steps read is zero.
template <class Stored, int kCount, class T>
__device__ __forceinline__ void gather_as(const ChannelsLast& map, int64_t first, const int (&positions)[kCount],
                                          T (&values)[kCount]) {
  const Stored* const channel = static_cast<const Stored*>(map.data) + first;
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    values[i] = positions[i] < 0 ? T(0) : widen(channel[int64_t{positions[i]} * map.position]);
}

// `first` is the offset of the channel at position 0.
template <int kCount>
__device__ __forceinline__ void gather(const ChannelsLast& map, int64_t first, const int (&positions)[kCount],
                                       float (&values)[kCount]) {
  switch (map.dtype) {
    case DType::kFloat16: return gather_as<Half>(map, first, positions, values);
    case DType::kBFloat16: return gather_as<BFloat16>(map, first, positions, values);
    default: return gather_as<float>(map, first, positions, values);
  }
}
template <int kCount>
__device__ __forceinline__ void gather(const ChannelsLast& map, int64_t first, const int (&positions)[kCount],
                                       double (&values)[kCount]) {
  gather_as<double>(map, first, positions, values);
}

// The warp's tile of a map: 32 steps of some channels, zeros where there is nothing.
template <int kChannels, class T>
__device__ __forceinline__ void gather_tile(const ChannelsLast& map, const RouteBlock& place,
                                            const RouteChannels& channels, SharedArray<int> positions, T factor,
                                            SharedArray<T> tile) {
  constexpr int kStepsAtOnce = kWarp / kChannels, kLoads = 8;
  const int c = lane() % kChannels;
  const bool present = c < channels.count;
  const int64_t first =
      place.batch * map.batch + place.sequence * map.sequence + channels.first + (present ? c : 0);
#pragma unroll 1
  for (int t = lane() / kChannels; t < kTileSteps; t += kLoads * kStepsAtOnce) {
    int at[kLoads];
    T values[kLoads];
    read_positions<kLoads, kStepsAtOnce>(positions, t, at);
    gather(map, first, at, values);
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      tile[(t + i * kStepsAtOnce) * TileShape<kChannels>::kPitch + c] = present ? values[i] * factor : T(0);
  }
}

// One channel's place in a running sum.
template <class T>
struct SumOfChannel {
  const RunningSum& to;
  const RoutePass& pass;
  T* const sum;
  const int batch, channel;
  const bool repeats;

  __device__ __forceinline__ SumOfChannel(const RunningSum& to, const RoutePass& pass, const RouteBlock& place,
                                          int channel)
      : to(to),
        pass(pass),
        sum(static_cast<T*>(to.sum) + place.item * pass.tokens * pass.dim + channel),
        batch(place.batch),
        channel(channel),
        repeats(place.repeats) {}

  // What add() needs to know before: all sums are read before any is written, as a load would wait
  // for the store before it. A sequence that comes back to a position needs the sum as it is then.
  template <int kCount>
  __device__ __forceinline__ void prepare(const int (&positions)[kCount], T (&sums)[kCount]) const {
    if (!to.add || repeats) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (positions[i] >= 0) sums[i] = sum[at(positions[i])];
  }

  template <int kCount>
  __device__ __forceinline__ void add(const int (&positions)[kCount], const T (&sums)[kCount],
                                      T (&values)[kCount]) const {
    if (repeats) return add_one_by_one(positions, values);
    if (to.add) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) values[i] += sums[i];
    }
    if (to.rounded == nullptr)
      store(positions, values, sum);
    else if (to.dtype == DType::kFloat16)
      store(positions, values, static_cast<Half*>(to.rounded) + batch * pass.tokens * pass.dim + channel);
    else
      store(positions, values, static_cast<BFloat16*>(to.rounded) + batch * pass.tokens * pass.dim + channel);
  }

 private:
  __device__ __forceinline__ int64_t at(int position) const {
    return int64_t{position} * static_cast<int>(pass.dim);
  }

  // Never rounded: that is for the last sequence if it visits every position once.
  template <int kCount>
  __device__ __forceinline__ void add_one_by_one(const int (&positions)[kCount], const T (&values)[kCount]) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (positions[i] >= 0) sum[at(positions[i])] += values[i];
  }

  template <int kCount, class Stored>
  __device__ __forceinline__ void store(const int (&positions)[kCount], const T (&values)[kCount], Stored* to) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (positions[i] >= 0) put(values[i], to[at(positions[i])]);
  }
  __device__ __forceinline__ static void put(T value, T& to) { to = value; }
  template <class Stored>
  __device__ __forceinline__ static void put(T value, Stored& to) {
    narrow(static_cast<float>(value), to);
  }
};

// The low-rank inputs of delta, for 32 steps, kRanksStaged ranks at a time.
template <class T>
struct LowRank {
  SharedArray<T> values;

  template <class Memory>
  __host__ __device__ LowRank(Memory& memory, const RoutePass& pass)
      : values(memory.template take<T>(pass.rank > 0 ? kTileSteps * pitch(pass.rank) : 0)) {}

  // Whole packs, so that zeros and not what was there before take part.
  __host__ __device__ static int padded(int64_t ranks) {
    return static_cast<int>(ranks > kRanksStaged ? kRanksStaged : (ranks + 7) / 8 * 8);
  }
  __host__ __device__ static int pitch(int64_t rank) { return padded(rank) + 4; }

  __device__ __forceinline__ void load(const RoutePass& pass, const RouteBlock& place, SharedArray<int> positions,
                                       int r0) const {
    const int left = static_cast<int>(pass.rank) - r0, count = left < kRanksStaged ? left : kRanksStaged;
    const int64_t first = place.batch * pass.params.batch + place.sequence * pass.params.sequence +
                          r0 * pass.params.entry;
    load_entries(pass.params, first, positions, count, padded(left), pitch(pass.rank), values);
  }
};

// The entries of B or C of kStaged states, from state n0 on.
template <int kStaged, class T>
__device__ __forceinline__ void load_states(const RoutePass& pass, const RouteBlock& place, SharedArray<int> positions,
                                            bool of_C, int n0, SharedArray<T> to) {
  const int left = static_cast<int>(pass.states) - n0, count = left < kStaged ? left : kStaged;
  const int64_t entry = pass.rank + (of_C ? pass.states : 0) + n0;
  const int64_t first = place.batch * pass.params.batch + place.sequence * pass.params.sequence +
                        entry * pass.params.entry;
  load_entries(pass.params, first, positions, count, kStaged, ProjectionShape<kStaged>::kPitch, to);
}

// Turns what 32 steps say of delta into step sizes, for the channels of a warp; the lanes of a
// channel share its steps.
template <class T, int kChannels>
struct StepSizes {
  static constexpr int kLanes = kWarp / kChannels, kSteps = kTileSteps / kLanes;
  const RoutePass& pass;
  const RouteBlock& place;
  const LowRank<T>& low;
  const int channel;  // of this lane, or 0
  const bool present;
  const T bias;

  // The first low-rank inputs are staged; others are when it is their turn.
  __device__ __forceinline__ void find(SharedArray<int> positions, SharedArray<T> dt) const {
    if (pass.rank == 0) return find_given(positions, dt);
    for (int r0 = 0; r0 < pass.rank; r0 += kRanksStaged) {
      if (r0 > 0) {
        __syncthreads();
        low.load(pass, place, positions, r0);
        __syncthreads();
      }
      const int left = static_cast<int>(pass.rank) - r0, count = left < kRanksStaged ? left : kRanksStaged;
      for (int r = 0; r < count;) {
        if (count - r > 4)
          r += project<8>(r0, r, dt);
        else
          r += project<4>(r0, r, dt);
      }
    }
  }

 private:
  __device__ __forceinline__ int at(int t) const { return t * TileShape<kChannels>::kPitch + lane() / kLanes; }

  __device__ __forceinline__ void find_given(SharedArray<int> positions, SharedArray<T> dt) const {
    constexpr int kLoads = kSteps < 8 ? kSteps : 8;
    const ChannelsLast& delta = pass.delta;
    const int64_t first = place.batch * delta.batch + place.sequence * delta.sequence + channel;
#pragma unroll 1
    for (int t = lane() % kLanes; t < kTileSteps; t += kLoads * kLanes) {
      T values[kLoads] = {};
      if (delta.data != nullptr) {
        int of_steps[kLoads];
        read_positions<kLoads, kLanes>(positions, t, of_steps);
        gather(delta, first, of_steps, values);
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) dt[at(t + i * kLanes)] = size_of(values[i]);
    }
  }

  template <int kRanks>
  __device__ __forceinline__ int project(int r0, int r, SharedArray<T> dt) const {
    constexpr int kPack = 16 / sizeof(T);
    const bool first = r0 + r == 0, last = r0 + r + kRanks >= pass.rank;
    const int pitch = LowRank<T>::pitch(pass.rank);
    T weight[kRanks];
#pragma unroll
    for (int i = 0; i < kRanks; ++i)
      weight[i] = load_parameter<T>(pass.weight, (place.sequence * pass.rank + r0 + r + i) * pass.dim + channel,
                                    present && r0 + r + i < pass.rank);
#pragma unroll 4
    for (int t = lane() % kLanes; t < kTileSteps; t += kLanes) {
      T delta = first ? T(0) : dt[at(t)];
#pragma unroll
      for (int i = 0; i < kRanks; i += kPack) {
        const Pack<T, kPack> pack = low.values.template pack<kPack>(t * pitch + r + i);
#pragma unroll
        for (int j = 0; j < kPack; ++j) delta += weight[i + j] * pack.values[j];
      }
      dt[at(t)] = last ? size_of(delta) : delta;
    }
    return kRanks;
  }

  // A lane without a channel must stay finite, whatever the records hold.
  __device__ __forceinline__ T size_of(T delta) const {
    return present ? step_size(delta, bias, pass.softplus) : T(0);
  }
};

}  // namespace mamba_mm
