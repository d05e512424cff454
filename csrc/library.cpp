// Schemas of the ops. The devices' implementations register themselves next to their code;
// shapes for tracing, autograd and autocast are in Python (mamba_mm/ops).
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(mamba_mm, m) {
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
  m.def("bias_gelu(Tensor x, Tensor bias) -> Tensor");
  m.def("bias_gelu_(Tensor(a!) x, Tensor bias) -> ()");
  m.def("bias_gelu_bwd(Tensor grad, Tensor x, Tensor bias) -> Tensor");
  m.def("cpu_instruction_set() -> str");
}
