// The contract between the op on tensors (selective_scan.cpp) and its kernels.
#pragma once

#include "segments.h"
#include "selective_scan.h"

namespace mamba_mm {

struct ForwardPass {
  Forward call;
  Segments segments;
  // As in SegmentCarry, with one row; null with one segment.
  void *ends, *spans;
};

struct BackwardPass {
  // Partial sums over batch items are here over segments as well, the segment in front.
  Backward call;
  Segments segments;
  void *ends, *spans;
};

// Tensors are in float or 16 bit where the computation is in float, else in double.
void run_forward(const ForwardPass& pass, bool is_double, Stream stream);
void run_backward(const BackwardPass& pass, bool is_double, Stream stream);

// The channels that a backward block sums into one partial; a function of the shapes alone.
int64_t backward_block(const Problem& problem, bool is_double);

}  // namespace mamba_mm
