// The table of kernels for one vector type.
#pragma once

#include <type_traits>

#include "backward.h"
#include "forward.h"
#include "gelu.h"
#include "kernels.h"
#include "route_backward.h"
#include "route_forward.h"

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
int64_t route_forward_scratch(const RouteProblem& in) {
  return 2 * MapTile<V>::size(in);
}

template <class V>
void route_forward(const RouteForward& call, int64_t begin, int64_t end, void* scratch) {
  RouteForwardScan<V>(call, scratch).run(begin, end);
}

template <class V>
int64_t route_backward_scratch(const RouteProblem& in) {
  return RouteBackwardScan<V>::kMapTiles * MapTile<V>::size(in);
}

template <class V>
void route_backward(const RouteBackward& call, int64_t begin, int64_t end, void* scratch) {
  RouteBackwardScan<V>(call, scratch).run(begin, end);
}

template <class V>
constexpr auto gelu() {
  if constexpr (std::is_same_v<typename V::T, float>)
    return +[](const GeluCall& call, int64_t begin, int64_t end) { Gelu<V>(call).run(begin, end); };
  else
    return nullptr;
}

template <class V>
constexpr Kernels kernels(const char* name) {
  return Kernels{name,
                 V::W,
                 forward<V>,
                 backward<V>,
                 route_forward_scratch<V>,
                 route_forward<V>,
                 route_backward_scratch<V>,
                 route_backward<V>,
                 gelu<V>()};
}

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
