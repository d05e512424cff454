// The contract between the route scan and its kernels: shapes, strides and flags of one call.
//
// A map of `tokens` positions is walked along several sequences. With p_t the position that
// sequence k reads at step t, for every batch item and channel, the state before the first
// step being zero:
//
//   delta_t = sum_r W_r params_r(p_t)           the projection of rank R, or given whole
//   dt_t    = softplus?(delta_t + bias)
//   h_t     = exp(dt_t A) h_{t-1} + dt_t B(p_t) x(p_t)
//   out(p_t) += scale (<C(p_t), h_t> + D x(p_t))
//
// A, D, bias and W belong to the sequence. A padded step reads zeros and writes nowhere, but
// its state decays. All offsets are 64 bit.
#pragma once

#include "selective_scan.h"

namespace mamba_mm {

// How a sequence walks: along a table, or along one of the walks that need none.
enum class Walk : int64_t { kTable = 0, kRow = 1, kColumn = 2, kRowBack = 3, kColumnBack = 4 };

// R + 2 N values a position: delta's low-rank inputs, B, C.
struct Records {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, sequence = 0, entry = 0, position = 0;
};

// delta given whole, in the type of the computation, with the channels side by side.
struct Deltas {
  const void* data = nullptr;
  int64_t batch = 0, sequence = 0, position = 0;
};

// Positions by step, -1 at padded steps: (batch or 1, sequences, length).
struct Table {
  const int32_t* data = nullptr;
  int64_t batch = 0, sequence = 0;

  const int32_t* steps(int64_t b, int64_t k) const { return data + b * batch + k * sequence; }
};

struct RouteProblem {
  int64_t batch, dim, tokens, height, width, sequences, length, states, rank;
  bool softplus;
  double scale;
  Rows x;
  Records params;
  Deltas delta;  // absent with a projection
  // In the type of the computation, contiguous: A (sequences, dim, states), W (sequences, dim,
  // rank), D and bias (sequences, dim) or null.
  const void *A, *weight, *D, *bias;
  const int64_t* walks;  // a Walk a sequence
  Table read, project, write;

  int64_t entries() const { return rank + 2 * states; }
  int64_t checkpoints() const { return length > 0 ? (length - 1) / kCheckpointSteps : 0; }
  int64_t checkpoint_blocks() const { return (dim + kCheckpointLanes - 1) / kCheckpointLanes; }
  // Where the state n of the channels from c0 on lies in checkpoint i.
  int64_t checkpoint_at(int64_t b, int64_t k, int64_t c0, int64_t i, int64_t n) const {
    const int64_t block = (b * sequences + k) * checkpoint_blocks() + c0 / kCheckpointLanes;
    return ((block * checkpoints() + i) * states + n) * kCheckpointLanes + c0 % kCheckpointLanes;
  }
};

struct RouteForward {
  RouteProblem in;
  MutableRows out;
  void* checkpoints;  // or null
};

struct RouteBackward {
  RouteProblem in;
  Rows grad_out;
  const void* checkpoints;
  MutableRows grad_x;
  void* grad_delta;  // (batch, sequences, tokens, dim), zeroed, or null
  // Partial sums in the type of the computation, to be added up in a fixed order:
  // over batch items: A, W, D and bias, each with the batch in front;
  // over channel blocks: params (blocks, batch, tokens, sequences, entries), zeroed.
  void *grad_A, *grad_weight, *grad_D, *grad_bias, *grad_params;
  int64_t block;  // channels that are summed into one partial

  int64_t blocks() const { return (in.dim + block - 1) / block; }
};

}  // namespace mamba_mm
