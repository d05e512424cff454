// Exponential, softplus and sigmoid of vectors, to float32 rounding.
#pragma once

#include <cmath>

#include "softplus_pieces.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
struct Math;

template <>
struct Math<Vector<float>> {
  using V = Vector<float>;
  using F = V::F;

  static constexpr float kLog2E = 1.44269504088896341f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  static constexpr float kMagic = 12582912.f;
  // exp2_product is wrong, not just inaccurate, beyond it.
  static constexpr float kSafeExponent = V::kLargestPower;

  // The factor that turns a decay rate into the second argument of exp2_product.
  static float rate(float a) { return a * kLog2E; }

  // Functions of K arguments work on all of them side by side, one operation after the other:
  // the chain of a single one is far longer than what the processor looks ahead.

  // 2^f for |f| <= 1/2: minimax polynomial, relative error 9e-8.
  template <int K>
  [[gnu::always_inline]] static void exp2_fraction(const F* f, F* p) {
    constexpr float kCoefficients[] = {0.00967151281f, 0.0555073374f, 0.240222421f, 0.693146978f, 1.f};
    for (int i = 0; i < K; ++i) p[i] = V::set1(0.00132647272f);
#pragma GCC unroll 5
    for (const float c : kCoefficients)
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) p[i] = V::fma(p[i], f[i], V::set1(c));
  }

  // 2^(d a) for |d a| < kSafeExponent. The product never stands alone: it goes into the
  // rounding and into the remainder by fused multiply-adds.
  template <int K>
  [[gnu::always_inline]] static void exp2_products(const F* d, F a, F* result) {
    const F magic = V::set1(kMagic);
    F t[K], k[K], f[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) t[i] = V::fma(d[i], a, magic);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) k[i] = V::sub(t[i], magic);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) f[i] = V::fms(d[i], a, k[i]);
    exp2_fraction<K>(f, result);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) result[i] = V::scale_by_power_of_two(result[i], k[i], t[i]);
  }

  static F exp2_product(F d, F a) {
    F result;
    exp2_products<1>(&d, a, &result);
    return result;
  }

  // 2^(d a) for any argument: overflows to infinity, underflows to zero, keeps NaN.
  static F exp2_product_any(F d, F a) {
    const F magic = V::set1(kMagic), one = V::set1(1.f);
    F x = V::mul(d, a);
    x = V::max(V::set1(-252.f), V::min(V::set1(252.f), x));
    const F k = V::sub(V::add(x, magic), magic);
    const F fraction = V::sub(x, k);
    F p;
    exp2_fraction<1>(&fraction, &p);
    // Two factors, because 2^k alone may not be a normal number.
    const F t1 = V::fma(k, V::set1(0.5f), magic), k1 = V::sub(t1, magic);
    const F k2 = V::sub(k, k1), t2 = V::add(k2, magic);
    return V::mul(V::mul(p, V::scale_by_power_of_two(one, k1, t1)), V::scale_by_power_of_two(one, k2, t2));
  }

  // exp(-|x|), at least exp(-87).
  template <int K>
  static void exp_minus_abs(const F* x, F* e) {
    F bounded[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) bounded[i] = V::max(V::set1(-87.f), V::sub(V::zero(), V::abs(x[i])));
    exp2_products<K>(bounded, V::set1(kLog2E), e);
  }

  // log(1 + t) for t in [0, 1]. Taking the logarithm of 1 + t would lose the digits of a
  // small t, and step sizes are small.
  template <int K>
  static void log1p_unit(const F* t, F* result) {
    F t2[K], low[K], high[K];
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) t2[i] = V::mul(t[i], t[i]);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i)
      low[i] = V::fma(V::fma(V::set1(-0.248429827f), t[i], V::set1(0.333190969f)), t2[i],
                      V::fma(V::set1(-0.499994931f), t[i], V::set1(0.99999997f)));
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i)
      high[i] = V::fma(V::fma(V::set1(-0.02950524f), t[i], V::set1(0.0782259608f)), t2[i],
                       V::fma(V::set1(-0.136632473f), t[i], V::set1(0.191060079f)));
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) t2[i] = V::mul(t2[i], t2[i]);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) high[i] = V::fma(V::set1(0.00523269368f), t2[i], high[i]);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) result[i] = V::mul(t[i], V::fma(high[i], t2[i], low[i]));
  }

  // In place: softplus(x), with kSlopes also its derivative.
  template <int K, bool kSlopes>
  static void softplus(F* x, F* slopes) {
    if constexpr (V::kLookups)
      if (softplus_by_pieces<V, K, kSlopes>(x, slopes)) return;
    softplus_any<K, kSlopes>(x, slopes);
  }

  // The same for all arguments; the derivative from the same exponential.
  template <int K, bool kSlopes>
  static void softplus_any(F* x, F* slopes) {
    F e[K], log[K];
    exp_minus_abs<K>(x, e);
    if constexpr (kSlopes)
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i)
        slopes[i] = V::mul(V::select_nonnegative(x[i], V::set1(1.f), e[i]),
                           V::reciprocal(V::add(V::set1(1.f), e[i])));
    log1p_unit<K>(e, log);
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) x[i] = V::add(V::max(V::zero(), x[i]), log[i]);
  }

  // 1 / (1 + exp(-x)), zero and one at the infinities.
  static F logistic(F x) {
    const F one = V::set1(1.f);
    return V::div(one, V::add(one, exp2_product_any(x, V::set1(-kLog2E))));
  }
};

#ifdef MAMBA_MM_DOUBLE
template <>
struct Math<Vector<double>> {
  using V = Vector<double>;
  using F = V::F;

  static constexpr double kSafeExponent = INFINITY;  // the library function takes all

  static double rate(double a) { return a; }

  static F exp2_product(F d, F a) {
    F x = d * a;
    for (int i = 0; i < V::W; ++i) x[i] = ::exp(x[i]);
    return x;
  }
  static F exp2_product_any(F d, F a) { return exp2_product(d, a); }
  template <int K>
  static void exp2_products(const F* d, F a, F* result) {
    for (int i = 0; i < K; ++i) result[i] = exp2_product(d[i], a);
  }
  static F logistic(F x) {
    for (int i = 0; i < V::W; ++i) x[i] = 1 / (1 + ::exp(-x[i]));
    return x;
  }
  template <int K, bool kSlopes>
  static void softplus(F* x, F* slopes) {
    for (int i = 0; i < K; ++i) {
      F e = V::abs(x[i]), log;
      for (int j = 0; j < V::W; ++j) {
        e[j] = ::exp(-e[j]);
        log[j] = ::log1p(e[j]);
      }
      if constexpr (kSlopes) slopes[i] = V::select_nonnegative(x[i], V::set1(1), e) / (1 + e);
      x[i] = V::max(V::zero(), x[i]) + log;
    }
  }
};
#endif

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
