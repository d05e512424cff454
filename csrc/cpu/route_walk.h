// Where a sequence is at each step, and what it finds there.
#pragma once

#include "route_scan.h"
#include "steps.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

// The positions of up to kSteps steps of a sequence. A padded step is at the position behind
// the last one, where tiles keep zeros to read and a place to write what nobody reads.
template <int64_t kSteps>
class WalkSteps {
 public:
  explicit WalkSteps(const RouteProblem& problem) : in_(problem) {}

  void stage(int64_t b, int64_t k, int64_t t0, int64_t steps) {
    const auto walk = static_cast<Walk>(in_.walks[k]);
    if (walk == Walk::kTable) {
      copy(in_.read, b, k, t0, steps, read_);
      copy(in_.project, b, k, t0, steps, project_);
      copy(in_.write, b, k, t0, steps, write_);
      project = in_.project.data == in_.read.data ? read_ : project_;
      write = in_.write.data == in_.read.data ? read_ : write_;
      return;
    }
    const bool back = walk == Walk::kRowBack || walk == Walk::kColumnBack;
    // A reversed walk visits, as its step t, what the walk visits t steps before its end.
    const int64_t first = back ? in_.tokens - t0 - steps : t0;
    if (walk == Walk::kRow || walk == Walk::kRowBack)
      for (int64_t t = 0; t < steps; ++t) read_[t] = static_cast<int32_t>(first + t);
    else
      columns(first, steps);
    if (back)
      for (int64_t t = 0; t < steps / 2; ++t) {
        const int32_t early = read_[t];
        read_[t] = read_[steps - 1 - t];
        read_[steps - 1 - t] = early;
      }
    project = write = read_;
  }

  const int32_t* read = read_;
  const int32_t* project = read_;
  const int32_t* write = read_;

 private:
  void copy(const Table& from, int64_t b, int64_t k, int64_t t0, int64_t steps, int32_t* to) {
    const int32_t* row = from.steps(b, k) + t0;
    const auto pad = static_cast<int32_t>(in_.tokens);
    for (int64_t t = 0; t < steps; ++t) to[t] = row[t] < 0 ? pad : row[t];
  }

  void columns(int64_t first, int64_t steps) {
    const int64_t height = in_.height, width = in_.width;
    int64_t column = first / height, row = first % height;
    for (int64_t t = 0; t < steps; ++column, row = 0) {
      const int64_t count = smaller(height - row, steps - t);
      const int64_t position = row * width + column;
      for (int64_t i = 0; i < count; ++i) read_[t + i] = static_cast<int32_t>(position + i * width);
      t += count;
    }
  }

  const RouteProblem& in_;
  alignas(64) int32_t read_[kSteps], project_[kSteps], write_[kSteps];
};

// Pointers to the records of up to kSteps steps. Records that already are what is needed are
// used where they lie.
template <class V, int64_t kSteps>
class RecordSteps {
 public:
  using T = typename V::T;

  explicit RecordSteps(const RouteProblem& problem)
      : in_(problem),
        direct_(in_.params.dtype == dtype_of<T>() && in_.params.entry == 1),
        copy_(direct_ ? 0 : kSteps * in_.entries()),
        zeros_(in_.entries()) {}

  void stage(int64_t b, int64_t k, const int32_t* positions, int64_t steps) {
    const Records& params = in_.params;
    const int64_t first = b * params.batch + k * params.sequence;
    if (direct_) {
      const T *base = static_cast<const T*>(params.data) + first, *zeros = zeros_.get();
      const int64_t tokens = in_.tokens, stride = params.position;
      for (int64_t t = 0; t < steps; ++t) at_[t] = positions[t] == tokens ? zeros : base + positions[t] * stride;
      return;
    }
    for (int64_t t = 0; t < steps; ++t) {
      T* record = copy_.get() + t * in_.entries();
      at_[t] = record;
      if (positions[t] == in_.tokens)
        memset(record, 0, in_.entries() * sizeof(T));
      else
        Staging<V>::read_row(params.data, params.dtype, first + positions[t] * params.position, params.entry,
                             in_.entries(), record);
    }
  }

  const T* operator[](int64_t t) const { return at_[t]; }
  const T* const* get() const { return at_; }

 private:
  const RouteProblem& in_;
  const bool direct_;
  Buffer<T> copy_, zeros_;
  const T* at_[kSteps];
};

// What W channels of one sequence own: decay rates, skip, bias and the rows of the projection.
template <class V>
class RouteLanes {
  using T = typename V::T;
  using F = typename V::F;
  using S = Staging<V>;
  static constexpr int W = V::W;

 public:
  explicit RouteLanes(const RouteProblem& problem)
      : in_(problem), A_(in_.states * W), rates_(in_.states * W), weight_(in_.rank * W), rows_(W * longest()) {}

  void load(int64_t k, int64_t c0, int64_t lanes) {
    const int64_t channel = k * in_.dim + c0;
    load_columns(in_.A, channel, in_.states, lanes, A_.get());
    for (int64_t i = 0; i < in_.states * W; ++i) rates_[i] = Math<V>::rate(A_[i]);
    load_columns(in_.weight, channel, in_.rank, lanes, weight_.get());
    alignas(64) T missing[W];
    for (int i = 0; i < W; ++i) missing[i] = i < lanes ? 0 : -1;
    missing_ = V::load(missing);
    whole_ = lanes == W;
    skip = S::load_lanes(in_.D, channel, 1, lanes);
    bias = S::load_lanes(in_.bias, channel, 1, lanes);
    moderate_ = in_.softplus && in_.states == 1 && is_moderate<V>(rate(0));
  }

  F A(int64_t n) { return V::load(A_.get() + n * W); }
  F rate(int64_t n) { return V::load(rates_.get() + n * W); }

  // Delta of kCount steps: the bias and the projection W record, or what is given.
  template <int kCount>
  void deltas(const T* const* records, const T* given, F* dt) {
    for (int i = 0; i < kCount; ++i) dt[i] = given == nullptr ? bias : V::add(bias, V::load(given + i * W));
    const T* weight = weight_.get();
    for (int64_t r = 0; r < in_.rank; ++r) {
      const F w = V::load(weight + r * W);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) dt[i] = V::fma(w, V::set1(records[i][r]), dt[i]);
    }
  }

  // The step sizes of kCount steps, and with `slopes` their derivatives by delta.
  template <int kCount, bool kSlopes>
  void step_sizes(const T* const* records, const T* given, F* dt, F* slopes) {
    deltas<kCount>(records, given, dt);
    if (in_.softplus)
      Math<V>::template softplus<kCount, kSlopes>(dt, slopes);
    else if constexpr (kSlopes)
      for (int i = 0; i < kCount; ++i) slopes[i] = V::set1(1);
    quiet_missing<kCount>(dt);
  }

  // With one state, the step sizes of kCount steps, their derivatives and their decays: all in
  // registers, and only where the tables of softplus have them. Else it returns false.
  template <int kCount, bool kSlopes>
  [[gnu::always_inline]] bool common_steps(const T* const* records, const T* given, F* dt, F* slopes, F* a) {
    if constexpr (V::kLookups) {
      if (!moderate_) return false;
      deltas<kCount>(records, given, dt);
      if (!softplus_by_pieces<V, kCount, kSlopes>(dt, slopes)) return false;
      if constexpr (kSlopes) quiet_missing<kCount>(dt);  // only the backward pass sums over channels
      Math<V>::template exp2_products<kCount>(dt, rate(0), a);
      return true;
    }
    return false;
  }

  F skip, bias;

 private:
  // Lanes without a channel must stay finite, whatever the records hold: sums over channels run
  // over all lanes.
  template <int kCount>
  void quiet_missing(F* dt) const {
    if (!whole_)
      for (int i = 0; i < kCount; ++i) dt[i] = V::select_nonnegative(missing_, dt[i], V::zero());
  }

  int64_t longest() const { return in_.states > in_.rank ? in_.states : in_.rank; }

  // Rows of `count` values, one a channel, become columns.
  void load_columns(const void* from, int64_t channel, int64_t count, int64_t lanes, T* to) {
    const Rows rows{from, dtype_of<T>(), 0, count, 1};
    if (count > 0) S::load_tile(rows, 0, channel, lanes, 0, count, to, rows_.get());
  }

  const RouteProblem& in_;
  Buffer<T> A_, rates_, weight_, rows_;
  F missing_;  // negative in lanes without a channel
  bool whole_ = true;
  bool moderate_ = false;  // whether common step sizes leave the one state's decays in range
};

// The delta of some steps where it is given whole, as [step][W].
template <class V>
inline void gather_delta(const RouteProblem& in, int64_t b, int64_t k, int64_t c0, int64_t lanes,
                         const int32_t* positions, int64_t steps, typename V::T* delta) {
  using T = typename V::T;
  const Deltas& from = in.delta;
  const T* data = static_cast<const T*>(from.data) + b * from.batch + k * from.sequence + c0;
  for (int64_t t = 0; t < steps; ++t) {
    T* to = delta + t * V::W;
    if (lanes < V::W || positions[t] == in.tokens) V::store(to, V::zero());
    if (positions[t] == in.tokens) continue;
    if (lanes == V::W)
      V::store(to, V::load(data + positions[t] * from.position));
    else
      memcpy(to, data + positions[t] * from.position, lanes * sizeof(T));
  }
}

// A whole map of W channels as [position][W], and one position more for padded steps.
template <class V>
struct MapTile {
  using T = typename V::T;
  using S = Staging<V>;
  static constexpr int W = V::W;
  static constexpr int64_t kChunk = 256;  // a transposition touches a page of every row

  static int64_t size(const RouteProblem& in) { return (in.tokens + 1) * W; }

  // `rows` is scratch for kChunk * W elements.
  static void load(const RouteProblem& in, const Rows& from, int64_t b, int64_t c0, int64_t lanes, T* tile, T* rows) {
    for (int64_t p = 0; p < in.tokens; p += kChunk)
      S::load_tile(from, b, c0, lanes, p, smaller(kChunk, in.tokens - p), tile + p * W, rows);
    memset(tile + in.tokens * W, 0, W * sizeof(T));
  }

  static void scale(const RouteProblem& in, T* tile) {
    if (in.scale == 1) return;
    const auto scale = V::set1(static_cast<T>(in.scale));
    for (int64_t i = 0; i < in.tokens * W; i += W) V::store(tile + i, V::mul(scale, V::load(tile + i)));
  }

  static void store(const RouteProblem& in, const MutableRows& to, int64_t b, int64_t c0, int64_t lanes,
                    const T* tile, T* rows) {
    for (int64_t p = 0; p < in.tokens; p += kChunk)
      S::store_tile(to, b, c0, lanes, p, smaller(kChunk, in.tokens - p), tile + p * W, rows);
  }

  static void clear(const RouteProblem& in, T* tile) { memset(tile, 0, size(in) * sizeof(T)); }
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
