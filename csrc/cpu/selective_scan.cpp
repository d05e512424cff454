// The op on the CPU: tensors in, tensors out; the arithmetic is in forward.h, backward.h.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace mamba_mm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

DType dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Double: return DType::kFloat64;
    case ScalarType::Float: return DType::kFloat32;
    case ScalarType::BFloat16: return DType::kBFloat16;
    case ScalarType::Half: return DType::kFloat16;
    default: break;
  }
  STD_TORCH_CHECK(false, name, " must be float64, float32, bfloat16 or float16");
}

void check_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
  bool same = t.dim() == static_cast<int64_t>(expected.size());
  int64_t i = 0;
  for (const int64_t size : expected) same = same && t.size(i++) == size;
  STD_TORCH_CHECK(same, "selective_scan: ", name, " has a shape that does not fit u and A");
}

Rows rows(const Tensor& t, const char* name) {
  return {t.const_data_ptr(), dtype_of(t, name), t.stride(0), t.stride(1), t.stride(2)};
}

MutableRows mutable_rows(const Tensor& t) {
  return {t.mutable_data_ptr(), dtype_of(t, "output"), t.stride(0), t.stride(1), t.stride(2)};
}

Tensor make(const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

// A call's problem, and the tensors that its pointers need to stay alive.
class Arguments {
 public:
  Problem problem;
  ScalarType compute;

  Arguments(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
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
    check_shape(delta, "delta", {p.batch, p.dim, p.length});
    check_shape(A, "A", {p.dim, p.states});
    p.u = rows(u, "u");
    p.delta = rows(delta, "delta");
    if (z.has_value()) {
      check_shape(*z, "z", {p.batch, p.dim, p.length});
      p.z = rows(*z, "z");
    }
    p.B = projection(B, "B");
    p.C = projection(C, "C");
    p.fixed_B = p.B.varies ? nullptr : parameter(B);
    p.fixed_C = p.C.varies ? nullptr : parameter(C);
    p.A = parameter(A);
    p.D = p.bias = nullptr;
    if (D.has_value()) {
      check_shape(*D, "D", {p.dim});
      p.D = parameter(*D);
    }
    if (bias.has_value()) {
      check_shape(*bias, "delta_bias", {p.dim});
      p.bias = parameter(*bias);
    }
  }

  bool is_double() const { return compute == ScalarType::Double; }
  const Kernels& kernels() const { return is_double() ? kGenericDouble : float_kernels(); }
  bool empty() const { return problem.batch == 0 || problem.dim == 0 || problem.length == 0; }

 private:
  Projection projection(const Tensor& t, const char* name) {
    const Problem& p = problem;
    if (t.dim() == 2) {
      check_shape(t, name, {p.dim, p.states});
      return {nullptr, DType::kFloat32, 0, 0, 0, 0, false};
    }
    check_shape(t, name, {p.batch, p.groups, p.states, p.length});
    return {t.const_data_ptr(), dtype_of(t, name), t.stride(0), t.stride(1), t.stride(2), t.stride(3), true};
  }

  const void* parameter(const Tensor& t) {
    kept_.push_back(torch::stable::contiguous(torch::stable::to(t, compute)));
    return kept_.back().const_data_ptr();
  }

  std::vector<Tensor> kept_;
};

template <class T>
void add_up(const T* parts, int64_t count, int64_t size, T* sum) {
  torch::stable::parallel_for(0, size, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] = parts[i];
    for (int64_t k = 1; k < count; ++k)
      for (int64_t i = begin; i < end; ++i) sum[i] += parts[k * size + i];
  });
}

// The sum over the first dimension, in its order, as `dtype`.
Tensor sum_in_order(const Tensor& parts, ScalarType dtype) {
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

std::vector<int64_t> checkpoint_sizes(const Problem& p, int64_t count) {
  return {p.batch, p.groups * p.checkpoint_blocks_per_group(), count, p.states, kCheckpointLanes};
}

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& u, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const Tensor& C, OptionalTensor D,
                                           OptionalTensor z, OptionalTensor delta_bias, bool delta_softplus,
                                           bool save_checkpoints, ScalarType out_dtype) {
  const Arguments args(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
  const Problem& p = args.problem;
  const int64_t saved = save_checkpoints ? p.checkpoints() : 0;
  Tensor out = make(u, {p.batch, p.dim, p.length}, out_dtype);
  Tensor last_state = make(u, {p.batch, p.dim, p.states}, args.compute);
  Tensor checkpoints = make(u, checkpoint_sizes(p, saved), args.compute);
  if (args.empty()) {
    torch::stable::zero_(last_state);
    return {out, last_state, checkpoints};
  }

  Forward call;
  call.in = p;
  call.out = mutable_rows(out);
  call.last_state = last_state.mutable_data_ptr();
  call.checkpoints = saved > 0 ? checkpoints.mutable_data_ptr() : nullptr;
  const Kernels& kernels = args.kernels();
  const int64_t tiles = (p.channels_per_group() + kernels.lanes - 1) / kernels.lanes;
  torch::stable::parallel_for(0, p.batch * p.groups * tiles, 1, [&](int64_t begin, int64_t end) {
    kernels.forward(call, begin, end);
  });
  return {out, last_state, checkpoints};
}

// Few blocks keep the partial sums small; many keep many threads busy. A function of the
// shapes alone, or the sums would depend on the machine.
int64_t channels_per_block(const Problem& p) {
  const int64_t large = 64, small = 32;
  const int64_t blocks = p.batch * p.groups * ((p.channels_per_group() + large - 1) / large);
  return blocks >= 64 ? large : small;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, OptionalTensor grad_last_state, const Tensor& u, const Tensor& delta,
    const Tensor& A, const Tensor& B, const Tensor& C, OptionalTensor D, OptionalTensor z,
    OptionalTensor delta_bias, bool delta_softplus, const Tensor& checkpoints) {
  const Arguments args(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
  const Problem& p = args.problem;
  const ScalarType compute = args.compute;
  check_shape(grad_out, "grad_out", {p.batch, p.dim, p.length});
  STD_TORCH_CHECK(checkpoints.sizes().vec() == checkpoint_sizes(p, p.checkpoints()),
                  "selective_scan: checkpoints are not those of this call's forward pass");

  Backward call;
  call.in = p;
  call.block = channels_per_block(p);
  call.grad_out = rows(grad_out, "grad_out");
  call.checkpoints = checkpoints.const_data_ptr();
  Tensor grad_state;
  call.grad_last_state = nullptr;
  if (grad_last_state.has_value()) {
    check_shape(*grad_last_state, "grad_last_state", {p.batch, p.dim, p.states});
    grad_state = torch::stable::contiguous(torch::stable::to(*grad_last_state, compute));
    call.grad_last_state = grad_state.const_data_ptr();
  }

  Tensor grad_u = make(u, {p.batch, p.dim, p.length}, u.scalar_type());
  Tensor grad_delta = make(u, {p.batch, p.dim, p.length}, delta.scalar_type());
  Tensor grad_z = z.has_value() ? make(u, {p.batch, p.dim, p.length}, z->scalar_type())
                                : make(u, {0}, compute);
  call.grad_u = mutable_rows(grad_u);
  call.grad_delta = mutable_rows(grad_delta);
  if (z.has_value()) call.grad_z = mutable_rows(grad_z);

  const std::vector<int64_t> of_states = {p.batch, p.dim, p.states}, of_channels = {p.batch, p.dim};
  const std::vector<int64_t> of_rows = {call.blocks_per_group(), p.batch, p.groups, p.states, p.length};
  const std::vector<int64_t> none = {1, 0};
  Tensor part_A = make(u, of_states, compute);
  Tensor part_B = make(u, p.B.varies ? of_rows : of_states, compute);
  Tensor part_C = make(u, p.C.varies ? of_rows : of_states, compute);
  Tensor part_D = make(u, p.D != nullptr ? of_channels : none, compute);
  Tensor part_bias = make(u, p.bias != nullptr ? of_channels : none, compute);
  call.grad_A = part_A.mutable_data_ptr();
  call.grad_B = call.grad_fixed_B = part_B.mutable_data_ptr();
  call.grad_C = call.grad_fixed_C = part_C.mutable_data_ptr();
  call.grad_D = part_D.mutable_data_ptr();
  call.grad_bias = part_bias.mutable_data_ptr();

  if (args.empty()) {
    for (Tensor* part : {&part_A, &part_B, &part_C, &part_D, &part_bias}) torch::stable::zero_(*part);
  } else {
    const Kernels& kernels = args.kernels();
    torch::stable::parallel_for(0, p.batch * p.groups * call.blocks_per_group(), 1,
                                [&](int64_t begin, int64_t end) { kernels.backward(call, begin, end); });
  }
  return {grad_u,
          grad_delta,
          sum_in_order(part_A, compute),
          sum_in_order(part_B, B.scalar_type()),
          sum_in_order(part_C, C.scalar_type()),
          sum_in_order(part_D, compute),
          grad_z,
          sum_in_order(part_bias, compute)};
}

}  // namespace
}  // namespace mamba_mm

STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CPU, m) {
  m.impl("selective_scan_fwd", TORCH_BOX(&mamba_mm::forward));
  m.impl("selective_scan_bwd", TORCH_BOX(&mamba_mm::backward));
}
