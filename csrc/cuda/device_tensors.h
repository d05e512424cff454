// What the ops share in handling tensors on a GPU.
#pragma once

#include "stream.h"
#include "sums.h"
#include "tensors.h"

// Registers implementations of the scans: for CUDA, or emulated under names of their own.
#ifdef MAMBA_MM_EMULATED
#define MAMBA_MM_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(mamba_mm_emulated, CPU, m)
#else
#define MAMBA_MM_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CUDA, m)
#endif

namespace mamba_mm {

// The device of the tensors of a call, made the current one, and its stream.
class Device {
 public:
  explicit Device(const Tensor& t) : index_(t.get_device_index()), guard_(index_), stream_(current_stream(index_)) {}

  Stream stream() const { return stream_; }

  // A kernel would read the memory of another device, or of the host, as its own.
  void check(const Tensor& t, const char* op, const char* name) const {
#ifndef MAMBA_MM_EMULATED
    STD_TORCH_CHECK(t.is_cuda() && t.get_device_index() == index_, op, ": ", name,
                    " is not on the GPU of the other arguments; move it there first");
#endif
  }

 private:
  int index_;
  DeviceGuard guard_;
  Stream stream_;
};

// The tensor in a type that kernels read: double where all is double, else float or 16 bit.
inline Tensor in_stored_type(const Tensor& t, ScalarType compute) {
  if ((t.scalar_type() == ScalarType::Double) == (compute == ScalarType::Double)) return t;
  return torch::stable::to(t, compute);
}

inline OptionalTensor in_stored_type(const OptionalTensor& t, ScalarType compute) {
  return t.has_value() ? OptionalTensor(in_stored_type(*t, compute)) : t;
}

// The type in which kernels write what is wanted as `wanted`.
inline ScalarType stored_type(ScalarType wanted, ScalarType compute) {
  return (wanted == ScalarType::Double) == (compute == ScalarType::Double) ? wanted : compute;
}

// The sum over the first dimension, in its order, as `dtype`.
inline Tensor sum_in_order(Tensor parts, ScalarType dtype, Stream stream) {
  const std::vector<int64_t> one(parts.sizes().begin() + 1, parts.sizes().end());
  if (parts.size(0) == 0) return torch::stable::to(torch::stable::new_zeros(parts, one), dtype);
  while (parts.size(0) > 1) {
    std::vector<int64_t> sizes = one;
    sizes.insert(sizes.begin(), (parts.size(0) + kPartsTogether - 1) / kPartsTogether);
    Tensor sums = make(parts, sizes, parts.scalar_type());
    if (sums.numel() > 0)
      add_up(parts.const_data_ptr(), parts.size(0), parts.numel() / parts.size(0), sums.mutable_data_ptr(),
             parts.scalar_type() == ScalarType::Double, stream);
    parts = sums;
  }
  return torch::stable::to(torch::stable::select(parts, 0, 0), dtype);
}

}  // namespace mamba_mm
