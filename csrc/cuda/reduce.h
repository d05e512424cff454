// Sums over the lanes of a warp, in an order that is always the same.
#pragma once

#include "launch.h"

namespace mamba_mm {

// The sum over the lanes whose numbers differ in the bits from kFrom up to below kTo (powers of
// two): over the whole warp by default. All these lanes get the same bits.
template <int kFrom = 1, int kTo = kWarp, class T>
__device__ __forceinline__ T lane_sum(T value) {
#pragma unroll
  for (int bit = kFrom; bit < kTo; bit *= 2) value += __shfl_xor_sync(kAllLanes, value, bit);
  return value;
}

// Sums of kValues values each (a power of two) over the same lanes, by recursive halving: lanes
// exchange halves of what they have left, so that 32 values take 31 shuffles instead of 160.
// Afterwards a lane has the sum of value number lane_sums_index<kValues, kFrom>().
template <int kFrom = 1, int kTo = kWarp, int kValues, class T>
__device__ __forceinline__ T lane_sums(T (&values)[kValues]) {
  static_assert(kFrom * kValues <= kTo, "more values than lanes to hold them");
  int bit = kFrom;
#pragma unroll
  for (int half = kValues / 2; half > 0; half /= 2, bit *= 2) {
    const bool upper = (lane() & bit) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const T kept = upper ? values[i + half] : values[i];
      const T sent = upper ? values[i] : values[i + half];
      values[i] = kept + __shfl_xor_sync(kAllLanes, sent, bit);
    }
  }
  return lane_sum<kFrom * kValues, kTo>(values[0]);
}

template <int kValues, int kFrom = 1>
__device__ __forceinline__ int lane_sums_index() {
  int index = 0, bit = kFrom;
#pragma unroll
  for (int half = kValues / 2; half > 0; half /= 2, bit *= 2) index += (lane() & bit) != 0 ? half : 0;
  return index;
}

}  // namespace mamba_mm
