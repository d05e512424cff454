// The route scan on the CPU: tensors in, tensors out; the arithmetic is in route_forward.h and
// route_backward.h.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>

#include "kernels.h"
#include "sums.h"

namespace mamba_mm {
namespace {

void check(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
  check_shape(t, name, expected, "route_scan", "does not fit x, params and A");
}

Tensor transpose(const Tensor& t) { return torch::stable::transpose(t, 1, 2); }

// A call's problem, and the tensors that its pointers need to stay alive.
class Arguments {
 public:
  RouteProblem problem;
  ScalarType compute;

  Arguments(const Tensor& x, const Tensor& params, const OptionalTensor& delta, const Tensor& A,
            const OptionalTensor& weight, const OptionalTensor& D, const OptionalTensor& bias,
            const std::vector<int64_t>& walks, const OptionalTensor& read, const OptionalTensor& project,
            const OptionalTensor& write, int64_t height, int64_t width, bool softplus, double scale)
      : walks_(walks) {
    STD_TORCH_CHECK(x.dim() == 3, "route_scan: x must be (batch, dim, positions)");
    STD_TORCH_CHECK(A.dim() == 3, "route_scan: A must be (sequences, dim, states)");
    STD_TORCH_CHECK(delta.has_value() != weight.has_value(),
                    "route_scan: give either delta or delta_weight, not both and not neither");
    compute = x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    RouteProblem& p = problem;
    p.batch = x.size(0);
    p.dim = x.size(1);
    p.tokens = x.size(2);
    p.height = height;
    p.width = width;
    p.sequences = A.size(0);
    p.states = A.size(2);
    p.rank = weight.has_value() ? weight->size(weight->dim() - 1) : 0;
    p.softplus = softplus;
    p.scale = scale;
    STD_TORCH_CHECK(p.tokens < INT32_MAX, "route_scan: positions do not fit 32 bits");
    check(A, "A", {p.sequences, p.dim, p.states});
    check(params, "params", {p.batch, p.sequences, p.entries(), p.tokens});
    p.x = rows(x, "x");
    p.params = {params.const_data_ptr(), dtype_of(params, "params"), params.stride(0),
                params.stride(1),        params.stride(2),            params.stride(3)};
    p.A = parameter(A, "A", {p.sequences, p.dim, p.states});
    p.D = D.has_value() ? parameter(*D, "D", {p.sequences, p.dim}) : nullptr;
    p.bias = bias.has_value() ? parameter(*bias, "delta_bias", {p.sequences, p.dim}) : nullptr;
    p.weight = weight.has_value() ? parameter(*weight, "delta_weight", {p.sequences, p.dim, p.rank}) : nullptr;
    if (delta.has_value()) p.delta = deltas(*delta);
    set_walks(read, project, write);
  }

  bool is_double() const { return compute == ScalarType::Double; }
  const Kernels& kernels() const { return is_double() ? kGenericDouble : float_kernels(); }
  bool empty() const { return problem.batch == 0 || problem.dim == 0 || problem.tokens == 0; }

 private:
  void set_walks(const OptionalTensor& read, const OptionalTensor& project, const OptionalTensor& write) {
    RouteProblem& p = problem;
    STD_TORCH_CHECK(static_cast<int64_t>(walks_.size()) == p.sequences,
                    "route_scan: walks must name one walk a sequence");
    bool needs_table = false;
    for (const int64_t walk : walks_) {
      STD_TORCH_CHECK(walk >= 0 && walk <= static_cast<int64_t>(Walk::kColumnBack), "route_scan: there is no such walk");
      needs_table = needs_table || walk == static_cast<int64_t>(Walk::kTable);
    }
    p.walks = walks_.data();
    STD_TORCH_CHECK(!needs_table || read.has_value(), "route_scan: a walk along a table needs the table `read`");
    p.length = read.has_value() ? read->size(2) : p.tokens;
    const bool whole = p.length == p.tokens && p.height * p.width == p.tokens;
    for (const int64_t walk : walks_)
      STD_TORCH_CHECK(whole || walk == static_cast<int64_t>(Walk::kTable),
                      "route_scan: only a walk over all height x width positions goes without a table");
    if (!read.has_value()) return;
    p.read = table(*read, "read");
    p.project = project.has_value() ? table(*project, "project") : p.read;
    p.write = write.has_value() ? table(*write, "write") : p.read;
  }

  Deltas deltas(const Tensor& t) {
    check(t, "delta", {problem.batch, problem.sequences, problem.dim, problem.tokens});
    Tensor rows = torch::stable::to(torch::stable::transpose(t, 2, 3), compute);
    if (rows.stride(3) != 1) rows = torch::stable::contiguous(rows);
    kept_.push_back(rows);
    return {rows.const_data_ptr(), rows.stride(0), rows.stride(1), rows.stride(2)};
  }

  Table table(const Tensor& t, const char* name) {
    RouteProblem& p = problem;
    STD_TORCH_CHECK(t.scalar_type() == ScalarType::Int, "route_scan: the table ", name, " must be int32");
    check(t, name, {t.size(0), p.sequences, p.length});
    STD_TORCH_CHECK(t.size(0) == 1 || t.size(0) == p.batch,
                    "route_scan: the table ", name, " must be for all batch items or for each");
    kept_.push_back(torch::stable::contiguous(t));
    const auto* data = static_cast<const int32_t*>(kept_.back().const_data_ptr());
    for (int64_t i = 0; i < t.numel(); ++i)
      STD_TORCH_CHECK(data[i] >= -1 && data[i] < p.tokens, "route_scan: the table ", name, " holds the position ",
                      data[i], ", expected -1 (padding) up to the number of positions less one, ", p.tokens - 1);
    return {data, t.size(0) == 1 ? 0 : p.sequences * p.length, p.length};
  }

  const void* parameter(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
    check(t, name, expected);
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
  const Arguments args(x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                       delta_softplus, scale);
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
  const Arguments args(x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                       delta_softplus, scale);
  const RouteProblem& p = args.problem;
  const ScalarType compute = args.compute;
  check(grad_out, "grad_out", {p.batch, p.dim, p.tokens});
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
