// The route scan on the CPU: tensors in, tensors out; the arithmetic is in route_forward.h and
// route_backward.h.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "kernels.h"
#include "route_arguments.h"
#include "sums.h"

namespace mamba_mm {
namespace {

Tensor transpose(const Tensor& t) { return torch::stable::transpose(t, 1, 2); }

// A call's problem, and the tensors that its pointers need to stay alive.
class Arguments {
 public:
  RouteProblem problem;
  ScalarType compute;

  explicit Arguments(const RouteInputs& in)
      : compute(in.is_double() ? ScalarType::Double : ScalarType::Float), walks_(in.walks) {
    RouteProblem& p = problem;
    describe_route(in, p);
    const Tensor& params = in.params;
    p.x = rows(in.x, "x");
    p.params = {params.const_data_ptr(), dtype_of(params, "params"), params.stride(0),
                params.stride(1),        params.stride(2),            params.stride(3)};
    p.A = parameter(in.A);
    p.D = in.D.has_value() ? parameter(*in.D) : nullptr;
    p.bias = in.bias.has_value() ? parameter(*in.bias) : nullptr;
    p.weight = in.weight.has_value() ? parameter(*in.weight) : nullptr;
    if (in.delta.has_value()) p.delta = deltas(*in.delta);
    p.walks = walks_.data();
    if (!in.read.has_value()) return;
    p.read = table(*in.read, "read");
    p.project = in.project.has_value() ? table(*in.project, "project") : p.read;
    p.write = in.write.has_value() ? table(*in.write, "write") : p.read;
  }

  bool is_double() const { return compute == ScalarType::Double; }
  const Kernels& kernels() const { return is_double() ? kGenericDouble : float_kernels(); }
  bool empty() const { return problem.batch == 0 || problem.dim == 0 || problem.tokens == 0; }

 private:
  Deltas deltas(const Tensor& t) {
    Tensor rows = torch::stable::to(torch::stable::transpose(t, 2, 3), compute);
    if (rows.stride(3) != 1) rows = torch::stable::contiguous(rows);
    kept_.push_back(rows);
    return {rows.const_data_ptr(), rows.stride(0), rows.stride(1), rows.stride(2)};
  }

  Table table(const Tensor& t, const char* name) {
    RouteProblem& p = problem;
    kept_.push_back(torch::stable::contiguous(t));
    const auto* data = static_cast<const int32_t*>(kept_.back().const_data_ptr());
    for (int64_t i = 0; i < t.numel(); ++i)
      STD_TORCH_CHECK(data[i] >= -1 && data[i] < p.tokens, "route_scan: the table ", name, " holds the position ",
                      data[i], ", expected -1 (padding) up to the number of positions less one, ", p.tokens - 1);
    return {data, t.size(0) == 1 ? 0 : p.sequences * p.length, p.length};
  }

  const void* parameter(const Tensor& t) {
    kept_.push_back(torch::stable::contiguous(torch::stable::to(t, compute)));
    return kept_.back().const_data_ptr();
  }

  const std::vector<int64_t> walks_;
  std::vector<Tensor> kept_;
};

std::vector<int64_t> checkpoint_sizes(const RouteProblem& p, int64_t count) {
  return {p.batch, p.sequences * p.checkpoint_blocks(), count, p.states, kCheckpointLanes};
}

// A map of the shape of x, laid out like it: channels last, or positions last.
Tensor map_like(const Tensor& x, ScalarType dtype) {
  if (x.stride(1) == 1 && x.stride(2) != 1) return transpose(make(x, {x.size(0), x.size(2), x.size(1)}, dtype));
  return make(x, {x.size(0), x.size(1), x.size(2)}, dtype);
}

// Run `items` work items, in as many equal shares as threads can take, each share with scratch
// of its own. All scratch together is at most as large as `limit` elements, unless one share
// alone needs more.
template <class Run>
void run_shares(const Tensor& like, ScalarType dtype, int64_t items, int64_t scratch, int64_t limit, const Run& run) {
  const int64_t affordable = std::max<int64_t>(1, limit / scratch);
  const int64_t shares = std::min({items, affordable, static_cast<int64_t>(torch::stable::get_num_threads())});
  Tensor memory = make(like, {shares * scratch}, dtype);
  char* base = static_cast<char*>(memory.mutable_data_ptr());
  const int64_t bytes = scratch * (dtype == ScalarType::Double ? 8 : 4);
  torch::stable::parallel_for(0, shares, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) run(items * i / shares, items * (i + 1) / shares, base + i * bytes);
  });
}

std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& params, OptionalTensor delta, const Tensor& A,
                                   OptionalTensor delta_weight, OptionalTensor D, OptionalTensor delta_bias,
                                   std::vector<int64_t> walks, OptionalTensor read, OptionalTensor project,
                                   OptionalTensor write, int64_t height, int64_t width, bool delta_softplus,
                                   double scale, bool save_checkpoints, ScalarType out_dtype) {
  const Arguments args({x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                        delta_softplus, scale});
  const RouteProblem& p = args.problem;
  const int64_t saved = save_checkpoints ? p.checkpoints() : 0;
  Tensor out = map_like(x, out_dtype);
  Tensor checkpoints = make(x, checkpoint_sizes(p, saved), args.compute);
  if (args.empty()) return {out, checkpoints};

  RouteForward call;
  call.in = p;
  call.out = mutable_rows(out);
  call.checkpoints = saved > 0 ? checkpoints.mutable_data_ptr() : nullptr;
  const Kernels& kernels = args.kernels();
  const int64_t tiles = (p.dim + kernels.lanes - 1) / kernels.lanes;
  run_shares(x, args.compute, p.batch * tiles, kernels.route_forward_scratch(p), p.batch * p.dim * p.tokens,
             [&](int64_t begin, int64_t end, void* scratch) { kernels.route_forward(call, begin, end, scratch); });
  return {out, checkpoints};
}

// Few blocks keep the partial sums small; many keep many threads busy. A function of the
// shapes alone, or the sums would depend on the machine.
int64_t channels_per_block(const RouteProblem& p) {
  const int64_t large = 128, small = 32;
  return p.batch * ((p.dim + large - 1) / large) >= 64 ? large : small;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, const Tensor& x, const Tensor& params, OptionalTensor delta, const Tensor& A,
    OptionalTensor delta_weight, OptionalTensor D, OptionalTensor delta_bias, std::vector<int64_t> walks,
    OptionalTensor read, OptionalTensor project, OptionalTensor write, int64_t height, int64_t width,
    bool delta_softplus, double scale, const Tensor& checkpoints) {
  const Arguments args({x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                        delta_softplus, scale});
  const RouteProblem& p = args.problem;
  const ScalarType compute = args.compute;
  check_route_shape(grad_out, "grad_out", {p.batch, p.dim, p.tokens});
  STD_TORCH_CHECK(checkpoints.sizes().vec() == checkpoint_sizes(p, p.checkpoints()),
                  "route_scan: checkpoints are not those of this call's forward pass");
  RouteBackward call;
  call.in = p;
  call.block = channels_per_block(p);
  call.grad_out = rows(grad_out, "grad_out");
  call.checkpoints = checkpoints.const_data_ptr();

  const std::vector<int64_t> none = {1, 0};
  Tensor grad_x = map_like(x, x.scalar_type());
  Tensor grad_delta = delta.has_value() ? make(x, {p.batch, p.sequences, p.tokens, p.dim}, compute) : make(x, {0}, compute);
  Tensor part_params = make(x, {call.blocks(), p.batch, p.tokens, p.sequences, p.entries()}, compute);
  Tensor part_A = make(x, {p.batch, p.sequences, p.dim, p.states}, compute);
  Tensor part_weight =
      make(x, delta_weight.has_value() ? std::vector<int64_t>{p.batch, p.sequences, p.dim, p.rank} : none, compute);
  const std::vector<int64_t> of_channels = {p.batch, p.sequences, p.dim};
  Tensor part_D = make(x, D.has_value() ? of_channels : none, compute);
  Tensor part_bias = make(x, delta_bias.has_value() ? of_channels : none, compute);
  call.grad_x = mutable_rows(grad_x);
  call.grad_delta = grad_delta.mutable_data_ptr();
  call.grad_params = part_params.mutable_data_ptr();
  call.grad_A = part_A.mutable_data_ptr();
  call.grad_weight = part_weight.mutable_data_ptr();
  call.grad_D = part_D.mutable_data_ptr();
  call.grad_bias = part_bias.mutable_data_ptr();

  torch::stable::zero_(part_params);
  torch::stable::zero_(grad_delta);
  if (args.empty()) {
    for (Tensor* part : {&part_A, &part_weight, &part_D, &part_bias}) torch::stable::zero_(*part);
  } else {
    const Kernels& kernels = args.kernels();
    const int64_t items = p.batch * call.blocks(), scratch = kernels.route_backward_scratch(p);
    run_shares(x, compute, items, scratch, items * scratch,
               [&](int64_t begin, int64_t end, void* memory) { kernels.route_backward(call, begin, end, memory); });
  }
  const Tensor grad_params = sum_in_order(part_params, params.scalar_type());  // (batch, tokens, sequences, entries)
  return {grad_x,
          torch::stable::transpose(torch::stable::transpose(grad_params, 1, 2), 2, 3),
          delta.has_value() ? torch::stable::to(torch::stable::transpose(grad_delta, 2, 3), delta->scalar_type())
                            : grad_delta,
          sum_in_order(part_A, compute),
          sum_in_order(part_weight, compute),
          sum_in_order(part_D, compute),
          sum_in_order(part_bias, compute)};
}

}  // namespace
}  // namespace mamba_mm

STABLE_TORCH_LIBRARY_IMPL(mamba_mm, CPU, m) {
  m.impl("route_scan_fwd", TORCH_BOX(&mamba_mm::forward));
  m.impl("route_scan_bwd", TORCH_BOX(&mamba_mm::backward));
}
