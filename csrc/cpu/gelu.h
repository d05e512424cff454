// GELU of rows plus a bias, in one pass: x Phi(x) with the normal distribution function Phi
// (Hendrycks and Gimpel, arXiv 1606.08415), exact to float32 rounding.
#pragma once

#include "kernels.h"
#include "math.h"
#include "staging.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
class Gelu {
  using T = typename V::T;
  using F = typename V::F;
  using M = Math<V>;
  static constexpr int W = V::W;
  static constexpr int kBlock = 4;  // vectors worked on side by side

 public:
  explicit Gelu(const GeluCall& call) : call_(call) {}

  void run(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      int64_t c = 0;
      for (; c + kBlock * W <= call_.columns; c += kBlock * W) run_vectors<kBlock>(row * call_.columns + c, c);
      for (; c + W <= call_.columns; c += W) run_vectors<1>(row * call_.columns + c, c);
      if (c < call_.columns) run_rest(row * call_.columns + c, c);
    }
  }

 private:
  template <int K>
  void run_vectors(int64_t at, int64_t column) {
    F x[K], grad[K], result[K];
    for (int i = 0; i < K; ++i) {
      x[i] = V::add(V::load(call_.x + at + i * W), V::load(call_.bias + column + i * W));
      if (call_.grad != nullptr) grad[i] = V::load(call_.grad + at + i * W);
    }
    evaluate<K>(x, grad, result);
    for (int i = 0; i < K; ++i) V::store(call_.out + at + i * W, result[i]);
  }

  // The last columns, fewer than a vector has lanes.
  void run_rest(int64_t at, int64_t column) {
    const int64_t count = call_.columns - column;
    alignas(64) T x[W] = {}, bias[W] = {}, grad[W] = {}, out[W];
    memcpy(x, call_.x + at, count * sizeof(T));
    memcpy(bias, call_.bias + column, count * sizeof(T));
    if (call_.grad != nullptr) memcpy(grad, call_.grad + at, count * sizeof(T));
    const F sum = V::add(V::load(x), V::load(bias)), weight = V::load(grad);
    F result;
    evaluate<1>(&sum, &weight, &result);
    V::store(out, result);
    memcpy(call_.out + at, out, count * sizeof(T));
  }

  template <int K>
  void evaluate(const F* x, const F* grad, F* result) {
    // exp(-x^2 / 2), and the tail Phi(-|x|) = exp(-x^2 / 2) t P(t) with t = 1 / (1 + p |x|).
    F density[K], t[K], tail[K];
    for (int i = 0; i < K; ++i) density[i] = half_square(x[i]);
    M::template exp2_products<K>(density, V::set1(-M::kLog2E), density);
    for (int i = 0; i < K; ++i)
      t[i] = V::reciprocal(V::fma(V::set1(kScale), V::abs(bounded(x[i])), V::set1(1)));
    for (int i = 0; i < K; ++i) tail[i] = V::set1(kTail[0]);
#pragma GCC unroll 8
    for (int j = 1; j < kTerms; ++j)
      for (int i = 0; i < K; ++i) tail[i] = V::fma(tail[i], t[i], V::set1(kTail[j]));
    for (int i = 0; i < K; ++i) tail[i] = V::mul(V::mul(tail[i], t[i]), density[i]);
    const F one = V::set1(1);
    for (int i = 0; i < K; ++i) {
      const F phi = V::select_nonnegative(x[i], V::sub(one, tail[i]), tail[i]);
      if (call_.grad == nullptr)
        result[i] = V::mul(V::max(V::set1(-kBound), x[i]), phi);
      else
        result[i] = V::mul(grad[i], V::fma(V::mul(bounded(x[i]), V::set1(kDensity)), density[i], phi));
    }
  }

  // Beyond it the tail is as good as zero; a NaN stays.
  static F bounded(F x) { return V::max(V::set1(-kBound), V::min(V::set1(kBound), x)); }
  static F half_square(F x) {
    const F b = bounded(x);
    return V::mul(V::mul(V::set1(0.5f), b), b);
  }

  static constexpr T kBound = 13;
  static constexpr T kDensity = 0.3989422804f;  // 1 / sqrt(2 pi)
  // Least-squares fit, weighted to equal errors, of Phi(-x) exp(x^2 / 2) / t for x in [0, 14]:
  // relative error 2e-8.
  static constexpr T kScale = 0.21f;
  static constexpr int kTerms = 9;
  static constexpr T kTail[kTerms] = {-0.0712948888540268f, 0.2818048596382141f,  -0.3264937102794647f,
                                      0.34498703479766846f, -0.09077274799346924f, 0.12347212433815002f,
                                      0.06956975162029266f, 0.08501243591308594f,  0.08371514827013016f};

  const GeluCall& call_;
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
