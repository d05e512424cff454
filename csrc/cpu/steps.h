// What both passes do first with a tile: turn delta into step sizes.
#pragma once

#include "math.h"
#include "staging.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

// How large |dt| gets in each lane, to tell whether the fast exponential may be used.
template <class V>
struct StepRange {
  using F = typename V::F;
  F largest = V::zero(), probe = V::zero();

  void include(F dt) {
    largest = V::max(largest, V::abs(dt));
    probe = V::fma(dt, V::zero(), probe);  // stays zero unless a step is infinite or NaN
  }

  bool fits_fast_exponential(F rate) const {
    const F bound = V::mul(V::add(largest, probe), V::abs(rate));
    return !V::any_not_less(bound, V::set1(Math<V>::kSafeExponent));
  }
};

template <class V, bool kFast>
inline typename V::F decay(typename V::F dt, typename V::F rate) {
  return kFast ? Math<V>::exp2_product(dt, rate) : Math<V>::exp2_product_any(dt, rate);
}

// Whether steps of at most kLargestPiece leave the fast exponential in its range.
template <class V>
inline bool is_moderate(typename V::F rate) {
  return !V::any_not_less(V::mul(V::abs(rate), V::set1(kLargestPiece)), V::set1(Math<V>::kSafeExponent));
}

// The decays of kCount steps at one rate.
template <class V, int kCount>
inline void decays(const typename V::F* dt, typename V::F rate, typename V::F* a) {
  // The sum of all steps bounds each, and is infinite or NaN where one is.
  auto bound = V::abs(dt[0]);
  for (int i = 1; i < kCount; ++i) bound = V::add(bound, V::abs(dt[i]));
  if (V::any_not_less(V::mul(bound, V::abs(rate)), V::set1(Math<V>::kSafeExponent)))
    for (int i = 0; i < kCount; ++i) a[i] = decay<V, false>(dt[i], rate);
  else
    Math<V>::template exp2_products<kCount>(dt, rate, a);
}

// In place: delta -> dt = softplus?(delta + bias), for kCount steps. With `slope`, also
// d dt / d delta.
template <class V, int kCount, bool kSlope>
inline void some_step_sizes(typename V::T* delta, typename V::T* slope, typename V::F bias, bool softplus,
                            StepRange<V>& range) {
  typename V::F dt[kCount], slopes[kCount];
  for (int i = 0; i < kCount; ++i) dt[i] = V::add(V::load(delta + i * V::W), bias);
  if (softplus)
    Math<V>::template softplus<kCount, kSlope>(dt, slopes);
  else if constexpr (kSlope)
    for (int i = 0; i < kCount; ++i) slopes[i] = V::set1(1);
  for (int i = 0; i < kCount; ++i) {
    range.include(dt[i]);
    V::store(delta + i * V::W, dt[i]);
    if constexpr (kSlope) V::store(slope + i * V::W, slopes[i]);
  }
}

template <class V, bool kSlope>
inline StepRange<V> step_sizes(typename V::T* delta, typename V::T* slope, typename V::F bias, bool softplus,
                               int64_t steps) {
  constexpr int kBlock = 4, W = V::W;
  StepRange<V> range;
  int64_t t = 0;
  for (; t + kBlock <= steps; t += kBlock)
    some_step_sizes<V, kBlock, kSlope>(delta + t * W, slope + (kSlope ? t * W : 0), bias, softplus, range);
  for (; t < steps; ++t)
    some_step_sizes<V, 1, kSlope>(delta + t * W, slope + (kSlope ? t * W : 0), bias, softplus, range);
  return range;
}

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
