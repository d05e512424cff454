// Vectors of any processor, written with the compiler's own vector types.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class Scalar>
struct Vector;

template <>
struct Vector<float> {
  using T = float;
  static constexpr int W = 8;
  static constexpr bool kLookups = false;  // tables of 32 values in two registers
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));

  static F load(const T* p) {
    F v;
    memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, F v) { memcpy(p, &v, sizeof v); }
  static F set1(T x) { return F{} + x; }
  static F zero() { return F{}; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F fms(F a, F b, F c) { return a * b - c; }
  static F reciprocal(F x) { return 1.f / x; }
  static F abs(F x) { return (F)((I)x & 0x7fffffff); }
  // The larger of a constant and x; a NaN in x is kept.
  static F max(F constant, F x) { return x < constant ? constant : x; }
  static F min(F constant, F x) { return x > constant ? constant : x; }
  static F select_nonnegative(F x, F yes, F no) { return x >= 0.f ? yes : no; }
  // Whether any lane fails a < b; a NaN fails.
  static bool any_not_less(F a, F b) {
    const I less = a < b;
    int32_t all = -1;
    for (int i = 0; i < W; ++i) all &= less[i];
    return all == 0;
  }
  // x 2^k; the integer k is given alone and as a sum with the number that rounds.
  static constexpr float kLargestPower = 125;
  static F scale_by_power_of_two(F x, F, F rounded_with_magic) {
    return (F)((I)x + ((I)rounded_with_magic << 23));
  }
  static void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    for (int i = 0; i < W; ++i)
      for (int j = 0; j < W; ++j) to[i * to_stride + j] = from[j * from_stride + i];
  }
  // to[i] = the sum of the lanes of vector i.
  static void sum_lanes(const T* vectors, T* to) {
    for (int i = 0; i < W; ++i) {
      T sum = 0;
      for (int j = 0; j < W; ++j) sum += vectors[i * W + j];
      to[i] = sum;
    }
  }
};

template <>
struct Vector<double> {
  using T = double;
  static constexpr int W = 4;
  static constexpr bool kLookups = false;
  typedef double F __attribute__((vector_size(32)));
  typedef int64_t I __attribute__((vector_size(32)));

  static F load(const T* p) {
    F v;
    memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, F v) { memcpy(p, &v, sizeof v); }
  static F set1(T x) { return F{} + x; }
  static F zero() { return F{}; }
  static F add(F a, F b) { return a + b; }
  static F sub(F a, F b) { return a - b; }
  static F mul(F a, F b) { return a * b; }
  static F div(F a, F b) { return a / b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F abs(F x) { return (F)((I)x & INT64_MAX); }
  static F max(F constant, F x) { return x < constant ? constant : x; }
  static F select_nonnegative(F x, F yes, F no) { return x >= 0. ? yes : no; }
  static bool any_not_less(F a, F b) {
    const I less = a < b;
    return (less[0] & less[1] & less[2] & less[3]) == 0;
  }
  static void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    for (int i = 0; i < W; ++i)
      for (int j = 0; j < W; ++j) to[i * to_stride + j] = from[j * from_stride + i];
  }
  static void sum_lanes(const T* vectors, T* to) {
    for (int i = 0; i < W; ++i)
      to[i] = vectors[i * W] + vectors[i * W + 1] + vectors[i * W + 2] + vectors[i * W + 3];
  }
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
