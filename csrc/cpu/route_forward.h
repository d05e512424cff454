// The forward route scan: a tile of W channels of the map is packed once, walked along every
// sequence in turn, and what the walks produce is added up in a second tile.
//
// Nothing is gathered: a step reads and writes its position of the tiles. Sequences take
// turns in their order, so the sum does not depend on threads.
#pragma once

#include "route_walk.h"
#include "steps.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
class RouteForwardScan {
  using T = typename V::T;
  using F = typename V::F;
  using S = Staging<V>;
  using Tile = MapTile<V>;
  static constexpr int W = V::W;
  static constexpr int64_t kSteps = 2 * kCheckpointSteps;
  // Steps whose step sizes are formed together, in registers.
  static constexpr int kBlock = W == 16 ? 8 : 4;

 public:
  // `scratch` holds two tiles of the map.
  RouteForwardScan(const RouteForward& call, void* scratch)
      : call_(call),
        in_(call.in),
        walk_(in_),
        records_(in_),
        lanes_(in_),
        x_(static_cast<T*>(scratch)),
        sum_(x_ + Tile::size(in_)),
        state_(in_.states * W),
        dt_(kSteps * W),
        drive_(kSteps * W),
        y_(kSteps * W),
        rows_(Tile::kChunk * W) {}

  // Work items are batch x tiles, the last varying fastest.
  void run(int64_t begin, int64_t end) {
    // A walk without a table writes every position, so that the first one need not add to zeros.
    starts_sum_ = in_.states == 1 && in_.sequences > 0 && static_cast<Walk>(in_.walks[0]) != Walk::kTable;
    const int64_t tiles = (in_.dim + W - 1) / W;
    for (int64_t item = begin; item < end; ++item) {
      batch_ = item / tiles;
      channel_ = item % tiles * W;
      count_ = smaller(W, in_.dim - channel_);
      Tile::load(in_, in_.x, batch_, channel_, count_, x_, rows_.get());
      if (!starts_sum_) Tile::clear(in_, sum_);
      for (int64_t k = 0; k < in_.sequences; ++k) {
        if (k + 1 == in_.sequences) request_tiles(item + 1, item + 1 < end);
        run_sequence(k);
      }
      next_x_ = this_out_ = {};
      Tile::scale(in_, sum_);
      Tile::store(in_, call_.out, batch_, channel_, count_, sum_, rows_.get());
    }
  }

 private:
  // What the last sequence asks for while it walks.
  void request_tiles(int64_t next, bool is_mine) {
    const int64_t tiles = (in_.dim + W - 1) / W, channel = next % tiles * W;
    if (is_mine) next_x_ = TileRequest<V>(in_.x, next / tiles, channel, in_.dim - channel);
    this_out_ = TileRequest<V>(call_.out, batch_, channel_, count_);
  }

  void run_sequence(int64_t k) {
    sequence_ = k;
    lanes_.load(k, channel_, count_);
    memset(state_.get(), 0, in_.states * W * sizeof(T));
    for (int64_t t0 = 0; t0 < in_.length; t0 += kSteps) run_chunk(t0, smaller(kSteps, in_.length - t0));
  }

  void run_chunk(int64_t t0, int64_t steps) {
    walk_.stage(batch_, sequence_, t0, steps);
    records_.stage(batch_, sequence_, walk_.project, steps);
    given_ = nullptr;
    if (in_.delta.data != nullptr) {
      given_ = dt_.get();
      gather_delta<V>(in_, batch_, sequence_, channel_, count_, walk_.project, steps, dt_.get());
    }
    if (starts_sum_ && sequence_ == 0)
      run_single_state<true>(t0, steps);
    else if (in_.states == 1)
      run_single_state<false>(t0, steps);
    else
      run_states(t0, steps);
  }

  // With one state nothing needs to be kept between the loops: a step is finished at once.
  template <bool kStart>
  void run_single_state(int64_t t0, int64_t steps) {
    F h = V::load(state_.get());
    for (int64_t begin = 0; begin < steps; begin += kCheckpointSteps) {
      if (call_.checkpoints != nullptr && t0 + begin > 0) save_checkpoint(0, (t0 + begin) / kCheckpointSteps - 1, h);
      const int64_t end = smaller(steps, begin + kCheckpointSteps);
      int64_t t = begin;
      for (; t + kBlock <= end; t += kBlock) {
        next_x_.template ask<0, kBlock>(t0 + t);
        this_out_.template ask<1, kBlock>(t0 + t);
        h = finish_steps<kBlock, kStart>(t, h);
      }
      for (; t < end; ++t) h = finish_steps<1, kStart>(t, h);
    }
    V::store(state_.get(), h);
  }

  template <int kCount, bool kStart>
  F finish_steps(int64_t t, F h) {
    F dt[kCount], a[kCount];
    if (lanes_.template common_steps<kCount, false>(records_.get() + t, given_at(t), dt, nullptr, a))
      return advance<kCount, kStart>(t, dt, a, h);
    if constexpr (V::kLookups) return finish_rare_steps<kCount, kStart>(t, h);
    return finish_any_steps<kCount, kStart>(t, h);
  }

  // Out of line, so that the common case keeps its values in registers.
  template <int kCount, bool kStart>
  [[gnu::noinline]] F finish_rare_steps(int64_t t, F h) {
    return finish_any_steps<kCount, kStart>(t, h);
  }

  template <int kCount, bool kStart>
  F finish_any_steps(int64_t t, F h) {
    F dt[kCount], a[kCount];
    lanes_.template step_sizes<kCount, false>(records_.get() + t, given_at(t), dt, nullptr);
    decays<V, kCount>(dt, lanes_.rate(0), a);
    return advance<kCount, kStart>(t, dt, a, h);
  }

  template <int kCount, bool kStart>
  [[gnu::always_inline]] F advance(int64_t t, const F* dt, const F* a, F h) {
    const T* const* records = records_.get() + t;
    const int32_t *read = walk_.read + t, *write = walk_.write + t;
    const T* x = x_;
    T* sum = sum_;
    const F skip = lanes_.skip;
    const int64_t at_B = in_.rank, at_C = at_B + 1;
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const F u = V::load(x + int64_t{read[i]} * W);
      h = V::fma(a[i], h, V::mul(V::mul(dt[i], u), V::set1(records[i][at_B])));
      const F y = V::fma(h, V::set1(records[i][at_C]), V::mul(skip, u));
      T* to = sum + int64_t{write[i]} * W;
      V::store(to, kStart ? y : V::add(V::load(to), y));
    }
    return h;
  }

  const T* given_at(int64_t t) const { return given_ == nullptr ? nullptr : given_ + t * W; }

  void run_states(int64_t t0, int64_t steps) {
    StepRange<V> range;
    int64_t t = 0;
    for (; t + kBlock <= steps; t += kBlock) prepare_steps<kBlock>(t, range);
    for (; t < steps; ++t) prepare_steps<1>(t, range);
    if (in_.states == 0) {
      for (t = 0; t < steps; ++t) add_output(t, V::mul(lanes_.skip, x_at(t)));
      return;
    }
    for (int64_t n = 0; n < in_.states;) {
      const int64_t left = in_.states - n;
      n += left >= 2 ? pick_range<2>(n, t0, steps, range) : pick_range<1>(n, t0, steps, range);
    }
  }

  template <int kCount>
  void prepare_steps(int64_t t, StepRange<V>& range) {
    F dt[kCount];
    lanes_.template step_sizes<kCount, false>(records_.get() + t, given_at(t), dt, nullptr);
    const int32_t* read = walk_.read + t;
    const T* x = x_;
    T *dt_out = dt_.get() + t * W, *drive = drive_.get() + t * W;
    for (int i = 0; i < kCount; ++i) {
      range.include(dt[i]);
      V::store(dt_out + i * W, dt[i]);
      V::store(drive + i * W, V::mul(dt[i], V::load(x + int64_t{read[i]} * W)));
    }
  }

  template <int kStates>
  int pick_range(int64_t n, int64_t t0, int64_t steps, const StepRange<V>& range) {
    bool fast = true;
    for (int i = 0; i < kStates; ++i) fast = fast && range.fits_fast_exponential(lanes_.rate(n + i));
    if (fast)
      pick_place<kStates, true>(n, t0, steps);
    else
      pick_place<kStates, false>(n, t0, steps);
    return kStates;
  }

  template <int kStates, bool kFast>
  void pick_place(int64_t n, int64_t t0, int64_t steps) {
    const bool first = n == 0, last = n + kStates == in_.states;
    if (first && last)
      sweep<kStates, kFast, true, true>(n, t0, steps);
    else if (first)
      sweep<kStates, kFast, true, false>(n, t0, steps);
    else if (last)
      sweep<kStates, kFast, false, true>(n, t0, steps);
    else
      sweep<kStates, kFast, false, false>(n, t0, steps);
  }

  // The first states start the output from the skip term, the last ones add it to the map.
  template <int kStates, bool kFast, bool kFirst, bool kLast>
  void sweep(int64_t n, int64_t t0, int64_t steps) {
    F h[kStates], rate[kStates];
    for (int i = 0; i < kStates; ++i) {
      h[i] = V::load(state_.get() + (n + i) * W);
      rate[i] = lanes_.rate(n + i);
    }
    const F skip = lanes_.skip;
    const T *dt = dt_.get(), *drive = drive_.get();
    const T* const* records = records_.get();
    T* y = y_.get();
    const int64_t at_B = in_.rank + n, at_C = at_B + in_.states;
    for (int64_t begin = 0; begin < steps; begin += kCheckpointSteps) {
      if (call_.checkpoints != nullptr && t0 + begin > 0)
        for (int i = 0; i < kStates; ++i) save_checkpoint(n + i, (t0 + begin) / kCheckpointSteps - 1, h[i]);
      const int64_t end = smaller(steps, begin + kCheckpointSteps);
      for (int64_t t = begin; t < end; ++t) {
        const T *B = records[t] + at_B, *C = records[t] + at_C;
        const F dt_t = V::load(dt + t * W), drive_t = V::load(drive + t * W);
        F y_t = kFirst ? V::mul(skip, x_at(t)) : V::load(y + t * W);
#pragma GCC unroll 4
        for (int i = 0; i < kStates; ++i) {
          h[i] = V::fma(decay<V, kFast>(dt_t, rate[i]), h[i], V::mul(drive_t, V::set1(B[i])));
          y_t = V::fma(h[i], V::set1(C[i]), y_t);
        }
        if constexpr (kLast)
          add_output(t, y_t);
        else
          V::store(y + t * W, y_t);
      }
    }
    for (int i = 0; i < kStates; ++i) V::store(state_.get() + (n + i) * W, h[i]);
  }

  F x_at(int64_t t) const { return V::load(x_ + int64_t{walk_.read[t]} * W); }

  void add_output(int64_t t, F y) {
    T* to = sum_ + int64_t{walk_.write[t]} * W;
    V::store(to, V::add(V::load(to), y));
  }

  void save_checkpoint(int64_t n, int64_t i, F h) {
    V::store(static_cast<T*>(call_.checkpoints) + in_.checkpoint_at(batch_, sequence_, channel_, i, n), h);
  }

  const RouteForward& call_;
  const RouteProblem& in_;
  WalkSteps<kSteps> walk_;
  RecordSteps<V, kSteps> records_;
  RouteLanes<V> lanes_;
  T *const x_, *const sum_;
  Buffer<T> state_, dt_, drive_, y_, rows_;
  TileRequest<V> next_x_, this_out_;
  bool starts_sum_ = false;   // whether the first sequence's outputs are stored, not added
  const T* given_ = nullptr;  // delta of the chunk's steps, where it is given
  int64_t batch_ = 0, sequence_ = 0, channel_ = 0, count_ = 0;
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
