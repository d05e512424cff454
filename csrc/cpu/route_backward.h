// The backward route scan, along every sequence from its last step to its first.
//
// As in backward.h, the states of a window are computed again from its checkpoint and the
// adjoint runs back through it, two tiles of W channels at a time. Gradients of the map add
// up in tiles; those of the records, which are sums over channels, are formed as rows of one
// window first and then added to the records' places in the block's partial sum.
#pragma once

#include "route_walk.h"
#include "steps.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
class RouteBackwardScan {
  using T = typename V::T;
  using F = typename V::F;
  using M = Math<V>;
  using S = Staging<V>;
  using Tile = MapTile<V>;
  static constexpr int W = V::W;
  static constexpr int kTiles = 2;  // of a strip
  static constexpr int64_t kSteps = kCheckpointSteps;
  static constexpr int64_t kTile = kSteps * W;
  static constexpr int kRowVectors = kSteps / W;
  // Sums a tile that the registers hold at once.
  static constexpr int kRanks = W == 16 ? 6 : 2;
  // Steps whose step sizes are formed together.
  static constexpr int kBlock = 4;

 public:
  // Tiles of the map that the scratch of a share holds: x, grad_out and grad_x of a strip.
  static constexpr int64_t kMapTiles = 3 * kTiles;

  RouteBackwardScan(const RouteBackward& call, void* scratch)
      : call_(call),
        in_(call.in),
        row_count_((in_.entries() + W - 1) / W * W),
        map_(static_cast<T*>(scratch)),
        walk_(in_),
        records_(in_),
        lanes_{RouteLanes<V>(in_), RouteLanes<V>(in_)},
        adjoint_(kTiles * in_.states * W),
        dA_(kTiles * in_.states * W),
        dweight_(kTiles * in_.rank * W),
        dD_(kTiles * W),
        dbias_(kTiles * W),
        arrays_(6 * kTiles * kTile),
        a_(kTiles * kTile),
        h_(kTiles * (kTile + W)),
        dB_vectors_(kTile),
        dC_vectors_(kTile),
        turned_(kTiles * kTile),
        sums_(row_count_ * kSteps),
        sum_records_(row_count_ * kSteps),
        rows_(Tile::kChunk * W) {}

  // Work items are batch x blocks, the last varying fastest.
  void run(int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      block_ = item % call_.blocks();
      batch_ = item / call_.blocks();
      const int64_t first = block_ * call_.block, last = smaller(in_.dim, first + call_.block);
      for (int64_t c0 = first; c0 < last; c0 += kTiles * W) run_strip(c0, smaller(kTiles * W, last - c0));
    }
  }

 private:
  void run_strip(int64_t c0, int64_t channels) {
    channel_ = c0;
    tiles_ = channels > W ? 2 : 1;
    // A walk without a table reads every position, so that the first one need not add to zeros.
    starts_sum_ = in_.states == 1 && in_.sequences > 0 && static_cast<Walk>(in_.walks[0]) != Walk::kTable;
    for (int i = 0; i < tiles_; ++i) {
      count_[i] = smaller(W, channels - i * W);
      Tile::load(in_, in_.x, batch_, c0 + i * W, count_[i], x(i), rows_.get());
      Tile::load(in_, call_.grad_out, batch_, c0 + i * W, count_[i], dy(i), rows_.get());
      Tile::scale(in_, dy(i));
      if (!starts_sum_) Tile::clear(in_, dx(i));
    }
    for (int64_t k = 0; k < in_.sequences; ++k)
      if (tiles_ == 2)
        run_sequence<2>(k);
      else
        run_sequence<1>(k);
    for (int i = 0; i < tiles_; ++i)
      Tile::store(in_, call_.grad_x, batch_, c0 + i * W, count_[i], dx(i), rows_.get());
  }

  template <int kCount>
  void run_sequence(int64_t k) {
    sequence_ = k;
    for (int i = 0; i < kCount; ++i) begin_tile(i);
    for (int64_t t0 = (in_.length - 1) / kSteps * kSteps; t0 >= 0; t0 -= kSteps)
      run_window<kCount>(t0, smaller(kSteps, in_.length - t0));
    for (int i = 0; i < kCount; ++i) end_tile(i);
  }

  void begin_tile(int i) {
    lanes_[i].load(sequence_, channel_ + i * W, count_[i]);
    memset(adjoint_.get() + i * in_.states * W, 0, in_.states * W * sizeof(T));
    memset(dA_.get() + i * in_.states * W, 0, in_.states * W * sizeof(T));
    memset(dweight_.get() + i * in_.rank * W, 0, in_.rank * W * sizeof(T));
    V::store(dD_.get() + i * W, V::zero());
    V::store(dbias_.get() + i * W, V::zero());
  }

  void end_tile(int i) {
    const int64_t row = (batch_ * in_.sequences + sequence_) * in_.dim + channel_ + i * W;
    for (int64_t n = 0; n < in_.states; ++n)
      S::store_lanes(call_.grad_A, row * in_.states + n, in_.states, count_[i], dA_.get() + slot(i, n));
    for (int64_t r = 0; r < in_.rank; ++r)
      S::store_lanes(call_.grad_weight, row * in_.rank + r, in_.rank, count_[i],
                     dweight_.get() + (i * in_.rank + r) * W);
    if (in_.D != nullptr) S::store_lanes(call_.grad_D, row, 1, count_[i], dD_.get() + i * W);
    if (in_.bias != nullptr) S::store_lanes(call_.grad_bias, row, 1, count_[i], dbias_.get() + i * W);
  }

  template <int kCount>
  void run_window(int64_t t0, int64_t steps) {
    walk_.stage(batch_, sequence_, t0, steps);
    records_.stage(batch_, sequence_, walk_.project, steps);
    if (in_.states == 1)
      run_single_state<kCount>(t0, steps);
    else
      run_states<kCount>(t0, steps);
    if (in_.delta.data == nullptr)
      add_projection<kCount>(steps);
    else
      for (int i = 0; i < kCount; ++i) add_delta(i, qA_tiles() + i * kTile, steps);
    add_records(steps);
  }

  // With one state all sums of a step are finished at once, and few arrays are kept between
  // the way there and the way back.
  template <int kCount>
  void run_single_state(int64_t t0, int64_t steps) {
    for (int i = 0; i < kCount; ++i) {
      load_checkpoint(i, 0, t0 / kSteps);
      const T* given = gather_given(i, steps);
      F h = V::load(h_.get() + i * (kTile + W));
      int64_t t = 0;
      for (; t + kBlock <= steps; t += kBlock) h = recompute_steps<kBlock>(i, t, given, h);
      for (; t < steps; ++t) h = recompute_steps<1>(i, t, given, h);
    }
    if (starts_sum_ && sequence_ == 0)
      reverse_single_state<kCount, true>(steps);
    else
      reverse_single_state<kCount, false>(steps);
    sum_lanes(dB_vectors_.get(), sums_.get() + in_.rank * kSteps, steps);
    sum_lanes(dC_vectors_.get(), sums_.get() + (in_.rank + 1) * kSteps, steps);
  }

  template <int kCount>
  [[gnu::always_inline]] F recompute_steps(int i, int64_t t, const T* given, F h) {
    F dt[kCount], slope[kCount], a[kCount];
    if (lanes_[i].template common_steps<kCount, true>(records_.get() + t, given_at(given, t), dt, slope, a))
      return keep_steps<kCount>(i, t, dt, slope, a, h);
    if constexpr (V::kLookups) return recompute_rare_steps<kCount>(i, t, given, h);
    return recompute_any_steps<kCount>(i, t, given, h);
  }

  // Out of line, so that the common case keeps its values in registers.
  template <int kCount>
  [[gnu::noinline]] F recompute_rare_steps(int i, int64_t t, const T* given, F h) {
    return recompute_any_steps<kCount>(i, t, given, h);
  }

  template <int kCount>
  F recompute_any_steps(int i, int64_t t, const T* given, F h) {
    F dt[kCount], slope[kCount], a[kCount];
    lanes_[i].template step_sizes<kCount, true>(records_.get() + t, given_at(given, t), dt, slope);
    decays<V, kCount>(dt, lanes_[i].rate(0), a);
    return keep_steps<kCount>(i, t, dt, slope, a, h);
  }

  template <int kCount>
  [[gnu::always_inline]] F keep_steps(int i, int64_t t, const F* dt, const F* slope, const F* a, F h) {
    const T* const* records = records_.get() + t;
    const int32_t* read = walk_.read + t;
    const T* x_tile = x(i);
    const int64_t at = i * kTile + t * W, at_B = in_.rank;
    T *dt_out = dt_tiles() + at, *slope_out = slope_tiles() + at, *a_out = a_.get() + at;
    T* h_out = h_.get() + i * (kTile + W) + (t + 1) * W;
#pragma GCC unroll 4
    for (int j = 0; j < kCount; ++j) {
      const F u = V::load(x_tile + int64_t{read[j]} * W);
      h = V::fma(a[j], h, V::mul(V::mul(dt[j], u), V::set1(records[j][at_B])));
      V::store(dt_out + j * W, dt[j]);
      V::store(slope_out + j * W, slope[j]);
      V::store(a_out + j * W, a[j]);
      V::store(h_out + j * W, h);
    }
    return h;
  }

  template <int kCount, bool kStart>
  void reverse_single_state(int64_t steps) {
    F s[kCount], A[kCount], skip[kCount], dA[kCount], dD[kCount], dbias[kCount], h_after[kCount];
    const T *x_tile[kCount], *dy_tile[kCount];
    T* dx_tile[kCount];
    const T* h = h_.get();
    for (int i = 0; i < kCount; ++i) {
      s[i] = V::load(adjoint_.get() + slot(i, 0));
      A[i] = lanes_[i].A(0);
      skip[i] = lanes_[i].skip;
      dA[i] = dD[i] = dbias[i] = V::zero();
      h_after[i] = V::load(h + i * (kTile + W) + steps * W);
      x_tile[i] = x(i);
      dy_tile[i] = dy(i);
      dx_tile[i] = dx(i);
    }
    const T *dt = dt_tiles(), *slope = slope_tiles(), *a = a_.get();
    T *ddelta_out = qA_tiles(), *dB_out = dB_vectors_.get(), *dC_out = dC_vectors_.get();
    const T* const* records = records_.get();
    const int32_t *read = walk_.read, *write = walk_.write;
    const int64_t at_B = in_.rank;
    for (int64_t t = steps - 1; t >= 0; --t) {
      const T* record = records[t] + at_B;
      const F b = V::set1(record[0]), c = V::set1(record[1]);
      const int64_t from = int64_t{read[t]} * W, to = int64_t{write[t]} * W;
      F dB = V::zero(), dC = V::zero();
#pragma GCC unroll 2
      for (int i = 0; i < kCount; ++i) {
        const int64_t at = i * kTile + t * W;
        const F u = V::load(x_tile[i] + from), dy_t = V::load(dy_tile[i] + to), dt_t = V::load(dt + at);
        const F h_t = h_after[i], h_before = V::load(h + i * (kTile + W) + t * W);
        h_after[i] = h_before;
        const F g = V::fma(dy_t, c, s[i]), gB = V::mul(g, b);
        dC = i == 0 ? V::mul(dy_t, h_t) : V::fma(dy_t, h_t, dC);
        dB = i == 0 ? V::mul(g, V::mul(dt_t, u)) : V::fma(g, V::mul(dt_t, u), dB);
        s[i] = V::mul(g, V::load(a + at));
        const F q = V::mul(s[i], h_before);
        dA[i] = V::fma(q, dt_t, dA[i]);
        dD[i] = V::fma(dy_t, u, dD[i]);
        const F ddelta = V::mul(V::fma(gB, u, V::mul(q, A[i])), V::load(slope + at));
        dbias[i] = V::add(dbias[i], ddelta);
        V::store(ddelta_out + at, ddelta);
        const F dx = V::fma(gB, dt_t, V::mul(skip[i], dy_t));
        if constexpr (kStart)
          V::store(dx_tile[i] + from, dx);
        else
          add_to(dx_tile[i] + from, dx);
      }
      V::store(dB_out + t * W, dB);
      V::store(dC_out + t * W, dC);
    }
    for (int i = 0; i < kCount; ++i) {
      V::store(adjoint_.get() + slot(i, 0), s[i]);
      add_to(dA_.get() + slot(i, 0), dA[i]);
      add_to(dD_.get() + i * W, dD[i]);
      add_to(dbias_.get() + i * W, dbias[i]);
    }
  }

  template <int kCount>
  void run_states(int64_t t0, int64_t steps) {
    StepRange<V> ranges[kCount];
    for (int i = 0; i < kCount; ++i) ranges[i] = load_window(i, steps);
    for (int64_t n = 0; n < in_.states; ++n) {
      bool fast = true;
      for (int i = 0; i < kCount; ++i) {
        fast = fast && ranges[i].fits_fast_exponential(lanes_[i].rate(n));
        load_checkpoint(i, n, t0 / kSteps);
      }
      if (fast)
        recompute<kCount, true>(n, steps);
      else
        recompute<kCount, false>(n, steps);
      reverse<kCount>(n, steps);
      sum_lanes(dB_vectors_.get(), sums_.get() + (in_.rank + n) * kSteps, steps);
      sum_lanes(dC_vectors_.get(), sums_.get() + (in_.rank + in_.states + n) * kSteps, steps);
    }
    for (int i = 0; i < kCount; ++i) finish_window(i, steps);
  }

  // The delta of a tile's steps where it is given whole, else null.
  const T* gather_given(int i, int64_t steps) {
    if (in_.delta.data == nullptr) return nullptr;
    T* given = dt_tiles() + i * kTile;
    gather_delta<V>(in_, batch_, sequence_, channel_ + i * W, count_[i], walk_.project, steps, given);
    return given;
  }

  static const T* given_at(const T* given, int64_t t) { return given == nullptr ? nullptr : given + t * W; }

  StepRange<V> load_window(int i, int64_t steps) {
    const T* given = gather_given(i, steps);
    StepRange<V> range;
    int64_t t = 0;
    for (; t + kBlock <= steps; t += kBlock) prepare_steps<kBlock>(i, t, given, range);
    for (; t < steps; ++t) prepare_steps<1>(i, t, given, range);
    memset(gB_tiles() + i * kTile, 0, steps * W * sizeof(T));
    memset(qA_tiles() + i * kTile, 0, steps * W * sizeof(T));
    return range;
  }

  template <int kCount>
  void prepare_steps(int i, int64_t t, const T* given, StepRange<V>& range) {
    F dt[kCount], slope[kCount];
    lanes_[i].template step_sizes<kCount, true>(records_.get() + t, given_at(given, t), dt, slope);
    const int32_t *read = walk_.read + t, *write = walk_.write + t;
    const T *x_tile = x(i), *dy_tile = dy(i);
    const int64_t at = i * kTile + t * W;
    T *dt_out = dt_tiles() + at, *slope_out = slope_tiles() + at, *drive = drive_tiles() + at, *dy = dy_tiles() + at;
    for (int j = 0; j < kCount; ++j) {
      range.include(dt[j]);
      V::store(dt_out + j * W, dt[j]);
      V::store(slope_out + j * W, slope[j]);
      V::store(drive + j * W, V::mul(dt[j], V::load(x_tile + int64_t{read[j]} * W)));
      V::store(dy + j * W, V::load(dy_tile + int64_t{write[j]} * W));
    }
  }

  void load_checkpoint(int i, int64_t n, int64_t window) {
    T* h = h_.get() + i * (kTile + W);
    const int64_t at = window > 0 ? in_.checkpoint_at(batch_, sequence_, channel_ + i * W, window - 1, n) : 0;
    V::store(h, window > 0 ? V::load(static_cast<const T*>(call_.checkpoints) + at) : V::zero());
  }

  // From the state before the window, h_[0], the states after each step and the decays.
  template <int kCount, bool kFast>
  void recompute(int64_t n, int64_t steps) {
    F h[kCount], rate[kCount];
    for (int i = 0; i < kCount; ++i) {
      rate[i] = lanes_[i].rate(n);
      h[i] = V::load(h_.get() + i * (kTile + W));
    }
    const T *dt = dt_tiles(), *drive = drive_tiles();
    T *a_out = a_.get(), *h_out = h_.get() + W;
    for (int64_t t = 0; t < steps; ++t) {
      const F b = V::set1(records_[t][in_.rank + n]);
#pragma GCC unroll 2
      for (int i = 0; i < kCount; ++i) {
        const F a = decay<V, kFast>(V::load(dt + i * kTile + t * W), rate[i]);
        h[i] = V::fma(a, h[i], V::mul(V::load(drive + i * kTile + t * W), b));
        V::store(a_out + i * kTile + t * W, a);
        V::store(h_out + i * (kTile + W) + t * W, h[i]);
      }
    }
  }

  template <int kCount>
  void reverse(int64_t n, int64_t steps) {
    F s[kCount], A[kCount], dA[kCount], h_after[kCount];
    const T* h = h_.get();
    for (int i = 0; i < kCount; ++i) {
      s[i] = V::load(adjoint_.get() + slot(i, n));
      A[i] = lanes_[i].A(n);
      dA[i] = V::zero();
      h_after[i] = V::load(h + i * (kTile + W) + steps * W);
    }
    const T *dt = dt_tiles(), *drive = drive_tiles(), *dy = dy_tiles(), *a = a_.get();
    T *gB = gB_tiles(), *qA = qA_tiles();
    for (int64_t t = steps - 1; t >= 0; --t) {
      const T* record = records_[t] + in_.rank + n;
      const F b = V::set1(record[0]), c = V::set1(record[in_.states]);
      F dB = V::zero(), dC = V::zero();
#pragma GCC unroll 2
      for (int i = 0; i < kCount; ++i) {
        const int64_t at = i * kTile + t * W;
        const F dy_t = V::load(dy + at), drive_t = V::load(drive + at);
        const F h_t = h_after[i], h_before = V::load(h + i * (kTile + W) + t * W);
        h_after[i] = h_before;
        const F g = V::fma(dy_t, c, s[i]);
        dC = i == 0 ? V::mul(dy_t, h_t) : V::fma(dy_t, h_t, dC);
        dB = i == 0 ? V::mul(g, drive_t) : V::fma(g, drive_t, dB);
        s[i] = V::mul(g, V::load(a + at));
        const F q = V::mul(s[i], h_before);
        dA[i] = V::fma(q, V::load(dt + at), dA[i]);
        V::store(gB + at, V::fma(g, b, V::load(gB + at)));
        V::store(qA + at, V::fma(q, A[i], V::load(qA + at)));
      }
      V::store(dB_vectors_.get() + t * W, dB);
      V::store(dC_vectors_.get() + t * W, dC);
    }
    for (int i = 0; i < kCount; ++i) {
      V::store(adjoint_.get() + slot(i, n), s[i]);
      add_to(dA_.get() + slot(i, n), dA[i]);
    }
  }

  // Whole vectors of steps; what lies behind the last step is never used.
  static void sum_lanes(const T* vectors, T* row, int64_t steps) {
    for (int64_t t = 0; t < steps; t += W) V::sum_lanes(vectors + t * W, row + t);
  }

  void finish_window(int i, int64_t steps) {
    const T *dt = dt_tiles() + i * kTile, *dy = dy_tiles() + i * kTile, *gB = gB_tiles() + i * kTile;
    const T *slope = slope_tiles() + i * kTile, *x_tile = x(i);
    T *qA = qA_tiles() + i * kTile, *dx_tile = dx(i);
    const F skip = lanes_[i].skip;
    F dD = V::zero(), dbias = V::zero();
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t position = int64_t{walk_.read[t]} * W;
      const F u = V::load(x_tile + position), gB_t = V::load(gB + t * W), dy_t = V::load(dy + t * W);
      const F ddelta = V::mul(V::fma(gB_t, u, V::load(qA + t * W)), V::load(slope + t * W));
      dD = V::fma(dy_t, u, dD);
      dbias = V::add(dbias, ddelta);
      V::store(qA + t * W, ddelta);
      add_to(dx_tile + position, V::fma(gB_t, V::load(dt + t * W), V::mul(skip, dy_t)));
    }
    add_to(dD_.get() + i * W, dD);
    add_to(dbias_.get() + i * W, dbias);
  }

  void add_delta(int i, const T* ddelta, int64_t steps) {
    const int64_t first = (batch_ * in_.sequences + sequence_) * in_.tokens;
    T* grad = static_cast<T*>(call_.grad_delta) + channel_ + i * W;
    for (int64_t t = 0; t < steps; ++t) {
      if (walk_.project[t] == in_.tokens) continue;
      T* to = grad + (first + walk_.project[t]) * in_.dim;
      if (count_[i] == W)
        add_to(to, V::load(ddelta + t * W));
      else
        for (int64_t j = 0; j < count_[i]; ++j) to[j] += ddelta[t * W + j];
    }
  }

  // Of delta = W record: dW += ddelta record, and the sums over channels W ddelta.
  template <int kCount>
  void add_projection(int64_t steps) {
    for (int i = 0; i < kCount; ++i) {
      T* ddelta = qA_tiles() + i * kTile;
      memset(ddelta + steps * W, 0, (kSteps - steps) * W * sizeof(T));
      for (int64_t t = 0; t < kSteps; t += W) V::transpose(ddelta + t * W, W, turned_.get() + i * kTile + t, kSteps);
    }
    int64_t r = 0;
    for (; r + kRanks <= in_.rank; r += kRanks) add_ranks<kCount, kRanks>(r, steps);
    for (; r + 2 <= in_.rank; r += 2) add_ranks<kCount, 2>(r, steps);
    for (; r < in_.rank; ++r) add_ranks<kCount, 1>(r, steps);
  }

  template <int kCount, int kSums>
  void add_ranks(int64_t r, int64_t steps) {
    add_weights<kCount, kSums>(r, steps);
    sum_channels<kCount, kSums>(r);
  }

  // The tiles share the loads of the records, and their sums are enough to hide the latency.
  template <int kCount, int kSums>
  void add_weights(int64_t r, int64_t steps) {
    F dweight[kCount][kSums];
    T* sums = dweight_.get() + r * W;
    for (int i = 0; i < kCount; ++i)
      for (int j = 0; j < kSums; ++j) dweight[i][j] = V::load(sums + (i * in_.rank + j) * W);
    const T* ddelta = qA_tiles();
    for (int64_t t = 0; t < steps; ++t) {
      const T* record = records_[t] + r;
#pragma GCC unroll 2
      for (int i = 0; i < kCount; ++i) {
        const F ddelta_t = V::load(ddelta + i * kTile + t * W);
#pragma GCC unroll 6
        for (int j = 0; j < kSums; ++j) dweight[i][j] = V::fma(ddelta_t, V::set1(record[j]), dweight[i][j]);
      }
    }
    for (int i = 0; i < kCount; ++i)
      for (int j = 0; j < kSums; ++j) V::store(sums + (i * in_.rank + j) * W, dweight[i][j]);
  }

  template <int kCount, int kSums>
  void sum_channels(int64_t r) {
    F row[kSums][kRowVectors];
    for (int j = 0; j < kSums; ++j)
      for (int v = 0; v < kRowVectors; ++v) row[j][v] = V::zero();
    for (int i = 0; i < kCount; ++i) {
      const int64_t first = (sequence_ * in_.dim + channel_ + i * W) * in_.rank + r;
      const T *weight = static_cast<const T*>(in_.weight) + first, *of_lane = turned_.get() + i * kTile;
      for (int64_t lane = 0; lane < count_[i]; ++lane, weight += in_.rank, of_lane += kSteps) {
#pragma GCC unroll 4
        for (int v = 0; v < kRowVectors; ++v) {
          const F ddelta_t = V::load(of_lane + v * W);
#pragma GCC unroll 6
          for (int j = 0; j < kSums; ++j) row[j][v] = V::fma(ddelta_t, V::set1(weight[j]), row[j][v]);
        }
      }
    }
    T* rows = sums_.get() + r * kSteps;
    for (int j = 0; j < kSums; ++j)
      for (int v = 0; v < kRowVectors; ++v) V::store(rows + j * kSteps + v * W, row[j][v]);
  }

  // Turn the rows of sums, one an entry, into records, and add those to the partial sum.
  void add_records(int64_t steps) {
    for (int64_t j = 0; j < row_count_; j += W)
      for (int64_t t = 0; t < kSteps; t += W)
        V::transpose(sums_.get() + j * kSteps + t, kSteps, sum_records_.get() + t * row_count_ + j, row_count_);
    const int64_t entries = in_.entries(), size = in_.tokens * in_.sequences * entries;
    T* partial = static_cast<T*>(call_.grad_params) + (block_ * in_.batch + batch_) * size;
    for (int64_t t = 0; t < steps; ++t) {
      if (walk_.project[t] == in_.tokens) continue;
      const int64_t first = (int64_t{walk_.project[t]} * in_.sequences + sequence_) * entries;
      const T* from = sum_records_.get() + t * row_count_;
      int64_t j = 0;
      // Rows behind the last entry hold zeros: adding them to the records behind is harmless.
      for (; j < entries && first + j + W <= size; j += W) add_to(partial + first + j, V::load(from + j));
      for (; j < entries; ++j) partial[first + j] += from[j];
    }
  }

  static void add_to(T* sum, F x) { V::store(sum, V::add(V::load(sum), x)); }

  int64_t slot(int i, int64_t n) const { return (i * in_.states + n) * W; }
  T* x(int i) { return map_ + i * Tile::size(in_); }
  T* dy(int i) { return map_ + (kTiles + i) * Tile::size(in_); }
  T* dx(int i) { return map_ + (2 * kTiles + i) * Tile::size(in_); }

  // One vector a step, for the tiles of a strip.
  T* dt_tiles() { return arrays_.get() + 0 * kTiles * kTile; }
  T* drive_tiles() { return arrays_.get() + 1 * kTiles * kTile; }
  T* dy_tiles() { return arrays_.get() + 2 * kTiles * kTile; }
  T* gB_tiles() { return arrays_.get() + 3 * kTiles * kTile; }
  T* qA_tiles() { return arrays_.get() + 4 * kTiles * kTile; }
  T* slope_tiles() { return arrays_.get() + 5 * kTiles * kTile; }

  const RouteBackward& call_;
  const RouteProblem& in_;
  const int64_t row_count_;
  T* const map_;
  WalkSteps<kSteps> walk_;
  RecordSteps<V, kSteps> records_;
  RouteLanes<V> lanes_[kTiles];
  // One vector a tile and state or rank, or a tile.
  Buffer<T> adjoint_, dA_, dweight_, dD_, dbias_;
  // One vector a step.
  Buffer<T> arrays_, a_, h_, dB_vectors_, dC_vectors_;
  Buffer<T> turned_;                 // the gradient of delta, one row of steps a channel
  Buffer<T> sums_, sum_records_;     // sums over channels: rows of steps, and turned records
  Buffer<T> rows_;
  int64_t batch_ = 0, block_ = 0, sequence_ = 0, channel_ = 0;
  int64_t count_[kTiles] = {};
  int tiles_ = 0;
  bool starts_sum_ = false;  // whether the first sequence's gradients of the map are stored, not added
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
