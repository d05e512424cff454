// Tiles of activations between global and shared memory: 32 steps of some channels, one tile a
// warp. Lanes go along whichever dimension lies contiguously in global memory. In shared memory
// the channels lie side by side, with an odd pitch, so that neither direction has bank conflicts.
#pragma once

#include "device_math.h"
#include "selective_scan.h"

namespace mamba_mm {

constexpr int kTileSteps = static_cast<int>(kCheckpointSteps);
static_assert(kTileSteps == kWarp, "a lane is a step where time is contiguous");

// `steps` x `channels` of these values exist, from (batch, channel, time) on.
struct TilePlace {
  int64_t batch, channel, time;
  int channels, steps;

  template <class R>
  __device__ __forceinline__ int64_t offset(const R& rows) const {
    return batch * rows.batch + channel * rows.channel + time * rows.time;
  }
};

template <int kChannels>
struct TileShape {
  static constexpr int kPitch = kChannels | 1;
  static constexpr int kSize = kTileSteps * kPitch;

  // Calls visit(step, channel) for every element of the tile, its lanes along time or channels.
  // Loads want many under way at once; stores are not waited for.
  template <int kAtOnce = 8, class Visit>
  __device__ __forceinline__ static void along(bool time, const Visit& visit) {
    if (time) {
#pragma unroll(kAtOnce)
      for (int c = 0; c < kChannels; ++c) visit(lane(), c);
    } else {
      constexpr int kStepsAtOnce = kWarp / kChannels;
#pragma unroll(kAtOnce)
      for (int t = 0; t < kTileSteps; t += kStepsAtOnce) visit(t + lane() / kChannels, lane() % kChannels);
    }
  }
};

namespace staging {

template <int kChannels, class Stored, class T>
__device__ __forceinline__ void load(const Rows& rows, const TilePlace& place, SharedArray<T> tile) {
  const Stored* const first = static_cast<const Stored*>(rows.data) + place.offset(rows);
  const int64_t by_step = rows.time, by_channel = rows.channel;
  TileShape<kChannels>::along(by_step == 1, [&](int t, int c) {
    T value = 0;
    if (t < place.steps && c < place.channels) value = widen(first[t * by_step + c * by_channel]);
    tile[t * TileShape<kChannels>::kPitch + c] = value;
  });
}

template <int kChannels, class Stored, class T>
__device__ __forceinline__ void store(const MutableRows& rows, const TilePlace& place, SharedArray<T> tile) {
  Stored* const first = static_cast<Stored*>(rows.data) + place.offset(rows);
  const int64_t by_step = rows.time, by_channel = rows.channel;
  TileShape<kChannels>::template along<2>(by_step == 1, [&](int t, int c) {
    if (t < place.steps && c < place.channels)
      narrow(tile[t * TileShape<kChannels>::kPitch + c], first[t * by_step + c * by_channel]);
  });
}

}  // namespace staging

// Load the warp's tile; zeros where there is nothing. What is computed in double is stored in
// double, so that there are few combinations to compile. The caller separates loading from use:
// by __syncwarp(), or a barrier of the block.
template <int kChannels>
__device__ void load_tile(const Rows& rows, const TilePlace& place, SharedArray<float> tile) {
  switch (rows.dtype) {
    case DType::kFloat16: return staging::load<kChannels, Half>(rows, place, tile);
    case DType::kBFloat16: return staging::load<kChannels, BFloat16>(rows, place, tile);
    default: return staging::load<kChannels, float>(rows, place, tile);
  }
}
template <int kChannels>
__device__ void load_tile(const Rows& rows, const TilePlace& place, SharedArray<double> tile) {
  staging::load<kChannels, double>(rows, place, tile);
}

template <int kChannels>
__device__ void store_tile(const MutableRows& rows, const TilePlace& place, SharedArray<float> tile) {
  switch (rows.dtype) {
    case DType::kFloat16: return staging::store<kChannels, Half>(rows, place, tile);
    case DType::kBFloat16: return staging::store<kChannels, BFloat16>(rows, place, tile);
    default: return staging::store<kChannels, float>(rows, place, tile);
  }
}
template <int kChannels>
__device__ void store_tile(const MutableRows& rows, const TilePlace& place, SharedArray<double> tile) {
  staging::store<kChannels, double>(rows, place, tile);
}

// kStates rows of B or C, for 32 steps: the states of a step side by side, so that a thread
// reads them in packs. For a whole block; states from n0 on, of which `states` exist.
template <int kStates>
struct ProjectionShape {
  // Four more than the states: else the steps would all fall into the same banks when written.
  static constexpr int kPitch = kStates < 16 ? kStates : kStates + 4;
  static constexpr int kSize = kTileSteps * kPitch;
};

namespace staging {

template <int kStates, class Stored, class T>
__device__ __forceinline__ void load_projection(const Projection& rows, int64_t batch, int64_t group, int64_t n0,
                                                int states, int64_t time, int steps, SharedArray<T> tile) {
  const Stored* const first = static_cast<const Stored*>(rows.data) + batch * rows.batch + group * rows.group +
                              n0 * rows.state + time * rows.time;
  for (int i = threadIdx.x; i < kStates * kTileSteps; i += blockDim.x) {
    const bool along_time = rows.time == 1;
    const int t = along_time ? i % kTileSteps : i / kStates, n = along_time ? i / kTileSteps : i % kStates;
    T value = 0;
    if (t < steps && n < states) value = widen(first[n * rows.state + t * rows.time]);
    tile[t * ProjectionShape<kStates>::kPitch + n] = value;
  }
}

}  // namespace staging

template <int kStates>
__device__ void load_projection(const Projection& rows, int64_t batch, int64_t group, int64_t n0, int states,
                                int64_t time, int steps, SharedArray<float> tile) {
  switch (rows.dtype) {
    case DType::kFloat16:
      return staging::load_projection<kStates, Half>(rows, batch, group, n0, states, time, steps, tile);
    case DType::kBFloat16:
      return staging::load_projection<kStates, BFloat16>(rows, batch, group, n0, states, time, steps, tile);
    default: return staging::load_projection<kStates, float>(rows, batch, group, n0, states, time, steps, tile);
  }
}
template <int kStates>
__device__ void load_projection(const Projection& rows, int64_t batch, int64_t group, int64_t n0, int states,
                                int64_t time, int steps, SharedArray<double> tile) {
  staging::load_projection<kStates, double>(rows, batch, group, n0, states, time, steps, tile);
}

// The kStates values of a step, from state n on, as few reads as possible.
template <int kStates, int kCount, class T>
__device__ __forceinline__ void read_projection(SharedArray<T> tile, int t, int n, T (&values)[kCount]) {
  constexpr int kPack = kCount < 16 / static_cast<int>(sizeof(T)) ? kCount : 16 / static_cast<int>(sizeof(T));
#pragma unroll
  for (int i = 0; i < kCount; i += kPack) {
    const Pack<T, kPack> pack = tile.template pack<kPack>(t * ProjectionShape<kStates>::kPitch + n + i);
#pragma unroll
    for (int j = 0; j < kPack; ++j) values[i + j] = pack.values[j];
  }
}

}  // namespace mamba_mm
