// Number types, and exponential, softplus and sigmoid to float32 rounding, in both worlds.
// NaN and infinity go through all of them as through their definitions.
#pragma once

#include <cmath>

#include "launch.h"
#ifdef MAMBA_MM_EMULATED
#include <torch/headeronly/util/Half.h>
#endif

namespace mamba_mm {

// 16-bit numbers as they lie in memory.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

__device__ __forceinline__ uint32_t bits_of(float x) {
#ifdef MAMBA_MM_EMULATED
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
#else
  return __float_as_uint(x);
#endif
}

__device__ __forceinline__ float float_of(uint32_t bits) {
#ifdef MAMBA_MM_EMULATED
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
#else
  return __uint_as_float(bits);
#endif
}

__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(BFloat16 x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }
__device__ __forceinline__ float widen(Half x) {
#ifdef MAMBA_MM_EMULATED
  return c10::detail::fp16_ieee_to_fp32_value(x.bits);
#else
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
#endif
}

// Rounds to nearest, ties to even.
__device__ __forceinline__ void narrow(double x, double& result) { result = x; }
__device__ __forceinline__ void narrow(double x, float& result) { result = static_cast<float>(x); }
__device__ __forceinline__ void narrow(float x, float& result) { result = x; }
__device__ __forceinline__ void narrow(float x, BFloat16& result) {
  const uint32_t bits = bits_of(x), rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  result.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded >> 16);
}
__device__ __forceinline__ void narrow(float x, Half& result) {
#ifdef MAMBA_MM_EMULATED
  result.bits = c10::detail::fp16_ieee_from_fp32_value(x);
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(x));
#endif
}

constexpr double kLog2E = 1.44269504088896340736, kLn2 = 0.69314718055994530942;

// 2^x. In float by the special-function unit, 2 units in the last place; what is below the
// normal numbers becomes zero.
__device__ __forceinline__ float power_of_two(float x) {
#ifdef MAMBA_MM_EMULATED
  return std::exp2(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}
__device__ __forceinline__ double power_of_two(double x) { return exp2(x); }

template <class T>
__device__ __forceinline__ T positive_part(T x) {
  return x > 0 ? x : T(0);  // zero for NaN
}

// log(1 + t) for t in [0, 1]. Taking the logarithm of 1 + t would lose the digits of a small t,
// and step sizes are small. Minimax polynomial, relative error 3e-8.
__device__ __forceinline__ float log1p_unit(float t) {
  constexpr float kCoefficients[] = {-0.02950524f,  0.0782259608f, -0.136632473f, 0.191060079f,
                                     -0.248429827f, 0.333190969f,  -0.499994931f, 0.99999997f};
  float p = 0.00523269368f;
#pragma unroll
  for (int i = 0; i < 8; ++i) p = fmaf(p, t, kCoefficients[i]);
  return p * t;
}
__device__ __forceinline__ double log1p_unit(double t) { return log1p(t); }

// NaN comes out through the logarithm.
template <class T>
__device__ __forceinline__ T softplus(T x) {
  return positive_part(x) + log1p_unit(power_of_two((x < 0 ? x : -x) * T(kLog2E)));
}

// The derivative of softplus where it has the value y >= 0: 1 - exp(-y), for small y by its
// series, because the difference would lose the digits.
__device__ __forceinline__ float softplus_slope(float y) {
  constexpr float kCoefficients[] = {1.f / 5040, 1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f};
  float p = 1.f / 40320;
#pragma unroll
  for (int i = 0; i < 7; ++i) p = fmaf(p, -y, kCoefficients[i]);
  return y < 0.5f ? p * y : 1 - power_of_two(-y * static_cast<float>(kLog2E));
}
__device__ __forceinline__ double softplus_slope(double y) { return -expm1(-y); }

template <class T>
__device__ __forceinline__ T sigmoid(T x) {
  return T(1) / (T(1) + power_of_two(x * T(-kLog2E)));
}

// x sigmoid(x); zero at minus infinity would be NaN, as in the definition.
template <class T>
__device__ __forceinline__ T silu(T x) {
  return x * sigmoid(x);
}

template <class T>
__device__ __forceinline__ T silu_slope(T x) {
  const T s = sigmoid(x);
  return s * (T(1) + x * (T(1) - s));
}

}  // namespace mamba_mm
