// Softplus from tables: one polynomial for each of the 32 unit intervals around the integers
// from -20 to 11, the coefficients picked by the vector permutation of AVX-512. That takes
// half the operations of an exponential and a logarithm.
#pragma once

namespace mamba_mm {
namespace MAMBA_MM_ISA {

// The tables are computed by the compiler, whose library functions are no constant expressions.
namespace constant {

constexpr double cosine(double x) {
  double sum = 1, term = 1;
  for (int i = 2; i < 40; i += 2) sum += term *= -x * x / (i * (i - 1));
  return sum;
}

// exp(-z) for z >= 0.
constexpr double decay(double z) {
  double sum = 1, term = 1;
  for (int i = 1; i < 20; ++i) sum += term *= z / 64 / i;
  for (int i = 0; i < 6; ++i) sum *= sum;
  return 1 / sum;
}

// log(1 + t) = 2 artanh(t / (2 + t)).
constexpr double log1p(double t) {
  const double s = t / (2 + t);
  double sum = 0, power = s;
  for (int i = 1; i < 50; i += 2, power *= s * s) sum += power / i;
  return 2 * sum;
}

constexpr double softplus(double z) { return z < 0 ? log1p(decay(-z)) : z + log1p(decay(z)); }
constexpr double sigmoid(double z) { return z < 0 ? decay(-z) / (1 + decay(-z)) : 1 / (1 + decay(z)); }

// The polynomial in z - center through a function's values at the Chebyshev nodes of the
// interval center +- 1/2, by Newton's divided differences.
template <int kTerms>
constexpr void interpolate(double (*function)(double), double center, double* terms) {
  double nodes[kTerms] = {}, differences[kTerms] = {};
  for (int i = 0; i < kTerms; ++i) {
    nodes[i] = 0.5 * cosine(3.14159265358979324 * (i + 0.5) / kTerms);
    differences[i] = function(center + nodes[i]);
  }
  for (int order = 1; order < kTerms; ++order)
    for (int i = kTerms - 1; i >= order; --i)
      differences[i] = (differences[i] - differences[i - 1]) / (nodes[i] - nodes[i - order]);
  for (int i = 0; i < kTerms; ++i) terms[i] = 0;
  for (int i = kTerms - 1; i >= 0; --i) {  // terms = terms (z - node) + difference
    for (int j = kTerms - 1; j > 0; --j) terms[j] = terms[j - 1] - nodes[i] * terms[j];
    terms[0] = differences[i] - nodes[i] * terms[0];
  }
}

}  // namespace constant

// The coefficients, lowest first, each as a row with one value an interval.
template <int kTerms>
struct PieceTable {
  static constexpr int kPieces = 32, kFirst = -20;
  alignas(64) float rows[kTerms][kPieces] = {};
};

// Relative error of a value 4e-8, before rounding.
constexpr int kValueTerms = 7;
constexpr PieceTable<kValueTerms> value_table() {
  PieceTable<kValueTerms> table;
  for (int i = 0; i < table.kPieces; ++i) {
    double terms[kValueTerms] = {};
    constant::interpolate<kValueTerms>(constant::softplus, table.kFirst + i, terms);
    for (int j = 0; j < kValueTerms; ++j) table.rows[j][i] = static_cast<float>(terms[j]);
  }
  return table;
}

// The integral of the sigmoid's polynomial, so that its derivative is as exact as its value.
constexpr int kSlopeTerms = 8;
constexpr PieceTable<kSlopeTerms> slope_table() {
  PieceTable<kSlopeTerms> table;
  for (int i = 0; i < table.kPieces; ++i) {
    double terms[kSlopeTerms - 1] = {};
    constant::interpolate<kSlopeTerms - 1>(constant::sigmoid, table.kFirst + i, terms);
    table.rows[0][i] = static_cast<float>(constant::softplus(table.kFirst + i));
    for (int j = 1; j < kSlopeTerms; ++j) table.rows[j][i] = static_cast<float>(terms[j - 1] / j);
  }
  return table;
}

constexpr PieceTable<kValueTerms> kSoftplusValues = value_table();
constexpr PieceTable<kSlopeTerms> kSoftplusSlopes = slope_table();

// No value of the last interval is larger.
constexpr float kLargestPiece = 11.6f;

// One coefficient of each vector's polynomials.
template <class V, int kCount>
[[gnu::always_inline]] inline void pick_terms(const float* row, const typename V::Index* index, typename V::F* terms) {
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) terms[i] = V::lookup(row, index[i]);
}

// In place, for z relative to the centers: the polynomials by Horner's scheme; with kSlopes also
// their derivatives, from its partial sums.
template <class V, int kCount, bool kSlopes, int kTerms>
[[gnu::always_inline]] inline void evaluate(const PieceTable<kTerms>& table, const typename V::Index* index,
                                            typename V::F* z, typename V::F* slopes) {
  typename V::F sum[kCount], terms[kCount];
  pick_terms<V, kCount>(table.rows[kTerms - 1], index, sum);
#pragma GCC unroll 8
  for (int j = kTerms - 2; j >= 0; --j) {
    pick_terms<V, kCount>(table.rows[j], index, terms);
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      if constexpr (kSlopes) slopes[i] = j == kTerms - 2 ? sum[i] : V::fma(slopes[i], z[i], sum[i]);
      sum[i] = V::fma(sum[i], z[i], terms[i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) z[i] = sum[i];
}

// In place: softplus(z) of kCount vectors, with kSlopes also its derivatives. False, and nothing
// is done, where an argument lies outside the intervals.
template <class V, int kCount, bool kSlopes>
[[gnu::always_inline]] inline bool softplus_by_pieces(typename V::F* z, typename V::F* slopes) {
  // Adding kMagic rounds to an integer and leaves the number of the interval in the low bits. It
  // is even, like kBase: both then round a half to the same side as V::fraction.
  constexpr float kBase = 12582912.f, kMagic = kBase - PieceTable<1>::kFirst;
  typename V::Index index[kCount], differences = V::zero_index();
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    index[i] = V::as_index(V::add(z[i], V::set1(kMagic)));
    differences = V::collect_differences(differences, index[i], V::as_index(V::set1(kBase)));
  }
  if (V::exceeds_table(differences)) return false;
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) z[i] = V::fraction(z[i]);
  if constexpr (kSlopes)
    evaluate<V, kCount, true>(kSoftplusSlopes, index, z, slopes);
  else
    evaluate<V, kCount, false>(kSoftplusValues, index, z, nullptr);
  return true;
}

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
