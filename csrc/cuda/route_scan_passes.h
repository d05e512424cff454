// The contract between the route scan on tensors (route_scan.cpp) and its kernels.
//
// All maps have their channels side by side, (batch, position, channel), so that a step along any
// route reads and writes one stretch of memory. Sequences are launched one after another; each adds
// its outputs to one map of sums in the type of the computation, which keeps their order and needs
// no map a sequence. Batch items come in groups, which bounds the map of sums where the outputs are
// 16 bit.
#pragma once

#include "route_scan.h"
#include "segments.h"

namespace mamba_mm {

// Sequences that one launch serves at most; final passes serve one.
constexpr int kWalksTogether = 16;

// A map of values (batch, position, channel); the channels lie side by side.
struct ChannelsLast {
  const void* data = nullptr;
  DType dtype = DType::kFloat32;
  int64_t batch = 0, sequence = 0;  // strides; a sequence has a map of its own, or all share one
  int position = 0;                 // 32 bit, as it is multiplied at every step
};

// Where the results of one sequence after the other are added up, contiguously.
struct RunningSum {
  void* sum;      // (items of the group, tokens, dim), in the type of the computation; null if never read
  bool add;       // or store, if no sequence was before
  void* rounded;  // (batch, tokens, dim) in 16 bit instead of `sum`, from the last sequence; or null
  DType dtype;    // of `rounded`
};

struct RoutePass {
  int64_t batch, dim, tokens, height, width, sequences, length, states, rank;
  bool softplus;
  double scale;
  ChannelsLast x;
  ChannelsLast delta;  // or absent
  Records params;
  // As in RouteProblem, but W is (sequences, rank, dim).
  const void *A, *weight, *D, *bias;
  // Projecting and writing may be without a table of their own: they are as reading then.
  Table read, project, write;
  void* checkpoints;

  Segments segments;
  // As in SegmentCarry, of the items of the group, with a row a sequence; null with one segment.
  void *ends, *spans;
  // Not zero for sequences that visit a position twice, (batch or 1, sequences), or null. Two
  // segments could add to one position, so these are walked by one block alone.
  const int32_t* repeats;
  int64_t repeats_batch;  // stride

  // What this launch does: some batch items, and some sequences.
  int64_t first_item, items, first_sequence, launched;
  Walk walks[kWalksTogether];

  RunningSum out;

  // Backward only.
  ChannelsLast grad_out;
  RunningSum grad_x;
  void* grad_delta;  // (batch, sequences, tokens, dim) or null
  // Partial sums. Over batch x segments: A (.., sequences, dim, states), W (.., sequences, rank,
  // dim), zeroed, D and bias (.., sequences, dim). Over blocks of channels: params (blocks, items
  // of the group, tokens, sequences, entries); zeroed, or every position is visited.
  void *grad_A, *grad_weight, *grad_D, *grad_bias, *grad_params;

  static constexpr bool has_own(const Table& table) { return table.data != nullptr; }
  constexpr int64_t entries() const { return rank + 2 * states; }
  constexpr int64_t saved() const { return length > 0 ? (length - 1) / kCheckpointSteps : 0; }
  // Where the state 0 of a channel lies in checkpoint i; state n is n * kCheckpointLanes further.
  constexpr int64_t checkpoint_at(int64_t b, int64_t k, int64_t c, int64_t i) const {
    const int64_t blocks = (dim + kCheckpointLanes - 1) / kCheckpointLanes;
    const int64_t block = (b * sequences + k) * blocks + c / kCheckpointLanes;
    return (block * saved() + i) * states * kCheckpointLanes + c % kCheckpointLanes;
  }
};

// Find the sequences of a table that visit a position twice: flags (batch or 1, sequences), zeroed
// or holding what other tables gave. `visitors` is scratch for (batch or 1, sequences, tokens).
void find_repeats(const Table& table, int64_t batch, int64_t sequences, int64_t length, int64_t tokens,
                  int32_t* visitors, int32_t* flags, int64_t flags_batch, Stream stream);

// Parts 1 and 2 of segments.h for all sequences: the states in which segments begin, or the
// adjoints from the right.
void run_route_ends(RoutePass pass, const Walk* walks, bool adjoint, bool is_double, Stream stream);

// One sequence, pass.first_sequence, for the items of the group.
void run_route_forward(const RoutePass& pass, bool is_double, Stream stream);
void run_route_backward(const RoutePass& pass, bool is_double, Stream stream);

// The channels that a backward block sums into one partial; a function of the shapes alone.
int64_t route_backward_block(const RoutePass& pass, bool is_double);

}  // namespace mamba_mm
