// Sixteen floats a register: AVX-512 F, BW, DQ and VL.
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
  static constexpr int W = 16;
  static constexpr bool kLookups = true;  // tables of 32 values in two registers
  using F = __m512;

  static F load(const T* p) { return _mm512_loadu_ps(p); }
  static void store(T* p, F v) { _mm512_storeu_ps(p, v); }
  static F set1(T x) { return _mm512_set1_ps(x); }
  static F zero() { return _mm512_setzero_ps(); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F fms(F a, F b, F c) { return _mm512_fmsub_ps(a, b, c); }
  // To float rounding: the processor's estimate of 14 bits and one step of Newton's method.
  static F reciprocal(F x) {
    const F r = _mm512_rcp14_ps(x);
    return fma(r, _mm512_fnmadd_ps(x, r, set1(1.f)), r);
  }
  static F abs(F x) { return _mm512_abs_ps(x); }
  // The instructions return their second operand where either is NaN: the constant
  // comes first, so that a NaN in x is kept.
  static F max(F constant, F x) { return _mm512_max_ps(constant, x); }
  static F min(F constant, F x) { return _mm512_min_ps(constant, x); }
  static F select_nonnegative(F x, F yes, F no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, zero(), _CMP_GE_OQ), no, yes);
  }
  // Whether any lane fails a < b; a NaN fails.
  static bool any_not_less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ) != 0; }
  // x 2^k; the integer k is given alone and as a sum with the number that rounds.
  static constexpr float kLargestPower = 1 << 21;
  static F scale_by_power_of_two(F x, F k, F) { return _mm512_scalef_ps(x, k); }

  using Index = __m512i;
  static Index zero_index() { return _mm512_setzero_si512(); }
  static Index as_index(F x) { return _mm512_castps_si512(x); }
  // The value at the low five bits of the index.
  static F lookup(const T* table, Index index) { return _mm512_permutex2var_ps(load(table), index, load(table + W)); }
  // seen | (a ^ b)
  static Index collect_differences(Index seen, Index a, Index b) {
    return _mm512_ternarylogic_epi32(seen, a, b, 0xf6);
  }
  static bool exceeds_table(Index index) { return _mm512_test_epi32_mask(index, _mm512_set1_epi32(~31)) != 0; }
  // x minus the nearest integer, which is the even one of two.
  static F fraction(F x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  // Four columns of sixteen rows, each gathered whole. Rows r, r + 4, r + 8 and r + 12
  // share a register straight from memory, so that only the steps within 128-bit
  // quarters need shuffles.
  static void load_columns(const T* from, int64_t stride, F columns[4]) {
    F r[4];
    for (int j = 0; j < 4; ++j) {
      r[j] = _mm512_castps128_ps512(_mm_loadu_ps(from + j * stride));
      r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from + (j + 4) * stride), 1);
      r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from + (j + 8) * stride), 2);
      r[j] = _mm512_insertf32x4(r[j], _mm_loadu_ps(from + (j + 12) * stride), 3);
    }
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1]));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3]));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    columns[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    columns[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    columns[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    columns[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
  static void transpose(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
    for (int c = 0; c < W; c += 4) {
      F columns[4];
      load_columns(from + c, from_stride, columns);
      for (int j = 0; j < 4; ++j) store(to + (c + j) * to_stride, columns[j]);
    }
  }
  // to[i] = the sum of the lanes of vector i. Each level adds pairs of vectors, so that one
  // vector then holds the partial sums of both.
  static void sum_lanes(const T* vectors, T* to) {
    F half[2][4], sum[4];
    for (int j = 0; j < 2; ++j)
      for (int i = 0; i < 4; ++i) {
        const F a = load(vectors + (8 * j + i) * W), b = load(vectors + (8 * j + i + 4) * W);
        half[j][i] = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
      }
    for (int i = 0; i < 4; ++i)
      sum[i] = add(_mm512_shuffle_f32x4(half[0][i], half[1][i], 0x88),
                   _mm512_shuffle_f32x4(half[0][i], half[1][i], 0xdd));
    // Quarters now hold four partial sums each of vectors i, i + 4, i + 8 and i + 12.
    F low[2];
    for (int i = 0; i < 2; ++i)
      low[i] = add(_mm512_unpacklo_ps(sum[2 * i], sum[2 * i + 1]), _mm512_unpackhi_ps(sum[2 * i], sum[2 * i + 1]));
    const __m512d x = _mm512_castps_pd(low[0]), y = _mm512_castps_pd(low[1]);
    store(to, add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y))));
  }

  static F from_half(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F from_bfloat(const uint16_t* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static void to_half(uint16_t* p, F x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  // Round to nearest, ties to even; a NaN becomes the quiet NaN.
  static void to_bfloat(uint16_t* p, F x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    rounded = _mm512_mask_blend_epi32(nan, rounded, _mm512_set1_epi32(0x7fc00000));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
  }
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
