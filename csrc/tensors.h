// What the ops share in handling tensors: checks, and descriptions for the kernels.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "selective_scan.h"

namespace mamba_mm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline DType dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return DType::kFloat64;
    case ScalarType::Float: return DType::kFloat32;
    case ScalarType::BFloat16: return DType::kBFloat16;
    case ScalarType::Half: return DType::kFloat16;
    default: break;
  }
  STD_TORCH_CHECK(false, name, " must be float64, float32, bfloat16 or float16");
}

inline void check_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected, const char* op,
                        const char* problem) {
  bool same = t.dim() == static_cast<int64_t>(expected.size());
  int64_t i = 0;
  for (const int64_t size : expected) same = same && t.size(i++) == size;
  STD_TORCH_CHECK(same, op, ": ", name, " has a shape that ", problem);
}

inline Rows rows(const Tensor& t, const char* name) {
  return {t.const_data_ptr(), dtype_of(t, name), t.stride(0), t.stride(1), t.stride(2)};
}

inline MutableRows mutable_rows(const Tensor& t) {
  return {t.mutable_data_ptr(), dtype_of(t, "output"), t.stride(0), t.stride(1), t.stride(2)};
}

inline Tensor make(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

}  // namespace mamba_mm
