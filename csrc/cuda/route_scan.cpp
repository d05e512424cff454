// The route scan on GPUs: tensors in, tensors out; the arithmetic is in the kernels next to this
// file.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <tuple>

#include "device_tensors.h"
#include "route_arguments.h"
#include "route_scan_passes.h"

namespace mamba_mm {
namespace {

constexpr const char* kOp = "route_scan";

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

Tensor transposed(const Tensor& t, int64_t one, int64_t other) {
  return torch::stable::contiguous(torch::stable::transpose(t, one, other));
}

// A call's problem in types and layouts that the kernels read, and the tensors that its pointers
// need to stay alive.
class RouteArguments {
 public:
  const Device device;
  RoutePass pass;
  std::vector<Walk> walks;

  explicit RouteArguments(const RouteInputs& in)
      : device(in.x), pass{}, compute_(in.is_double() ? ScalarType::Double : ScalarType::Float) {
    RoutePass& p = pass;
    describe_route(in, p);
    STD_TORCH_CHECK(p.sequences > 0, "route_scan: A must be (sequences, dim, states), with a sequence at least");
    STD_TORCH_CHECK(p.states <= 256, "route_scan: A has ", p.states,
                    " states, the GPU kernels take up to 256; use backend='torch'");
    STD_TORCH_CHECK(p.dim < INT32_MAX - 128, "route_scan: channels do not fit 32 bits");
    STD_TORCH_CHECK(p.length < INT32_MAX - kCheckpointSteps, "route_scan: steps do not fit 32 bits");
    p.x = channels_last(in.x, "x");
    p.params = records(in.params);
    p.A = parameter(in.A, "A");
    if (in.D.has_value()) p.D = parameter(*in.D, "D");
    if (in.bias.has_value()) p.bias = parameter(*in.bias, "delta_bias");
    if (in.weight.has_value()) {
      device.check(*in.weight, kOp, "delta_weight");
      p.weight = keep(transposed(torch::stable::to(*in.weight, compute_), 1, 2));
    }
    if (in.delta.has_value()) p.delta = maps_of_sequences(*in.delta, "delta");
    for (const int64_t walk : in.walks) walks.push_back(static_cast<Walk>(walk));
    if (all_plain()) return;
    p.read = table(*in.read, "read");
    if (in.project.has_value()) p.project = table(*in.project, "project");
    if (in.write.has_value()) p.write = table(*in.write, "write");
  }

  ScalarType compute() const { return compute_; }
  bool is_double() const { return compute_ == ScalarType::Double; }
  bool empty() const { return pass.batch == 0 || pass.dim == 0 || pass.tokens == 0 || pass.length == 0; }
  bool is_plain(int64_t k) const { return walks[k] != Walk::kTable; }
  bool all_plain() const {
    return std::all_of(walks.begin(), walks.end(), [](Walk walk) { return walk != Walk::kTable; });
  }

  // The channels of every position side by side: as they lie, or as a copy.
  ChannelsLast channels_last(const Tensor& t, const char* name) {
    device.check(t, kOp, name);
    Tensor stored = torch::stable::transpose(in_stored_type(t, compute_), 1, 2);
    if (stored.stride(2) != 1 || stored.stride(1) > INT32_MAX) stored = torch::stable::contiguous(stored);
    return {keep(stored), dtype_of(stored, name), stored.stride(0), 0, static_cast<int>(stored.stride(1))};
  }

  // Flags of sequences that visit a position twice in one of the tables.
  void mark_repeats(std::vector<Table> tables, const Tensor& like) {
    RoutePass& p = pass;
    if (all_plain()) return;
    const bool by_batch = std::any_of(tables.begin(), tables.end(), [](const Table& t) { return t.batch != 0; });
    const int64_t rows = (by_batch ? p.batch : 1) * p.sequences;
    Tensor flags = torch::stable::new_zeros(like, {rows}, ScalarType::Int);
    Tensor visitors = make(like, {rows, p.tokens}, ScalarType::Int);
    p.repeats_batch = by_batch ? p.sequences : 0;
    for (const Table& table : tables) {
      // A table for all batch items marks the flags of each.
      for (int64_t b = 0; b < (table.batch == 0 && by_batch ? p.batch : 1); ++b)
        find_repeats(table, p.batch, p.sequences, p.length, p.tokens,
                     static_cast<int32_t*>(visitors.mutable_data_ptr()),
                     static_cast<int32_t*>(flags.mutable_data_ptr()) + b * p.sequences, p.repeats_batch,
                     device.stream());
    }
    p.repeats = static_cast<const int32_t*>(keep(flags));
  }

 private:
  const void* keep(const Tensor& t) {
    kept_.push_back(t);
    return t.const_data_ptr();
  }

  const void* parameter(const Tensor& t, const char* name) {
    device.check(t, kOp, name);
    return keep(torch::stable::contiguous(torch::stable::to(t, compute_)));
  }

  Records records(const Tensor& t) {
    device.check(t, kOp, "params");
    const Tensor stored = in_stored_type(t, compute_);
    return {keep(stored),     dtype_of(stored, "params"), stored.stride(0),
            stored.stride(1), stored.stride(2),           stored.stride(3)};
  }

  ChannelsLast maps_of_sequences(const Tensor& t, const char* name) {
    device.check(t, kOp, name);
    Tensor stored = torch::stable::transpose(in_stored_type(t, compute_), 2, 3);
    if (stored.stride(3) != 1 || stored.stride(2) > INT32_MAX) stored = torch::stable::contiguous(stored);
    return {keep(stored), dtype_of(stored, name), stored.stride(0), stored.stride(1),
            static_cast<int>(stored.stride(2))};
  }

  // What is in a table is not checked here, which would take waiting for the GPU: the routes of
  // mamba_mm.ops.routes are, where they are made. Kernels take what is no position for padding.
  Table table(const Tensor& t, const char* name) {
    device.check(t, kOp, name);
    const auto* const data = static_cast<const int32_t*>(keep(torch::stable::contiguous(t)));
    return {data, t.size(0) == 1 ? 0 : pass.sequences * pass.length, pass.length};
  }

  const ScalarType compute_;
  std::vector<Tensor> kept_;
};

int64_t bytes_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

// Batch items that are in work together: so many that they fill the GPU, cut into segments where
// that takes it, and at least as many as stay in its cache from one sequence to the next. More
// would only take memory. A function of the shapes alone. MAMBA_MM_CUDA_ITEMS forces a number.
int64_t items_together(const RoutePass& p, bool is_double) {
  constexpr int64_t kThreadsWanted = 65536, kShortestSegment = 4 * kCheckpointSteps, kCache = 24 << 20;
  const char* const forced = std::getenv("MAMBA_MM_CUDA_ITEMS");
  if (forced != nullptr && *forced != '\0') {
    char* end = nullptr;
    const int64_t count = std::strtoll(forced, &end, 10);
    STD_TORCH_CHECK(*end == '\0' && count >= 1, "mamba_mm: MAMBA_MM_CUDA_ITEMS is '", forced,
                    "', expected the number of batch items in work together, 1 or more; unset it for the default");
    return std::min(count, p.batch);
  }
  const int64_t threads = p.dim * std::max<int64_t>(1, p.length / kShortestSegment);
  const int64_t bytes = p.tokens * p.dim * (bytes_of(p.x.dtype) + (is_double ? 8 : 4));
  const int64_t most = std::max(divide_up(kThreadsWanted, threads), kCache / bytes);
  return divide_up(p.batch, divide_up(p.batch, most));
}

// The buffers between segments, where there are several, of a group of items.
struct RouteSegments {
  Tensor ends, spans;

  RouteSegments(RoutePass& p, int64_t items, const Tensor& like, ScalarType compute) {
    if (items > 0) p.segments = segments_of(items * p.dim, p.length);
    if (p.segments.count == 1) return;
    ends = make(like, {p.segments.count, items, p.sequences, p.states, p.dim}, compute);
    spans = make(like, {p.segments.count, items, p.sequences, kSpanNumbers, p.dim}, compute);
    p.ends = ends.mutable_data_ptr();
    p.spans = spans.mutable_data_ptr();
  }
};

// The sum of maps over the sequences, (batch, tokens, dim), as `dtype`.
class SummedMap {
 public:
  SummedMap(const RouteArguments& args, int64_t items, const Tensor& like, ScalarType dtype)
      : args_(args), map_(make(like, {args.pass.batch, args.pass.tokens, args.pass.dim}, dtype)) {
    const int64_t last = args.pass.sequences - 1;
    in_place_ = dtype == args.compute();
    rounds_ = !in_place_ && args.is_plain(last);
    if (!in_place_) sums_ = make(like, {items, args.pass.tokens, args.pass.dim}, args.compute());
  }

  void clear() { torch::stable::zero_(map_); }

  // A plain walk visits all positions, and what it finds there need not be zero.
  void begin(int64_t first_item, int64_t items) {
    first_ = first_item;
    items_ = items;
    Tensor sums = group();
    if (!args_.is_plain(0)) torch::stable::zero_(sums);
  }
  RunningSum of_sequence(int64_t k) {
    const bool round = rounds_ && k + 1 == args_.pass.sequences;
    return {group().mutable_data_ptr(), k > 0 || !args_.is_plain(0), round ? map_.mutable_data_ptr() : nullptr,
            dtype_of(map_, "output")};
  }
  void end() {
    if (in_place_ || rounds_) return;
    Tensor target = torch::stable::narrow(map_, 0, first_, items_);
    torch::stable::copy_(target, group());
  }

  // (batch, dim, tokens), laid out like x, as CPU kernels leave it.
  Tensor like(const Tensor& x, ScalarType dtype) const {
    const Tensor map = torch::stable::transpose(torch::stable::to(map_, dtype), 1, 2);
    return x.stride(1) == 1 && x.stride(2) != 1 ? map : torch::stable::contiguous(map);
  }

 private:
  Tensor group() {
    return in_place_ ? torch::stable::narrow(map_, 0, first_, items_) : torch::stable::narrow(sums_, 0, 0, items_);
  }

  const RouteArguments& args_;
  Tensor map_, sums_;
  bool in_place_, rounds_;
  int64_t first_ = 0, items_ = 0;
};

std::vector<int64_t> checkpoint_sizes(const RoutePass& p, int64_t count) {
  return {p.batch, p.sequences * divide_up(p.dim, kCheckpointLanes), count, p.states, kCheckpointLanes};
}

// Calls run(first item, items) for one group of items after the other.
template <class Run>
void for_groups(int64_t batch, int64_t items, const Run& run) {
  for (int64_t first = 0; first < batch; first += items) run(first, std::min(items, batch - first));
}

std::tuple<Tensor, Tensor> forward(const Tensor& x, const Tensor& params, OptionalTensor delta, const Tensor& A,
                                   OptionalTensor delta_weight, OptionalTensor D, OptionalTensor delta_bias,
                                   std::vector<int64_t> walks, OptionalTensor read, OptionalTensor project,
                                   OptionalTensor write, int64_t height, int64_t width, bool delta_softplus,
                                   double scale, bool save_checkpoints, ScalarType out_dtype) {
  RouteArguments args({x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                       delta_softplus, scale});
  RoutePass& p = args.pass;
  const int64_t saved = save_checkpoints ? p.saved() : 0;
  Tensor checkpoints = make(x, checkpoint_sizes(p, saved), args.compute());
  const int64_t items = args.empty() ? 0 : items_together(p, args.is_double());
  SummedMap out(args, items, x, stored_type(out_dtype, args.compute()));
  if (args.empty()) {
    out.clear();
    return {out.like(x, out_dtype), checkpoints};
  }
  p.checkpoints = saved > 0 ? checkpoints.mutable_data_ptr() : nullptr;
  args.mark_repeats({p.has_own(p.write) ? p.write : p.read}, x);
  const RouteSegments segments(p, items, x, args.compute());
  const Stream stream = args.device.stream();
  for_groups(p.batch, items, [&](int64_t first, int64_t count) {
    p.first_item = first;
    p.items = count;
    run_route_ends(p, args.walks.data(), false, args.is_double(), stream);
    out.begin(first, count);
    p.launched = 1;
    for (int64_t k = 0; k < p.sequences; ++k) {
      p.first_sequence = k;
      p.walks[0] = args.walks[k];
      p.out = out.of_sequence(k);
      run_route_forward(p, args.is_double(), stream);
    }
    out.end();
  });
  return {out.like(x, out_dtype), checkpoints};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, const Tensor& x, const Tensor& params, OptionalTensor delta, const Tensor& A,
    OptionalTensor delta_weight, OptionalTensor D, OptionalTensor delta_bias, std::vector<int64_t> walks,
    OptionalTensor read, OptionalTensor project, OptionalTensor write, int64_t height, int64_t width,
    bool delta_softplus, double scale, const Tensor& checkpoints) {
  RouteArguments args({x, params, delta, A, delta_weight, D, delta_bias, walks, read, project, write, height, width,
                       delta_softplus, scale});
  RoutePass& p = args.pass;
  const ScalarType compute = args.compute();
  const Stream stream = args.device.stream();
  args.device.check(checkpoints, kOp, "checkpoints");
  STD_TORCH_CHECK(checkpoints.sizes().vec() == checkpoint_sizes(p, p.saved()),
                  "route_scan: checkpoints are not those of this call's forward pass");
  check_route_shape(grad_out, "grad_out", {p.batch, p.dim, p.tokens});
  p.grad_out = args.channels_last(grad_out, "grad_out");
  p.checkpoints = const_cast<void*>(checkpoints.const_data_ptr());  // only read in this pass
  const int64_t items = args.empty() ? 0 : items_together(p, args.is_double());
  const RouteSegments segments(p, items, x, compute);
  SummedMap grad_x(args, items, x, stored_type(x.scalar_type(), compute));

  const int64_t parts = p.batch * p.segments.count;
  const std::vector<int64_t> none = {1, 0};
  const std::vector<int64_t> of_channels = {parts, p.sequences, p.dim};
  Tensor part_A = make(x, {parts, p.sequences, p.dim, p.states}, compute);
  Tensor part_weight =
      make(x, delta_weight.has_value() ? std::vector<int64_t>{parts, p.sequences, p.rank, p.dim} : none, compute);
  Tensor part_D = make(x, D.has_value() ? of_channels : none, compute);
  Tensor part_bias = make(x, delta_bias.has_value() ? of_channels : none, compute);
  Tensor grad_delta = make(
      x, delta.has_value() ? std::vector<int64_t>{p.batch, p.sequences, p.tokens, p.dim} : std::vector<int64_t>{0},
      compute);
  Tensor grad_params = make(x, {p.batch, p.tokens, p.sequences, p.entries()}, params.scalar_type());
  p.grad_A = part_A.mutable_data_ptr();
  p.grad_weight = part_weight.mutable_data_ptr();
  p.grad_D = part_D.mutable_data_ptr();
  p.grad_bias = part_bias.mutable_data_ptr();
  p.grad_delta = delta.has_value() ? grad_delta.mutable_data_ptr() : nullptr;
  torch::stable::zero_(part_weight);
  if (!args.all_plain()) torch::stable::zero_(grad_delta);

  if (args.empty()) {
    grad_x.clear();
    for (Tensor* part : {&part_A, &part_D, &part_bias, &grad_delta, &grad_params}) torch::stable::zero_(*part);
  } else {
    args.mark_repeats(p.has_own(p.project) ? std::vector<Table>{p.read, p.project} : std::vector<Table>{p.read}, x);
    const int64_t blocks = divide_up(p.dim, route_backward_block(p, args.is_double()));
    for_groups(p.batch, items, [&](int64_t first, int64_t count) {
      p.first_item = first;
      p.items = count;
      run_route_ends(p, args.walks.data(), true, args.is_double(), stream);
      Tensor part_params = make(x, {blocks, count, p.tokens, p.sequences, p.entries()}, compute);
      if (!args.all_plain()) torch::stable::zero_(part_params);
      p.grad_params = part_params.mutable_data_ptr();
      grad_x.begin(first, count);
      p.launched = 1;
      for (int64_t k = 0; k < p.sequences; ++k) {
        p.first_sequence = k;
        p.walks[0] = args.walks[k];
        p.grad_x = grad_x.of_sequence(k);
        run_route_backward(p, args.is_double(), stream);
      }
      grad_x.end();
      const Tensor sums = sum_in_order(part_params, params.scalar_type(), stream);
      if (count == p.batch) {
        grad_params = sums;
      } else {
        Tensor target = torch::stable::narrow(grad_params, 0, first, count);
        torch::stable::copy_(target, sums);
      }
    });
  }
  const Tensor grad_weight = sum_in_order(part_weight, compute, stream);
  return {grad_x.like(x, x.scalar_type()),
          torch::stable::transpose(torch::stable::transpose(grad_params, 1, 2), 2, 3),
          delta.has_value() ? torch::stable::to(torch::stable::transpose(grad_delta, 2, 3), delta->scalar_type())
                            : grad_delta,
          sum_in_order(part_A, compute, stream),
          delta_weight.has_value() ? transposed(grad_weight, 1, 2) : grad_weight,
          sum_in_order(part_D, compute, stream),
          sum_in_order(part_bias, compute, stream)};
}

}  // namespace
}  // namespace mamba_mm

MAMBA_MM_CUDA_LIBRARY(m) {
  m.impl("route_scan_fwd", TORCH_BOX(&mamba_mm::forward));
  m.impl("route_scan_bwd", TORCH_BOX(&mamba_mm::backward));
}
