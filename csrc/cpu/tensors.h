// What the ops share in handling tensors: descriptions for the kernels, and sums of partials.
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

template <class T>
void add_up(const T* parts, int64_t count, int64_t size, T* sum) {
  torch::stable::parallel_for(0, size, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] = parts[i];
    for (int64_t k = 1; k < count; ++k)
      for (int64_t i = begin; i < end; ++i) sum[i] += parts[k * size + i];
  });
}

// The sum over the first dimension, in its order, as `dtype`.
inline Tensor sum_in_order(const Tensor& parts, ScalarType dtype) {
  const int64_t count = parts.size(0);
  if (count == 1) return torch::stable::to(torch::stable::select(parts, 0, 0), dtype);
  std::vector<int64_t> sizes(parts.sizes().begin() + 1, parts.sizes().end());
  Tensor sum = make(parts, sizes, parts.scalar_type());
  if (count == 0) {
    torch::stable::zero_(sum);
  } else if (parts.scalar_type() == ScalarType::Double) {
    add_up(static_cast<const double*>(parts.const_data_ptr()), count, sum.numel(),
           static_cast<double*>(sum.mutable_data_ptr()));
  } else {
    add_up(static_cast<const float*>(parts.const_data_ptr()), count, sum.numel(),
           static_cast<float*>(sum.mutable_data_ptr()));
  }
  return torch::stable::to(sum, dtype);
}

}  // namespace mamba_mm
