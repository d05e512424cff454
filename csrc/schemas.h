// Schemas of the ops that every device implements.
#pragma once

#include <torch/csrc/stable/library.h>

namespace mamba_mm {

template <class Library>
void define_scans(Library& m) {
  m.def(
      "selective_scan_fwd(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
      "Tensor? delta_bias, bool delta_softplus, bool save_checkpoints, ScalarType out_dtype) "
      "-> (Tensor out, Tensor last_state, Tensor checkpoints)");
  m.def(
      "selective_scan_bwd(Tensor grad_out, Tensor? grad_last_state, Tensor u, Tensor delta, Tensor A, "
      "Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, bool delta_softplus, "
      "Tensor checkpoints) -> (Tensor grad_u, Tensor grad_delta, Tensor grad_A, Tensor grad_B, "
      "Tensor grad_C, Tensor grad_D, Tensor grad_z, Tensor grad_delta_bias)");
  m.def(
      "route_scan_fwd(Tensor x, Tensor params, Tensor? delta, Tensor A, Tensor? delta_weight, Tensor? D, "
      "Tensor? delta_bias, int[] walks, Tensor? read, Tensor? project, Tensor? write, SymInt height, SymInt width, "
      "bool delta_softplus, float scale, bool save_checkpoints, ScalarType out_dtype) "
      "-> (Tensor out, Tensor checkpoints)");
  m.def(
      "route_scan_bwd(Tensor grad_out, Tensor x, Tensor params, Tensor? delta, Tensor A, Tensor? delta_weight, "
      "Tensor? D, Tensor? delta_bias, int[] walks, Tensor? read, Tensor? project, Tensor? write, SymInt height, "
      "SymInt width, bool delta_softplus, float scale, Tensor checkpoints) -> (Tensor grad_x, Tensor grad_params, "
      "Tensor grad_delta, Tensor grad_A, Tensor grad_delta_weight, Tensor grad_D, Tensor grad_delta_bias)");
}

}  // namespace mamba_mm
