// What a block of the scan works on: some channels of one group, in one segment.
#pragma once

#include "device_math.h"
#include "selective_scan_passes.h"
#include "stage.h"
#include "step_span.h"

namespace mamba_mm {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A block of a grid of segments x batch x groups x blocks of `channels` channels, the last
// varying fastest. The first segments may be left out.
struct ScanBlock {
  int64_t segment, batch, group, block, begin, end;

  static dim3 grid(const Problem& in, int64_t segments, int64_t channels) {
    const int64_t blocks = segments * in.batch * in.groups * divide_up(in.channels_per_group(), channels);
    if (blocks > INT32_MAX)
      throw std::runtime_error("selective_scan: the call needs " + std::to_string(blocks) +
                               " blocks, more than one launch takes; split it along the batch");
    return dim3(static_cast<unsigned>(blocks));
  }

  __device__ __forceinline__ ScanBlock(const Problem& in, const Segments& segments, int channels, int first_segment) {
    const int64_t blocks = (in.channels_per_group() + channels - 1) / channels;
    const int64_t item = blockIdx.x;
    block = item % blocks;
    group = item / blocks % in.groups;
    batch = item / blocks / in.groups % in.batch;
    segment = item / blocks / in.groups / in.batch + first_segment;
    begin = segment * segments.steps;
    end = begin + segments.steps < in.length ? begin + segments.steps : in.length;
  }
};

// The channels of one warp: `count` of them, perhaps none, from `offset` in the group on.
struct WarpChannels {
  int64_t offset, first;
  int count;

  __device__ __forceinline__ WarpChannels(const Problem& in, const ScanBlock& place, int channels, int per_warp) {
    offset = place.block * channels + warp() * per_warp;
    first = place.group * in.channels_per_group() + offset;
    const int64_t left = in.channels_per_group() - offset;
    count = static_cast<int>(left < 0 ? 0 : left < per_warp ? left : per_warp);
  }
};

// delta_t + bias, through softplus or not.
template <class T>
__device__ __forceinline__ T step_size(T delta, T bias, bool with_softplus) {
  return with_softplus ? softplus(delta + bias) : delta + bias;
}

template <class T>
__device__ __forceinline__ T load_parameter(const void* data, int64_t i, bool present = true) {
  return present && data != nullptr ? static_cast<const T*>(data)[i] : T(0);
}

// Where a channel's states lie in the buffers between segments: a state every `dim` elements.
__device__ __forceinline__ int64_t carry_at(const Problem& in, const ScanBlock& place, int64_t channel, int64_t n) {
  return ((place.segment * in.batch + place.batch) * in.states + n) * in.dim + channel;
}
// Where its StepSpan lies: a number every `dim` elements.
__device__ __forceinline__ int64_t span_at(const Problem& in, const ScanBlock& place, int64_t channel) {
  return (place.segment * in.batch + place.batch) * kSpanNumbers * in.dim + channel;
}

}  // namespace mamba_mm
