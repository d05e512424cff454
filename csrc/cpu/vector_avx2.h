// Eight floats a register: AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class Scalar>
struct Vector;

template <>
struct Vector<float> {
  using T = float;
  static constexpr int W = 8;
  static constexpr bool kLookups = false;  // tables of 32 values in two registers
  using F = __m256;

  static F load(const T* p) { return _mm256_loadu_ps(p); }
  static void store(T* p, F v) { _mm256_storeu_ps(p, v); }
  static F set1(T x) { return _mm256_set1_ps(x); }
  static F zero() { return _mm256_setzero_ps(); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F fms(F a, F b, F c) { return _mm256_fmsub_ps(a, b, c); }
  // To float rounding: the processor's estimate of 12 bits and two steps of Newton's method.
  static F reciprocal(F x) {
    F r = _mm256_rcp_ps(x);
    for (int i = 0; i < 2; ++i) r = fma(r, _mm256_fnmadd_ps(x, r, set1(1.f)), r);
    return r;
  }
  static F abs(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), x); }
  // The instructions return their second operand where either is NaN: the constant
  // comes first, so that a NaN in x is kept.
  static F max(F constant, F x) { return _mm256_max_ps(constant, x); }
  static F min(F constant, F x) { return _mm256_min_ps(constant, x); }
  static F select_nonnegative(F x, F yes, F no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, zero(), _CMP_GE_OQ));
  }
  // Whether any lane fails a < b; a NaN fails.
  static bool any_not_less(F a, F b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ)) != 0;
  }
  // x 2^k; the integer k is given alone and as a sum with the number that rounds.
  static constexpr float kLargestPower = 125;
  static F scale_by_power_of_two(F x, F, F rounded_with_magic) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(rounded_with_magic), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
  }

  // Four columns of eight rows, each gathered whole. Rows r and r + 4 share a register
  // straight from memory, so that only the steps within 128-bit halves need shuffles.
  static void load_columns(const T* from, int64_t stride, F columns[4]) {
    F r[4];
    for (int j = 0; j < 4; ++j)
      r[j] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + j * stride)),
                                  _mm_loadu_ps(from + (j + 4) * stride), 1);
    const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
    const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    columns[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
    columns[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
    columns[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
    columns[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
  }
  static void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    for (int c = 0; c < W; c += 4) {
      F columns[4];
      load_columns(from + c, from_stride, columns);
      for (int j = 0; j < 4; ++j) store(to + (c + j) * to_stride, columns[j]);
    }
  }
  // to[i] = the sum of the lanes of vector i.
  static void sum_lanes(const T* vectors, T* to) {
    F low[4], high[4];
    load_columns(vectors, W, low);
    load_columns(vectors + 4, W, high);
    for (int j = 0; j < 4; ++j) low[j] = add(low[j], high[j]);
    store(to, add(add(low[0], low[1]), add(low[2], low[3])));
  }

  static F from_half(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F from_bfloat(const uint16_t* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static void to_half(uint16_t* p, F x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  // Round to nearest, ties to even; a NaN becomes the quiet NaN.
  static void to_bfloat(uint16_t* p, F x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan);
    rounded = _mm256_srli_epi32(rounded, 16);
    const __m256i packed = _mm256_packus_epi32(rounded, rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
  }
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
