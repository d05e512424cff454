// The table of kernels for one vector type.
#pragma once

#include "backward.h"
#include "forward.h"
#include "kernels.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

template <class V>
void forward(const Forward& call, int64_t begin, int64_t end) {
  ForwardScan<V>(call).run(begin, end);
}

template <class V>
void backward(const Backward& call, int64_t begin, int64_t end) {
  BackwardScan<V>(call).run(begin, end);
}

template <class V>
constexpr Kernels kernels(const char* name) {
  return Kernels{name, V::W, forward<V>, backward<V>};
}

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
