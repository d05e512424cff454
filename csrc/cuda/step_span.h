// What part 2 of segments.h needs to know of the steps of a segment, all of one channel.
#pragma once

#include "device_math.h"
#include "segments.h"

namespace mamba_mm {

template <class T>
struct StepSpan {
  T sum = 0, least = INFINITY, most = -INFINITY;

  __device__ __forceinline__ void add(T step) {
    sum += step;
    least = step < least ? step : least;
    most = step > most ? step : most;
  }

  // The three numbers lie `apart` from each other.
  __device__ __forceinline__ void store(T* to, int64_t apart) const {
    to[0] = sum;
    to[apart] = least;
    to[2 * apart] = most;
  }
  __device__ __forceinline__ void load(const T* from, int64_t apart) {
    sum = from[0];
    least = from[apart];
    most = from[2 * apart];
  }

  // What is left of a state behind the segment; `rate` is A log2(e).
  __device__ __forceinline__ T through(T state, T rate) const {
    const T of_least = power_of_two(rate * least), of_most = power_of_two(rate * most);
    if (state == 0) return state * (rate < 0 ? of_least : of_most);
    if (state - state != 0) return state * (rate < 0 ? of_most : of_least);
    // In two halves: the decay alone may be too small or too large for a number.
    const T half = power_of_two(rate * sum * T(0.5));
    return state * half * half;
  }
};

}  // namespace mamba_mm
