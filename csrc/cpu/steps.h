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

// In place: delta -> dt = softplus?(delta + bias). With `slope`, also d dt / d delta.
template <class V, bool kSlope>
inline StepRange<V> step_sizes(typename V::T* delta, typename V::T* slope, typename V::F bias, bool softplus,
                               int64_t steps) {
  using M = Math<V>;
  StepRange<V> range;
  for (int64_t t = 0; t < steps; ++t) {
    auto dt = V::add(V::load(delta + t * V::W), bias);
    if (softplus) {
      const auto e = M::exp_minus_abs(dt);
      if constexpr (kSlope) V::store(slope + t * V::W, M::sigmoid(dt, e));
      dt = M::softplus(dt, e);
    } else if constexpr (kSlope) {
      V::store(slope + t * V::W, V::set1(1));
    }
    range.include(dt);
    V::store(delta + t * V::W, dt);
  }
  return range;
}

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
