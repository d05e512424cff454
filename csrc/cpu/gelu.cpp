// GELU of rows plus a bias on the CPU: tensors in, tensors out; the arithmetic is in gelu.h.
#include <torch/csrc/stable/library.h>

#include "kernels.h"
#include "tensors.h"

namespace mamba_mm {
namespace {

// Rows that one thread takes at least.
constexpr int64_t kGrain = 16;

// With `grad` the gradient by x. `out` may be x itself.
void run(const Tensor& x, const Tensor& bias, const Tensor* grad, const Tensor& out) {
  STD_TORCH_CHECK(x.dim() == 2, "bias_gelu: x must be (rows, columns)");
  check_shape(bias, "bias", {x.size(1)}, "bias_gelu", "does not fit the columns of x");
  if (grad != nullptr) check_shape(*grad, "grad", {x.size(0), x.size(1)}, "bias_gelu", "is not that of x");
  for (const Tensor* t : {&x, &bias, grad})
    STD_TORCH_CHECK(t == nullptr || (t->scalar_type() == ScalarType::Float && t->is_contiguous()),
                    "bias_gelu: tensors must be float32 and contiguous");
  const auto data = [](const Tensor& t) { return static_cast<const float*>(t.const_data_ptr()); };
  const GeluCall call{data(x), data(bias), grad != nullptr ? data(*grad) : nullptr,
                      static_cast<float*>(out.mutable_data_ptr()), x.size(1)};
  const Kernels& kernels = float_kernels();
  torch::stable::parallel_for(0, x.size(0), kGrain,
                              [&](int64_t begin, int64_t end) { kernels.gelu(call, begin, end); });
}

Tensor forward(const Tensor& x, const Tensor& bias) {
  Tensor out = torch::stable::empty_like(x);
  run(x, bias, nullptr, out);
  return out;
}

void forward_in_place(Tensor x, const Tensor& bias) { run(x, bias, nullptr, x); }

Tensor backward(const Tensor& grad, const Tensor& x, const Tensor& bias) {
  Tensor out = torch::stable::empty_like(x);
  run(x, bias, &grad, out);
  return out;
}

}  // namespace
}  // namespace mamba_mm

STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CPU, m) {
  m.impl("bias_gelu", TORCH_BOX(&mamba_mm::forward));
  m.impl("bias_gelu_", TORCH_BOX(&mamba_mm::forward_in_place));
  m.impl("bias_gelu_bwd", TORCH_BOX(&mamba_mm::backward));
}
