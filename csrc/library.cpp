// Schemas of the ops. The devices' implementations register themselves next to their code;
// shapes for tracing, autograd and autocast are in Python (mamba_mm/ops).
#include <torch/csrc/stable/library.h>

#include "schemas.h"

STABLE_TORCH_LIBRARY(mamba_mm, m) {
  mamba_mm::define_scans(m);
  m.def("bias_gelu(Tensor x, Tensor bias) -> Tensor");
  m.def("bias_gelu_(Tensor(a!) x, Tensor bias) -> ()");
  m.def("bias_gelu_bwd(Tensor grad, Tensor x, Tensor bias) -> Tensor");
  m.def("cpu_instruction_set() -> str");
}
