// What the kernels are compiled for, as setup.py defines it: such as "80;90;100+PTX". The backend is
// chosen by it, and not by trying.
#include <torch/csrc/stable/library.h>

#include <string>

namespace mamba_mm {

std::string cuda_architectures() { return MAMBA_MM_CUDA_ARCHS; }

}  // namespace mamba_mm

STABLE_TORCH_LIBRARY_FRAGMENT(mamba_mm, m) { m.def("cuda_architectures() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CompositeExplicitAutograd, m) {
  m.impl("cuda_architectures", TORCH_BOX(&mamba_mm::cuda_architectures));
}
