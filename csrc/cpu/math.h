// Exponential, softplus and sigmoid of vectors, to float32 rounding.
#pragma once

#include <cmath>

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
  // exp2_product is wrong, not just inaccurate, where the exponent field overflows.
  static constexpr float kSafeExponent = 125.f;

  // The factor that turns a decay rate into the second argument of exp2_product.
  static float rate(float a) { return a * kLog2E; }

  // 2^f for |f| <= 1/2: minimax polynomial, relative error 9e-8.
  static F exp2_fraction(F f) {
    F p = V::set1(0.00132647272f);
    p = V::fma(p, f, V::set1(0.00967151281f));
    p = V::fma(p, f, V::set1(0.0555073374f));
    p = V::fma(p, f, V::set1(0.240222421f));
    p = V::fma(p, f, V::set1(0.693146978f));
    return V::fma(p, f, V::set1(1.f));
  }

  // 2^(d a) for |d a| < kSafeExponent. The product never stands alone: it goes into the
  // rounding and into the remainder by fused multiply-adds.
  static F exp2_product(F d, F a) {
    const F magic = V::set1(kMagic);
    const F t = V::fma(d, a, magic);
    const F f = V::fma(d, a, V::sub(magic, t));
    return V::scale_by_power_of_two(exp2_fraction(f), t);
  }

  // 2^(d a) for any argument: overflows to infinity, underflows to zero, keeps NaN.
  static F exp2_product_any(F d, F a) {
    const F magic = V::set1(kMagic), one = V::set1(1.f);
    F x = V::mul(d, a);
    x = V::max(V::set1(-252.f), V::min(V::set1(252.f), x));
    const F k = V::sub(V::add(x, magic), magic);
    const F p = exp2_fraction(V::sub(x, k));
    // Two factors, because 2^k alone may not be a normal number.
    const F t1 = V::fma(k, V::set1(0.5f), magic);
    const F t2 = V::add(V::sub(k, V::sub(t1, magic)), magic);
    return V::mul(V::mul(p, V::scale_by_power_of_two(one, t1)), V::scale_by_power_of_two(one, t2));
  }

  // exp(-|x|), at least exp(-87).
  static F exp_minus_abs(F x) {
    const F bounded = V::max(V::set1(-87.f), V::sub(V::zero(), V::abs(x)));
    return exp2_product(bounded, V::set1(kLog2E));
  }

  // log(1 + t) for t in [0, 1]. Taking the logarithm of 1 + t would lose the digits of a
  // small t, and step sizes are small.
  static F log1p_unit(F t) {
    const F t2 = V::mul(t, t);
    const F t4 = V::mul(t2, t2);
    const F p01 = V::fma(V::set1(-0.499994931f), t, V::set1(0.99999997f));
    const F p23 = V::fma(V::set1(-0.248429827f), t, V::set1(0.333190969f));
    const F p45 = V::fma(V::set1(-0.136632473f), t, V::set1(0.191060079f));
    const F p67 = V::fma(V::set1(-0.02950524f), t, V::set1(0.0782259608f));
    const F low = V::fma(p23, t2, p01);
    F high = V::fma(p67, t2, p45);
    high = V::fma(V::set1(0.00523269368f), t4, high);
    return V::mul(t, V::fma(high, t4, low));
  }

  static F softplus(F x, F exp_minus_abs_x) {
    return V::add(V::max(V::zero(), x), log1p_unit(exp_minus_abs_x));
  }

  // 1 / (1 + exp(-x)), zero and one at the infinities.
  static F logistic(F x) {
    const F one = V::set1(1.f);
    return V::div(one, V::add(one, exp2_product_any(x, V::set1(-kLog2E))));
  }

  // The derivative of softplus, from the same exponential.
  static F sigmoid(F x, F exp_minus_abs_x) {
    const F numerator = V::select_nonnegative(x, V::set1(1.f), exp_minus_abs_x);
    return V::div(numerator, V::add(V::set1(1.f), exp_minus_abs_x));
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
  static F exp_minus_abs(F x) {
    F e = V::abs(x);
    for (int i = 0; i < V::W; ++i) e[i] = ::exp(-e[i]);
    return e;
  }
  static F logistic(F x) {
    for (int i = 0; i < V::W; ++i) x[i] = 1 / (1 + ::exp(-x[i]));
    return x;
  }
  static F softplus(F x, F exp_minus_abs_x) {
    F log = exp_minus_abs_x;
    for (int i = 0; i < V::W; ++i) log[i] = ::log1p(log[i]);
    return V::max(V::zero(), x) + log;
  }
  static F sigmoid(F x, F exp_minus_abs_x) {
    return V::select_nonnegative(x, V::set1(1), exp_minus_abs_x) / (1 + exp_minus_abs_x);
  }
};
#endif

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
