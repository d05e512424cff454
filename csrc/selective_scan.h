// The contract between the op and its kernels: shapes, strides and flags of one call.
//
// For every batch item b and channel d, with h before the first step equal to zero:
//
//   dt_t = softplus?(delta_t + delta_bias)
//   h_t  = exp(dt_t A) h_{t-1} + dt_t B_t u_t
//   y_t  = <C_t, h_t> + D u_t,    out_t = y_t SiLU(z_t)
//
// Channels d = g D/G ... (g+1) D/G - 1 share row g of B and C. All offsets are 64 bit.
// Functions are constexpr so that GPU code may call them.
#pragma once

#include <cstdint>

namespace mamba_mm {

// The backward pass recomputes states from the ones saved every so many steps. They lie in
// blocks of so many channels of one group, so that a tile writes its own in one stream.
constexpr int64_t kCheckpointSteps = 32;
constexpr int64_t kCheckpointLanes = 16;

enum class DType : int8_t { kFloat64, kFloat32, kBFloat16, kFloat16 };

// A tensor of rows in time: element (b, c, t) is at data + b*batch + c*channel + t*time.
// Strides count elements. A null pointer stands for an absent optional tensor.
struct Rows {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, channel = 0, time = 0;
};

struct MutableRows {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, channel = 0, time = 0;
};

// B or C: varying in time, (batch, group, state, time), or one row of N values a channel.
struct Projection {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, group = 0, state = 0, time = 0;
  bool varies = true;
};

struct Problem {
  int64_t batch, dim, length, groups, states;
  bool softplus;
  Rows u, delta, z;  // z may be absent
  Projection B, C;
  // In the type of the computation, contiguous: A (dim, states); D and bias (dim) or null.
  // A projection that does not vary is given here as well, (dim, states).
  const void *A, *D, *bias, *fixed_B, *fixed_C;

  constexpr int64_t channels_per_group() const { return dim / groups; }
  constexpr int64_t checkpoints() const { return length > 0 ? (length - 1) / kCheckpointSteps : 0; }
  constexpr int64_t checkpoint_blocks_per_group() const {
    return (channels_per_group() + kCheckpointLanes - 1) / kCheckpointLanes;
  }
  // Where the state n of the channels from `offset` in group g on lies in checkpoint k.
  constexpr int64_t checkpoint_at(int64_t b, int64_t g, int64_t offset, int64_t k, int64_t n) const {
    const int64_t block = (b * groups + g) * checkpoint_blocks_per_group() + offset / kCheckpointLanes;
    return ((block * checkpoints() + k) * states + n) * kCheckpointLanes + offset % kCheckpointLanes;
  }
};

struct Forward {
  Problem in;
  MutableRows out;
  // In the type of the computation: last state (batch, dim, states), and the state before
  // step kCheckpointSteps * (k + 1), which lies at in.checkpoint_at(...), or null.
  void *last_state, *checkpoints;
};

struct Backward {
  Problem in;
  Rows grad_out;
  const void *grad_last_state, *checkpoints;  // grad_last_state may be null
  MutableRows grad_u, grad_delta, grad_z;
  // Partial sums in the type of the computation, to be added up in a fixed order:
  // over batch items: A and fixed B, C (batch, dim, states); D and bias (batch, dim);
  // over channel blocks: B and C (blocks in a group, batch, groups, states, length).
  void *grad_A, *grad_D, *grad_bias, *grad_fixed_B, *grad_fixed_C, *grad_B, *grad_C;
  // Channels that are summed into one partial; depends on the shapes alone, so that the
  // order of the sum does not depend on the number of threads.
  int64_t block;

  constexpr int64_t blocks_per_group() const { return (in.channels_per_group() + block - 1) / block; }
};

}  // namespace mamba_mm
