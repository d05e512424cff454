// The arguments of the selective scan: checked, described for the kernels, and kept alive.
#pragma once

#include "tensors.h"

namespace mamba_mm {

inline void check_scan_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
  check_shape(t, name, expected, "selective_scan", "does not fit u and A");
}

// A call's problem, and the tensors that its pointers need to stay alive.
class ScanArguments {
 public:
  Problem problem;
  ScalarType compute;

  ScanArguments(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
            const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& bias, bool softplus) {
    STD_TORCH_CHECK(u.dim() == 3, "selective_scan: u must be (batch, dim, length)");
    STD_TORCH_CHECK(A.dim() == 2, "selective_scan: A must be (dim, states)");
    compute = u.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    Problem& p = problem;
    p.batch = u.size(0);
    p.dim = u.size(1);
    p.length = u.size(2);
    p.states = A.size(1);
    p.softplus = softplus;
    p.groups = B.dim() == 4 ? B.size(1) : C.dim() == 4 ? C.size(1) : 1;
    STD_TORCH_CHECK(p.groups > 0 && p.dim % p.groups == 0,
                    "selective_scan: the groups of B and C must divide the channels of u");
    check_scan_shape(delta, "delta", {p.batch, p.dim, p.length});
    check_scan_shape(A, "A", {p.dim, p.states});
    p.u = rows(u, "u");
    p.delta = rows(delta, "delta");
    if (z.has_value()) {
      check_scan_shape(*z, "z", {p.batch, p.dim, p.length});
      p.z = rows(*z, "z");
    }
    p.B = projection(B, "B");
    p.C = projection(C, "C");
    p.fixed_B = p.B.varies ? nullptr : parameter(B);
    p.fixed_C = p.C.varies ? nullptr : parameter(C);
    p.A = parameter(A);
    p.D = p.bias = nullptr;
    if (D.has_value()) {
      check_scan_shape(*D, "D", {p.dim});
      p.D = parameter(*D);
    }
    if (bias.has_value()) {
      check_scan_shape(*bias, "delta_bias", {p.dim});
      p.bias = parameter(*bias);
    }
  }

  bool is_double() const { return compute == ScalarType::Double; }
  bool empty() const { return problem.batch == 0 || problem.dim == 0 || problem.length == 0; }

 private:
  Projection projection(const Tensor& t, const char* name) {
    const Problem& p = problem;
    if (t.dim() == 2) {
      check_scan_shape(t, name, {p.dim, p.states});
      return {nullptr, DType::kFloat32, 0, 0, 0, 0, false};
    }
    check_scan_shape(t, name, {p.batch, p.groups, p.states, p.length});
    return {t.const_data_ptr(), dtype_of(t, name), t.stride(0), t.stride(1), t.stride(2), t.stride(3), true};
  }

  const void* parameter(const Tensor& t) {
    kept_.push_back(torch::stable::contiguous(torch::stable::to(t, compute)));
    return kept_.back().const_data_ptr();
  }

  std::vector<Tensor> kept_;
};

inline std::vector<int64_t> checkpoint_sizes(const Problem& p, int64_t count) {
  return {p.batch, p.groups * p.checkpoint_blocks_per_group(), count, p.states, kCheckpointLanes};
}

}  // namespace mamba_mm
