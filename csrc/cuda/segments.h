// Segments: a sequence is cut where there are too few channels to fill a GPU.
//
//   1. Each segment is scanned from a zero state, for its last state and its steps (StepSpan).
//   2. A scan over the segments gives the state in which each one begins: through a segment a
//      state decays by exp(A times the sum of the steps).
//   3. Each segment is scanned from that state.
//
// The adjoint of the backward pass runs from the right in the same way.
//
// Step by step an infinite state stays infinite until a decay is zero, and a state of zero stays
// zero until a decay is infinite; the product of all decays may be zero or infinite though none of
// them is. So part 2 looks at the smallest and the largest decay too. Only where states grow until
// they overflow inside a segment may it find another infinity, or NaN, than the scan step by step.
#pragma once

#include <cstdint>

#include "stream.h"

namespace mamba_mm {

struct Segments {
  int64_t count = 1;
  int64_t steps = 0;  // of each but the last, a multiple of kCheckpointSteps
};

// How to cut `threads` sequences of `length` steps. A function of the shapes alone, or the bits of
// a result would depend on the device. MAMBA_MM_CUDA_SEGMENTS forces a number, as far as there are
// as many stretches of kCheckpointSteps.
Segments segments_of(int64_t threads, int64_t length);

// The numbers of a StepSpan (step_span.h), each of all channels side by side.
constexpr int kSpanNumbers = 3;

// Part 2 for the states of batch x rows x dim channels; route scans have a row a sequence, with A
// of its own. All arrays are in the type of the computation.
struct SegmentCarry {
  int64_t segments, batch, rows, dim, states;
  const void* A;  // (rows, dim, states)
  // (segments, batch, rows, states, dim): in, the state at the end of each segment; out, the
  // state in which each begins. For the adjoint a segment ends at its first step.
  void* ends;
  const void* spans;    // (segments, batch, rows, kSpanNumbers, dim): a StepSpan each
  const void* initial;  // (batch, rows, dim, states) before everything, or null
  bool from_the_right;
};

void carry_over_segments(const SegmentCarry& call, bool is_double, Stream stream);

}  // namespace mamba_mm
