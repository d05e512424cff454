// The op on the CPU: tensors in, tensors out; the arithmetic is in forward.h, backward.h.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "kernels.h"
#include "tensors.h"

namespace mamba_mm {
namespace {

void check(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
  check_shape(t, name, expected, "selective_scan", "does not fit u and A");
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
    check(delta, "delta", {p.batch, p.dim, p.length});
    check(A, "A", {p.dim, p.states});
    p.u = rows(u, "u");
    p.delta = rows(delta, "delta");
    if (z.has_value()) {
      check(*z, "z", {p.batch, p.dim, p.length});
      p.z = rows(*z, "z");
    }
    p.B = projection(B, "B");
    p.C = projection(C, "C");
    p.fixed_B = p.B.varies ? nullptr : parameter(B);
    p.fixed_C = p.C.varies ? nullptr : parameter(C);
    p.A = parameter(A);
    p.D = p.bias = nullptr;
    if (D.has_value()) {
      check(*D, "D", {p.dim});
      p.D = parameter(*D);
    }
    if (bias.has_value()) {
      check(*bias, "delta_bias", {p.dim});
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
      check(t, name, {p.dim, p.states});
      return {nullptr, DType::kFloat32, 0, 0, 0, 0, false};
    }
    check(t, name, {p.batch, p.groups, p.states, p.length});
    return {t.const_data_ptr(), dtype_of(t, name), t.stride(0), t.stride(1), t.stride(2), t.stride(3), true};
  }

  const void* parameter(const Tensor& t) {
    kept_.push_back(torch::stable::contiguous(torch::stable::to(t, compute)));
    return kept_.back().const_data_ptr();
  }

  std::vector<Tensor> kept_;
};

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
  check(grad_out, "grad_out", {p.batch, p.dim, p.length});
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
    check(*grad_last_state, "grad_last_state", {p.batch, p.dim, p.states});
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
