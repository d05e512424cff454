// The backward pass, from the last chunk to the first.
//
// A chunk is cut into windows of kCheckpointSteps, small enough for the first-level cache.
// In a window the states and their decays are computed again from the checkpoint; then
// the adjoint runs backwards. With s the adjoint that arrives from the later step,
//
//   g = dy C + s,   s' = g a,   q = s' h_{t-1}
//   dC += dy h   dB += g dt u   dA += q dt   du += g B dt   ddt += g B u + q A
//
// A work item is a block of channels of one group of one batch item. Two tiles go
// through the steps together: the sums over channels that dB and dC need are then formed
// in registers first, and two independent recurrences hide each other's latency.
#pragma once

#include "steps.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
class BackwardScan {
  using T = typename V::T;
  using F = typename V::F;
  using M = Math<V>;
  using S = Staging<V>;
  static constexpr int W = V::W;
  static constexpr int64_t kWindow = kCheckpointSteps;
  static constexpr int64_t kSteps = 8 * kWindow;  // a chunk
  static constexpr int64_t kWindowTile = kWindow * W;
  // One window more than a chunk needs: else the same window of all arrays would fall on
  // the same lines of the first-level cache.
  static constexpr int64_t kTile = (kSteps + kWindow) * W;

 public:
  explicit BackwardScan(const Backward& call)
      : call_(call),
        in_(call.in),
        tiles_((call.block + W - 1) / W),
        B_(in_.B, in_.states, kSteps),
        C_(in_.C, in_.states, kSteps),
        A_(tiles_ * in_.states * W),
        rate_(tiles_ * in_.states * W),
        fixed_B_(tiles_ * in_.states * W),
        fixed_C_(tiles_ * in_.states * W),
        adjoint_(tiles_ * in_.states * W),
        dA_(tiles_ * in_.states * W),
        dfixed_B_(tiles_ * in_.states * W),
        dfixed_C_(tiles_ * in_.states * W),
        dD_(tiles_ * W),
        dbias_(tiles_ * W),
        arrays_(9 * 2 * kTile),
        a_(2 * kWindowTile),
        h_(2 * (kWindowTile + W)),
        dB_vectors_(kWindowTile),
        dC_vectors_(kWindowTile),
        dB_rows_(in_.states * kSteps),
        dC_rows_(in_.states * kSteps),
        rows_(kTile) {}

  // Work items are batch x groups x blocks of a group, the last varying fastest.
  void run(int64_t begin, int64_t end) {
    const int64_t per_group = in_.channels_per_group(), blocks = call_.blocks_per_group();
    for (int64_t item = begin; item < end; ++item) {
      block_ = item % blocks;
      group_ = item / blocks % in_.groups;
      batch_ = item / blocks / in_.groups;
      first_channel_ = group_ * per_group + block_ * call_.block;
      channels_ = smaller(call_.block, per_group - block_ * call_.block);
      run_block();
    }
  }

 private:
  void run_block() {
    const int64_t tiles = (channels_ + W - 1) / W;
    for (int64_t i = 0; i < tiles; ++i) begin_tile(i);
    for (int64_t t0 = (in_.length - 1) / kSteps * kSteps; t0 >= 0; t0 -= kSteps) {
      const int64_t steps = smaller(kSteps, in_.length - t0);
      B_.stage(batch_, group_, t0, steps);
      C_.stage(batch_, group_, t0, steps);
      memset(dB_rows_.get(), 0, in_.states * kSteps * sizeof(T));
      memset(dC_rows_.get(), 0, in_.states * kSteps * sizeof(T));
      int64_t tile = 0;
      for (; tile + 2 <= tiles; tile += 2) run_strip<2>(tile, t0, steps);
      for (; tile < tiles; ++tile) run_strip<1>(tile, t0, steps);
      if (in_.B.varies) write_projection_rows(dB_rows_.get(), call_.grad_B, t0, steps);
      if (in_.C.varies) write_projection_rows(dC_rows_.get(), call_.grad_C, t0, steps);
    }
    for (int64_t i = 0; i < tiles; ++i) end_tile(i);
  }

  int64_t channel(int64_t tile) const { return first_channel_ + tile * W; }
  int64_t lanes(int64_t tile) const { return smaller(W, channels_ - tile * W); }
  int64_t slot(int64_t tile, int64_t n) const { return (tile * in_.states + n) * W; }

  void begin_tile(int64_t i) {
    for (int64_t n = 0; n < in_.states; ++n) {
      load_parameter(in_.A, i, n, A_);
      for (int j = 0; j < W; ++j) rate_[slot(i, n) + j] = M::rate(A_[slot(i, n) + j]);
      load_parameter(in_.fixed_B, i, n, fixed_B_);
      load_parameter(in_.fixed_C, i, n, fixed_C_);
      const int64_t first = (batch_ * in_.dim + channel(i)) * in_.states + n;
      V::store(adjoint_.get() + slot(i, n), S::load_lanes(call_.grad_last_state, first, in_.states, lanes(i)));
      V::store(dA_.get() + slot(i, n), V::zero());
      V::store(dfixed_B_.get() + slot(i, n), V::zero());
      V::store(dfixed_C_.get() + slot(i, n), V::zero());
    }
    V::store(dD_.get() + i * W, V::zero());
    V::store(dbias_.get() + i * W, V::zero());
  }

  void load_parameter(const void* from, int64_t tile, int64_t n, Buffer<T>& to) {
    V::store(to.get() + slot(tile, n),
             S::load_lanes(from, channel(tile) * in_.states + n, in_.states, lanes(tile)));
  }

  void end_tile(int64_t i) {
    for (int64_t n = 0; n < in_.states; ++n) {
      store_state_sum(dA_, call_.grad_A, i, n);
      if (!in_.B.varies) store_state_sum(dfixed_B_, call_.grad_fixed_B, i, n);
      if (!in_.C.varies) store_state_sum(dfixed_C_, call_.grad_fixed_C, i, n);
    }
    const int64_t first = batch_ * in_.dim + channel(i);
    if (in_.D != nullptr) S::store_lanes(call_.grad_D, first, 1, lanes(i), dD_.get() + i * W);
    if (in_.bias != nullptr) S::store_lanes(call_.grad_bias, first, 1, lanes(i), dbias_.get() + i * W);
  }

  void store_state_sum(Buffer<T>& sum, void* to, int64_t tile, int64_t n) {
    const int64_t first = (batch_ * in_.dim + channel(tile)) * in_.states + n;
    S::store_lanes(to, first, in_.states, lanes(tile), sum.get() + slot(tile, n));
  }

  void write_projection_rows(const T* rows, void* to, int64_t t0, int64_t steps) {
    T* first = static_cast<T*>(to) +
               ((block_ * in_.batch + batch_) * in_.groups + group_) * in_.states * in_.length + t0;
    for (int64_t n = 0; n < in_.states; ++n)
      memcpy(first + n * in_.length, rows + n * kSteps, steps * sizeof(T));
  }

  template <int kTiles>
  void run_strip(int64_t tile, int64_t t0, int64_t steps) {
    StepRange<V> ranges[kTiles];
    for (int i = 0; i < kTiles; ++i) ranges[i] = load_strip_tile(tile + i, i, t0, steps);
    for (int64_t begin = (steps - 1) / kWindow * kWindow; begin >= 0; begin -= kWindow)
      run_window<kTiles>(tile, t0, begin, smaller(kWindow, steps - begin), ranges);
    for (int i = 0; i < kTiles; ++i) finish_strip_tile(tile + i, i, t0, steps);
  }

  // Steps t0 + begin ... of the sequence, begin ... of the chunk.
  template <int kTiles>
  void run_window(int64_t tile, int64_t t0, int64_t begin, int64_t steps, const StepRange<V>* ranges) {
    for (int64_t n = 0; n < in_.states; ++n) {
      bool fast = true;
      F rates[kTiles];
      for (int i = 0; i < kTiles; ++i) {
        rates[i] = V::load(rate_.get() + slot(tile + i, n));
        fast = fast && ranges[i].fits_fast_exponential(rates[i]);
        load_checkpoint(tile + i, i, n, (t0 + begin) / kWindow);
      }
      if (fast)
        recompute<kTiles, true>(rates, tile, n, begin, steps);
      else
        recompute<kTiles, false>(rates, tile, n, begin, steps);
      if (in_.z.data != nullptr)
        for (int i = 0; i < kTiles; ++i) add_output(tile + i, i, n, begin, steps);
      if (in_.B.varies && in_.C.varies)
        reverse<kTiles, true, true>(tile, n, begin, steps);
      else if (in_.B.varies)
        reverse<kTiles, true, false>(tile, n, begin, steps);
      else if (in_.C.varies)
        reverse<kTiles, false, true>(tile, n, begin, steps);
      else
        reverse<kTiles, false, false>(tile, n, begin, steps);
      if (in_.B.varies) add_lane_sums(dB_vectors_.get(), dB_rows_.get() + n * kSteps + begin, steps);
      if (in_.C.varies) add_lane_sums(dC_vectors_.get(), dC_rows_.get() + n * kSteps + begin, steps);
    }
  }

  StepRange<V> load_strip_tile(int64_t tile, int i, int64_t t0, int64_t steps) {
    T *u = u_tiles() + i * kTile, *dt = dt_tiles() + i * kTile, *dy = dy_tiles() + i * kTile;
    const int64_t c0 = channel(tile), count = lanes(tile);
    S::load_tile(in_.u, batch_, c0, count, t0, steps, u, rows_.get());
    S::load_tile(in_.delta, batch_, c0, count, t0, steps, dt, rows_.get());
    S::load_tile(call_.grad_out, batch_, c0, count, t0, steps, dy, rows_.get());
    const F bias = S::load_lanes(in_.bias, c0, 1, count);
    const auto range = step_sizes<V, true>(dt, slope_tiles() + i * kTile, bias, in_.softplus, steps);
    if (in_.z.data != nullptr) undo_gate(tile, i, t0, steps);
    for (int64_t t = 0; t < steps; ++t)
      V::store(drive_tiles() + i * kTile + t * W, V::mul(V::load(dt + t * W), V::load(u + t * W)));
    memset(gB_tiles() + i * kTile, 0, steps * W * sizeof(T));
    memset(qA_tiles() + i * kTile, 0, steps * W * sizeof(T));
    return range;
  }

  // out = y SiLU(z): dy becomes the gradient of y. The gradient of z is grad_out y SiLU'(z);
  // y is still to be summed up over the states, the other factors wait in gate_slope_.
  void undo_gate(int64_t tile, int i, int64_t t0, int64_t steps) {
    T *dy = dy_tiles() + i * kTile, *y = y_tiles() + i * kTile, *z_tile = gB_tiles() + i * kTile;
    S::load_tile(in_.z, batch_, channel(tile), lanes(tile), t0, steps, z_tile, rows_.get());
    const F skip = S::load_lanes(in_.D, channel(tile), 1, lanes(tile)), one = V::set1(1);
    T* gate_slope = gate_slope_tiles() + i * kTile;
    for (int64_t t = 0; t < steps; ++t) {
      const F z = V::load(z_tile + t * W), grad = V::load(dy + t * W);
      const F logistic = M::logistic(z);
      const F slope = V::mul(logistic, V::fma(z, V::sub(one, logistic), one));
      V::store(gate_slope + t * W, V::mul(grad, slope));
      V::store(dy + t * W, V::mul(grad, V::mul(z, logistic)));
      V::store(y + t * W, V::mul(skip, V::load(u_tiles() + i * kTile + t * W)));
    }
  }

  void load_checkpoint(int64_t tile, int i, int64_t n, int64_t k) {
    T* h = h_.get() + i * (kWindowTile + W);
    if (k == 0) {
      V::store(h, V::zero());
      return;
    }
    const int64_t offset = block_ * call_.block + tile * W;
    V::store(h, V::load(static_cast<const T*>(call_.checkpoints) +
                        in_.checkpoint_at(batch_, group_, offset, k - 1, n)));
  }

  // From the state before the window, h_[0], the states after each step and the decays.
  template <int kTiles, bool kFast>
  void recompute(const F* rates, int64_t tile, int64_t n, int64_t begin, int64_t steps) {
    F h[kTiles], rate[kTiles], b[kTiles];
    for (int i = 0; i < kTiles; ++i) {
      rate[i] = rates[i];
      h[i] = V::load(h_.get() + i * (kWindowTile + W));
      b[i] = V::load(fixed_B_.get() + slot(tile + i, n));
    }
    const bool varies = in_.B.varies;
    const T* b_row = varies ? B_.row(n) + begin : nullptr;
    const T *dt = dt_tiles() + begin * W, *drive = drive_tiles() + begin * W;
    T *a_out = a_.get(), *h_out = h_.get() + W;
    for (int64_t t = 0; t < steps; ++t) {
      const F b_t = varies ? V::set1(b_row[t]) : V::zero();
#pragma GCC unroll 2
      for (int i = 0; i < kTiles; ++i) {
        const F a = decay<V, kFast>(V::load(dt + i * kTile + t * W), rate[i]);
        h[i] = V::fma(a, h[i], V::mul(V::load(drive + i * kTile + t * W), varies ? b_t : b[i]));
        V::store(a_out + i * kWindowTile + t * W, a);
        V::store(h_out + i * (kWindowTile + W) + t * W, h[i]);
      }
    }
  }

  // y += C h, for the gradient of the gate.
  void add_output(int64_t tile, int i, int64_t n, int64_t begin, int64_t steps) {
    const F c = V::load(fixed_C_.get() + slot(tile, n));
    const T* h = h_.get() + i * (kWindowTile + W) + W;
    T* y = y_tiles() + i * kTile + begin * W;
    for (int64_t t = 0; t < steps; ++t) {
      const F c_t = in_.C.varies ? V::set1(C_.row(n)[begin + t]) : c;
      V::store(y + t * W, V::fma(c_t, V::load(h + t * W), V::load(y + t * W)));
    }
  }

  template <int kTiles, bool kVaryingB, bool kVaryingC>
  void reverse(int64_t tile, int64_t n, int64_t begin, int64_t steps) {
    F s[kTiles], A[kTiles], dA[kTiles], b[kTiles], c[kTiles], db[kTiles], dc[kTiles];
    for (int i = 0; i < kTiles; ++i) {
      const int64_t at = slot(tile + i, n);
      s[i] = V::load(adjoint_.get() + at);
      A[i] = V::load(A_.get() + at);
      dA[i] = db[i] = dc[i] = V::zero();
      b[i] = V::load(fixed_B_.get() + at);
      c[i] = V::load(fixed_C_.get() + at);
    }
    const T* b_row = kVaryingB ? B_.row(n) + begin : nullptr;
    const T* c_row = kVaryingC ? C_.row(n) + begin : nullptr;
    const int64_t first = begin * W;
    const T *dt = dt_tiles() + first, *drive = drive_tiles() + first, *dy = dy_tiles() + first;
    const T *a = a_.get(), *h = h_.get();
    T *gB = gB_tiles() + first, *qA = qA_tiles() + first;
    T *dB = dB_vectors_.get(), *dC = dC_vectors_.get();
    F h_after[kTiles];
    for (int i = 0; i < kTiles; ++i) h_after[i] = V::load(h + i * (kWindowTile + W) + steps * W);
    for (int64_t t = steps - 1; t >= 0; --t) {
      const F b_t = kVaryingB ? V::set1(b_row[t]) : V::zero();
      const F c_t = kVaryingC ? V::set1(c_row[t]) : V::zero();
      F dB_t = V::zero(), dC_t = V::zero();
#pragma GCC unroll 2
      for (int i = 0; i < kTiles; ++i) {
        const int64_t at = i * kTile + t * W;
        const F dy_t = V::load(dy + at), drive_t = V::load(drive + at);
        const F h_t = h_after[i], h_before = V::load(h + i * (kWindowTile + W) + t * W);
        h_after[i] = h_before;
        const F g = V::fma(dy_t, kVaryingC ? c_t : c[i], s[i]);
        if constexpr (kVaryingC) dC_t = i == 0 ? V::mul(dy_t, h_t) : V::fma(dy_t, h_t, dC_t);
        else dc[i] = V::fma(dy_t, h_t, dc[i]);
        if constexpr (kVaryingB) dB_t = i == 0 ? V::mul(g, drive_t) : V::fma(g, drive_t, dB_t);
        else db[i] = V::fma(g, drive_t, db[i]);
        s[i] = V::mul(g, V::load(a + i * kWindowTile + t * W));
        const F q = V::mul(s[i], h_before);
        dA[i] = V::fma(q, V::load(dt + at), dA[i]);
        V::store(gB + at, V::fma(g, kVaryingB ? b_t : b[i], V::load(gB + at)));
        V::store(qA + at, V::fma(q, A[i], V::load(qA + at)));
      }
      if constexpr (kVaryingB) V::store(dB + t * W, dB_t);
      if constexpr (kVaryingC) V::store(dC + t * W, dC_t);
    }
    for (int i = 0; i < kTiles; ++i) {
      const int64_t at = slot(tile + i, n);
      V::store(adjoint_.get() + at, s[i]);
      add_to(dA_.get() + at, dA[i]);
      if constexpr (!kVaryingB) add_to(dfixed_B_.get() + at, db[i]);
      if constexpr (!kVaryingC) add_to(dfixed_C_.get() + at, dc[i]);
    }
  }

  static void add_to(T* sum, F x) { V::store(sum, V::add(V::load(sum), x)); }

  // Whole vectors of steps; what lies behind the last step is never read.
  static void add_lane_sums(const T* vectors, T* row, int64_t steps) {
    for (int64_t t = 0; t < steps; t += W) {
      alignas(64) T sums[W];
      V::sum_lanes(vectors + t * W, sums);
      add_to(row + t, V::load(sums));
    }
  }

  void finish_strip_tile(int64_t tile, int i, int64_t t0, int64_t steps) {
    T *u = u_tiles() + i * kTile, *dt = dt_tiles() + i * kTile, *dy = dy_tiles() + i * kTile;
    T *gB = gB_tiles() + i * kTile, *qA = qA_tiles() + i * kTile, *slope = slope_tiles() + i * kTile;
    const int64_t c0 = channel(tile), count = lanes(tile);
    const F skip = S::load_lanes(in_.D, c0, 1, count);
    F dD = V::zero(), dbias = V::zero();
    for (int64_t t = 0; t < steps * W; t += W) {
      const F u_t = V::load(u + t), gB_t = V::load(gB + t), dy_t = V::load(dy + t);
      dD = V::fma(dy_t, u_t, dD);
      const F ddelta = V::mul(V::fma(gB_t, u_t, V::load(qA + t)), V::load(slope + t));
      dbias = V::add(dbias, ddelta);
      V::store(gB + t, V::fma(gB_t, V::load(dt + t), V::mul(skip, dy_t)));
      V::store(qA + t, ddelta);
    }
    add_to(dD_.get() + tile * W, dD);
    add_to(dbias_.get() + tile * W, dbias);
    S::store_tile(call_.grad_u, batch_, c0, count, t0, steps, gB, rows_.get());
    S::store_tile(call_.grad_delta, batch_, c0, count, t0, steps, qA, rows_.get());
    if (in_.z.data == nullptr) return;
    T *y = y_tiles() + i * kTile, *gate_slope = gate_slope_tiles() + i * kTile;
    for (int64_t t = 0; t < steps * W; t += W) V::store(y + t, V::mul(V::load(y + t), V::load(gate_slope + t)));
    S::store_tile(call_.grad_z, batch_, c0, count, t0, steps, y, rows_.get());
  }

  // One vector a step, for the two tiles of a strip.
  T* dt_tiles() { return arrays_.get() + 0 * 2 * kTile; }
  T* drive_tiles() { return arrays_.get() + 1 * 2 * kTile; }
  T* dy_tiles() { return arrays_.get() + 2 * 2 * kTile; }
  T* gB_tiles() { return arrays_.get() + 3 * 2 * kTile; }
  T* qA_tiles() { return arrays_.get() + 4 * 2 * kTile; }
  T* u_tiles() { return arrays_.get() + 5 * 2 * kTile; }
  T* slope_tiles() { return arrays_.get() + 6 * 2 * kTile; }
  T* y_tiles() { return arrays_.get() + 7 * 2 * kTile; }
  T* gate_slope_tiles() { return arrays_.get() + 8 * 2 * kTile; }

  const Backward& call_;
  const Problem& in_;
  const int64_t tiles_;
  ProjectionRows<V> B_, C_;
  // One vector a tile and state, or a tile.
  Buffer<T> A_, rate_, fixed_B_, fixed_C_, adjoint_, dA_, dfixed_B_, dfixed_C_, dD_, dbias_;
  // One vector a step, for the two tiles of a strip.
  Buffer<T> arrays_, a_, h_;
  Buffer<T> dB_vectors_, dC_vectors_, dB_rows_, dC_rows_, rows_;
  int64_t batch_ = 0, group_ = 0, block_ = 0, first_channel_ = 0, channels_ = 0;
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
