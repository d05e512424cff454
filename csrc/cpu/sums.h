// Sums of partial results.
#pragma once

#include "tensors.h"

namespace mamba_mm {

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
