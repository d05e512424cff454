// The op on GPUs: tensors in, tensors out; the arithmetic is in the kernels next to this file.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "device_tensors.h"
#include "scan_arguments.h"
#include "selective_scan_passes.h"

namespace mamba_mm {
namespace {

constexpr const char* kOp = "selective_scan";

// The arguments in types that the kernels read.
class DeviceArguments {
 public:
  const Device device;

 private:
  const ScalarType compute_;
  const Tensor u_, delta_, B_, C_;
  const OptionalTensor z_;

 public:
  const ScanArguments args;

  DeviceArguments(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                  const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& bias, bool softplus)
      : device(u),
        compute_(u.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float),
        u_(u),
        delta_(in_stored_type(delta, compute_)),
        B_(in_stored_type(B, compute_)),
        C_(in_stored_type(C, compute_)),
        z_(in_stored_type(z, compute_)),
        args(u_, delta_, A, B_, C_, D, z_, bias, softplus) {
    device.check(delta, kOp, "delta");
    device.check(A, kOp, "A");
    device.check(B, kOp, "B");
    device.check(C, kOp, "C");
    if (D.has_value()) device.check(*D, kOp, "D");
    if (z.has_value()) device.check(*z, kOp, "z");
    if (bias.has_value()) device.check(*bias, kOp, "delta_bias");
    STD_TORCH_CHECK(args.problem.states <= 256, "selective_scan: A has ", args.problem.states,
                    " states, the GPU kernels take up to 256; use backend='torch'");
  }
};

// The buffers between segments, where there are several.
struct SegmentBuffers {
  Segments segments;
  Tensor ends, spans;

  SegmentBuffers(const Problem& p, const Tensor& like, ScalarType compute)
      : segments(segments_of(p.batch * p.dim, p.length)),
        ends(make(like, {kept(), p.batch, p.states, p.dim}, compute)),
        spans(make(like, {kept(), p.batch, kSpanNumbers, p.dim}, compute)) {}

  void* ends_or_null() const { return segments.count > 1 ? ends.mutable_data_ptr() : nullptr; }
  void* spans_or_null() const { return segments.count > 1 ? spans.mutable_data_ptr() : nullptr; }

 private:
  int64_t kept() const { return segments.count > 1 ? segments.count : 0; }
};

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
                                           const Tensor& C, OptionalTensor D, OptionalTensor z,
                                           OptionalTensor delta_bias, bool delta_softplus, bool save_checkpoints,
                                           ScalarType out_dtype) {
  const DeviceArguments on_device(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
  const ScanArguments& args = on_device.args;
  const Problem& p = args.problem;
  const int64_t saved = save_checkpoints ? p.checkpoints() : 0;
  Tensor out = make(u, {p.batch, p.dim, p.length}, stored_type(out_dtype, args.compute));
  Tensor last_state = make(u, {p.batch, p.dim, p.states}, args.compute);
  Tensor checkpoints = make(u, checkpoint_sizes(p, saved), args.compute);
  if (args.empty()) {
    torch::stable::zero_(last_state);
    return {torch::stable::to(out, out_dtype), last_state, checkpoints};
  }
  const SegmentBuffers buffers(p, u, args.compute);
  ForwardPass pass;
  pass.call.in = p;
  pass.call.out = mutable_rows(out);
  pass.call.last_state = last_state.mutable_data_ptr();
  pass.call.checkpoints = saved > 0 ? checkpoints.mutable_data_ptr() : nullptr;
  pass.segments = buffers.segments;
  pass.ends = buffers.ends_or_null();
  pass.spans = buffers.spans_or_null();
  run_forward(pass, args.is_double(), on_device.device.stream());
  return {torch::stable::to(out, out_dtype), last_state, checkpoints};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, OptionalTensor grad_last_state, const Tensor& u, const Tensor& delta, const Tensor& A,
    const Tensor& B, const Tensor& C, OptionalTensor D, OptionalTensor z, OptionalTensor delta_bias,
    bool delta_softplus, const Tensor& checkpoints) {
  const DeviceArguments on_device(u, delta, A, B, C, D, z, delta_bias, delta_softplus);
  const ScanArguments& args = on_device.args;
  const Problem& p = args.problem;
  const ScalarType compute = args.compute;
  const Stream stream = on_device.device.stream();
  check_scan_shape(grad_out, "grad_out", {p.batch, p.dim, p.length});
  on_device.device.check(grad_out, kOp, "grad_out");
  on_device.device.check(checkpoints, kOp, "checkpoints");
  STD_TORCH_CHECK(checkpoints.sizes().vec() == checkpoint_sizes(p, p.checkpoints()),
                  "selective_scan: checkpoints are not those of this call's forward pass");

  const SegmentBuffers buffers(p, u, compute);
  BackwardPass pass;
  pass.segments = buffers.segments;
  pass.ends = buffers.ends_or_null();
  pass.spans = buffers.spans_or_null();
  Backward& call = pass.call;
  call.in = p;
  call.block = args.empty() ? 1 : backward_block(p, args.is_double());
  const Tensor stored_grad = in_stored_type(grad_out, compute);
  call.grad_out = rows(stored_grad, "grad_out");
  call.checkpoints = checkpoints.const_data_ptr();
  Tensor grad_state;
  call.grad_last_state = nullptr;
  if (grad_last_state.has_value()) {
    check_scan_shape(*grad_last_state, "grad_last_state", {p.batch, p.dim, p.states});
    on_device.device.check(*grad_last_state, kOp, "grad_last_state");
    grad_state = torch::stable::contiguous(torch::stable::to(*grad_last_state, compute));
    call.grad_last_state = grad_state.const_data_ptr();
  }

  const std::vector<int64_t> shape = {p.batch, p.dim, p.length};
  Tensor grad_u = make(u, shape, stored_type(u.scalar_type(), compute));
  Tensor grad_delta = make(u, shape, stored_type(delta.scalar_type(), compute));
  Tensor grad_z = z.has_value() ? make(u, shape, stored_type(z->scalar_type(), compute)) : make(u, {0}, compute);
  call.grad_u = mutable_rows(grad_u);
  call.grad_delta = mutable_rows(grad_delta);
  if (z.has_value()) call.grad_z = mutable_rows(grad_z);

  const int64_t items = pass.segments.count * p.batch;
  const std::vector<int64_t> of_states = {items, p.dim, p.states}, of_channels = {items, p.dim};
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

  if (args.empty())
    for (Tensor* part : {&part_A, &part_B, &part_C, &part_D, &part_bias}) torch::stable::zero_(*part);
  else
    run_backward(pass, args.is_double(), stream);
  return {grad_u,
          torch::stable::to(grad_delta, delta.scalar_type()),
          sum_in_order(part_A, compute, stream),
          sum_in_order(part_B, B.scalar_type(), stream),
          sum_in_order(part_C, C.scalar_type(), stream),
          sum_in_order(part_D, compute, stream),
          z.has_value() ? torch::stable::to(grad_z, z->scalar_type()) : grad_z,
          sum_in_order(part_bias, compute, stream)};
}

}  // namespace
}  // namespace mamba_mm

MAMBA_MM_CUDA_LIBRARY(m) {
  m.impl("selective_scan_fwd", TORCH_BOX(&mamba_mm::forward));
  m.impl("selective_scan_bwd", TORCH_BOX(&mamba_mm::backward));
}
