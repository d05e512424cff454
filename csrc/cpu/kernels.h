// The kernels of one instruction set, and the choice between the sets.
#pragma once

#include "route_scan.h"
#include "selective_scan.h"

namespace mamba_mm {

// GELU of x plus a bias on rows of so many columns, or with `grad` its gradient by x.
struct GeluCall {
  const float *x, *bias, *grad;
  float* out;
  int64_t columns;
};

struct Kernels {
  const char* name;
  // Channels that one forward work item covers.
  int64_t lanes;
  // Run work items [begin, end) of batch x groups x tiles of `lanes` channels.
  void (*forward)(const Forward& call, int64_t begin, int64_t end);
  // Run work items [begin, end) of batch x groups x blocks of `block` channels.
  void (*backward)(const Backward& call, int64_t begin, int64_t end);
  // Run work items [begin, end) of batch x tiles of `lanes` channels, with scratch memory for
  // so many elements.
  int64_t (*route_forward_scratch)(const RouteProblem& in);
  void (*route_forward)(const RouteForward& call, int64_t begin, int64_t end, void* scratch);
  // Likewise, work items of batch x blocks of `block` channels.
  int64_t (*route_backward_scratch)(const RouteProblem& in);
  void (*route_backward)(const RouteBackward& call, int64_t begin, int64_t end, void* scratch);
  // Run rows [begin, end); only in single precision.
  void (*gelu)(const GeluCall& call, int64_t begin, int64_t end);
};

extern const Kernels kGenericFloat;
extern const Kernels kGenericDouble;
#if defined(__x86_64__)
extern const Kernels kAvx2Float;
extern const Kernels kAvx512Float;
#endif

// The widest set that this processor runs, or the one that MAMBA_MM_ISA names.
const Kernels& float_kernels();

}  // namespace mamba_mm
