// The op on the CPU: tensors in, tensors out; the arithmetic is in forward.h, backward.h.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "kernels.h"
#include "scan_arguments.h"
#include "sums.h"

namespace mamba_mm {
namespace {

const Kernels& kernels_for(const ScanArguments& args) { return args.is_double() ? kGenericDouble : float_kernels(); }

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& u, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const Tensor& C, OptionalTensor D,
                                           OptionalTensor z, OptionalTensor delta_bias, bool delta_softplus,
                                           bool save_checkpoints, ScalarType out_dtype) {
  const ScanArguments args(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
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
  const Kernels& kernels = kernels_for(args);
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
  const ScanArguments args(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
  const Problem& p = args.problem;
  const ScalarType compute = args.compute;
  check_scan_shape(grad_out, "grad_out", {p.batch, p.dim, p.length});
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
    check_scan_shape(*grad_last_state, "grad_last_state", {p.batch, p.dim, p.states});
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
    const Kernels& kernels = kernels_for(args);
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
