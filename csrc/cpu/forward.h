// The forward pass: one tile of W channels walks along its sequence, chunk by chunk.
//
// Lanes are channels, so any number of states runs through the same code and nothing is
// ever summed across lanes. In a chunk the states take turns: each keeps its decay rate
// and its value in registers while it goes through all steps of the chunk.
#pragma once

#include "steps.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
class ForwardScan {
  using T = typename V::T;
  using F = typename V::F;
  using M = Math<V>;
  using S = Staging<V>;
  static constexpr int W = V::W;
  // Tensors are read and written in long chunks, which use a page of each row while its
  // address is known; states go through windows that the first-level cache holds.
  static constexpr int64_t kWindow = 2 * kCheckpointSteps;
  static constexpr int64_t kSteps = 8 * kWindow;

 public:
  explicit ForwardScan(const Forward& call)
      : call_(call),
        in_(call.in),
        B_(in_.B, in_.states, kSteps),
        C_(in_.C, in_.states, kSteps),
        rates_(in_.states * W),
        state_(in_.states * W),
        dt_(kSteps * W),
        drive_(kSteps * W),
        y_(kSteps * W),
        rows_(kSteps * W) {}

  // Work items are batch x groups x tiles of a group, the last varying fastest.
  void run(int64_t begin, int64_t end) {
    const int64_t per_group = in_.channels_per_group(), tiles = (per_group + W - 1) / W;
    for (int64_t item = begin; item < end; ++item) {
      group_ = item / tiles % in_.groups;
      batch_ = item / tiles / in_.groups;
      offset_ = item % tiles * W;
      channel_ = group_ * per_group + offset_;
      lanes_ = smaller(W, per_group - offset_);
      run_tile();
    }
  }

 private:
  void run_tile() {
    for (int64_t n = 0; n < in_.states; ++n) {
      alignas(64) T rate[W];
      V::store(rate, S::load_lanes(in_.A, channel_ * in_.states + n, in_.states, lanes_));
      for (int i = 0; i < W; ++i) rates_[n * W + i] = M::rate(rate[i]);
      V::store(state_.get() + n * W, V::zero());
    }
    skip_ = S::load_lanes(in_.D, channel_, 1, lanes_);
    bias_ = S::load_lanes(in_.bias, channel_, 1, lanes_);

    for (int64_t t0 = 0; t0 < in_.length; t0 += kSteps) run_chunk(t0, smaller(kSteps, in_.length - t0));

    for (int64_t n = 0; n < in_.states; ++n)
      S::store_lanes(call_.last_state, (batch_ * in_.dim + channel_) * in_.states + n, in_.states, lanes_,
                     state_.get() + n * W);
  }

  void run_chunk(int64_t t0, int64_t steps) {
    S::load_tile(in_.u, batch_, channel_, lanes_, t0, steps, drive_.get(), rows_.get());
    S::load_tile(in_.delta, batch_, channel_, lanes_, t0, steps, dt_.get(), rows_.get());
    const int64_t next = smaller(kSteps, in_.length - t0 - steps);
    S::template prefetch_tile<1>(call_.out, batch_, channel_, lanes_, t0, steps);
    S::template prefetch_tile<0>(in_.u, batch_, channel_, lanes_, t0 + steps, next);
    S::template prefetch_tile<0>(in_.delta, batch_, channel_, lanes_, t0 + steps, next);
    const auto range = step_sizes<V, false>(dt_.get(), nullptr, bias_, in_.softplus, steps);
    for (int64_t t = 0; t < steps; ++t) {
      const F u = V::load(drive_.get() + t * W);
      V::store(y_.get() + t * W, V::mul(skip_, u));
      V::store(drive_.get() + t * W, V::mul(V::load(dt_.get() + t * W), u));
    }

    B_.stage(batch_, group_, t0, steps);
    C_.stage(batch_, group_, t0, steps);
    for (int64_t begin = 0; begin < steps; begin += kWindow)
      run_window(t0, begin, smaller(steps, begin + kWindow), range);

    if (in_.z.data != nullptr) apply_gate(t0, steps);
    S::store_tile(call_.out, batch_, channel_, lanes_, t0, steps, y_.get(), rows_.get());
  }

  // Steps begin ... end - 1 of the chunk that starts at t0.
  void run_window(int64_t t0, int64_t begin, int64_t end, const StepRange<V>& range) {
    int64_t n = 0;
    for (; n + 2 <= in_.states; n += 2) run_states<2>(n, t0, begin, end, range);
    for (; n < in_.states; ++n) run_states<1>(n, t0, begin, end, range);
  }

  template <int kStates>
  void run_states(int64_t n, int64_t t0, int64_t begin, int64_t end, const StepRange<V>& range) {
    bool fast = true;
    for (int i = 0; i < kStates; ++i) fast = fast && range.fits_fast_exponential(rate(n + i));
    if (fast)
      pick_projections<kStates, true>(n, t0, begin, end);
    else
      pick_projections<kStates, false>(n, t0, begin, end);
  }

  template <int kStates, bool kFast>
  void pick_projections(int64_t n, int64_t t0, int64_t begin, int64_t end) {
    if (in_.B.varies && in_.C.varies)
      sweep<kStates, kFast, true, true>(n, t0, begin, end);
    else if (in_.B.varies)
      sweep<kStates, kFast, true, false>(n, t0, begin, end);
    else if (in_.C.varies)
      sweep<kStates, kFast, false, true>(n, t0, begin, end);
    else
      sweep<kStates, kFast, false, false>(n, t0, begin, end);
  }

  template <int kStates, bool kFast, bool kVaryingB, bool kVaryingC>
  void sweep(int64_t n, int64_t t0, int64_t window_begin, int64_t window_end) {
    F h[kStates], a[kStates], b[kStates], c[kStates];
    const T *b_row[kStates], *c_row[kStates];
    for (int i = 0; i < kStates; ++i) {
      h[i] = V::load(state_.get() + (n + i) * W);
      a[i] = rate(n + i);
      if constexpr (kVaryingB) b_row[i] = B_.row(n + i);
      else b[i] = S::load_lanes(in_.fixed_B, channel_ * in_.states + n + i, in_.states, lanes_);
      if constexpr (kVaryingC) c_row[i] = C_.row(n + i);
      else c[i] = S::load_lanes(in_.fixed_C, channel_ * in_.states + n + i, in_.states, lanes_);
    }
    const T *dt = dt_.get(), *drive = drive_.get();
    T* y = y_.get();
    for (int64_t begin = window_begin; begin < window_end; begin += kCheckpointSteps) {
      if (call_.checkpoints != nullptr && t0 + begin > 0)
        for (int i = 0; i < kStates; ++i) save_checkpoint(n + i, (t0 + begin) / kCheckpointSteps - 1, h[i]);
      const int64_t end = smaller(window_end, begin + kCheckpointSteps);
      for (int64_t t = begin; t < end; ++t) {
        const F dt_t = V::load(dt + t * W), drive_t = V::load(drive + t * W);
        F y_t = V::load(y + t * W);
#pragma GCC unroll 4
        for (int i = 0; i < kStates; ++i) {
          const F input = V::mul(drive_t, kVaryingB ? V::set1(b_row[i][t]) : b[i]);
          h[i] = V::fma(decay<V, kFast>(dt_t, a[i]), h[i], input);
          y_t = V::fma(h[i], kVaryingC ? V::set1(c_row[i][t]) : c[i], y_t);
        }
        V::store(y + t * W, y_t);
      }
    }
    for (int i = 0; i < kStates; ++i) V::store(state_.get() + (n + i) * W, h[i]);
  }

  void save_checkpoint(int64_t n, int64_t k, F h) {
    V::store(static_cast<T*>(call_.checkpoints) + in_.checkpoint_at(batch_, group_, offset_, k, n), h);
  }

  void apply_gate(int64_t t0, int64_t steps) {
    T* z_tile = drive_.get();  // no longer needed
    S::load_tile(in_.z, batch_, channel_, lanes_, t0, steps, z_tile, rows_.get());
    for (int64_t t = 0; t < steps; ++t) {
      const F z = V::load(z_tile + t * W);
      const F silu = V::mul(z, M::logistic(z));
      V::store(y_.get() + t * W, V::mul(V::load(y_.get() + t * W), silu));
    }
  }

  F rate(int64_t n) { return V::load(rates_.get() + n * W); }

  const Forward& call_;
  const Problem& in_;
  ProjectionRows<V> B_, C_;
  Buffer<T> rates_, state_, dt_, drive_, y_, rows_;
  F skip_, bias_;
  int64_t batch_ = 0, group_ = 0, offset_ = 0, channel_ = 0, lanes_ = 0;
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
