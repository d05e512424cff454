// The arguments of the route scan as tensors, and what every device checks of them.
#pragma once

#include "route_scan.h"
#include "tensors.h"

namespace mamba_mm {

// As the ops take them; see route_scan.h for what they mean.
struct RouteInputs {
  const Tensor &x, &params;
  const OptionalTensor& delta;
  const Tensor& A;
  const OptionalTensor &weight, &D, &bias;
  const std::vector<int64_t>& walks;
  const OptionalTensor &read, &project, &write;
  int64_t height, width;
  bool softplus;
  double scale;

  bool is_double() const { return x.scalar_type() == ScalarType::Double; }
  bool needs_table() const {
    for (const int64_t walk : walks)
      if (walk == static_cast<int64_t>(Walk::kTable)) return true;
    return false;
  }
};

inline void check_route_shape(const Tensor& t, const char* name, std::initializer_list<int64_t> expected) {
  check_shape(t, name, expected, "route_scan", "does not fit x, params and A");
}

namespace route_arguments {

// A table may be one for all batch items. What is in it is for the devices to check.
template <class Problem>
void check_table(const OptionalTensor& table, const char* name, const Problem& p) {
  if (!table.has_value()) return;
  const Tensor& t = *table;
  STD_TORCH_CHECK(t.scalar_type() == ScalarType::Int, "route_scan: the table ", name, " must be int32");
  STD_TORCH_CHECK(t.dim() == 3, "route_scan: the table ", name, " must be (batch or 1, sequences, length)");
  check_route_shape(t, name, {t.size(0), p.sequences, p.length});
  STD_TORCH_CHECK(t.size(0) == 1 || t.size(0) == p.batch, "route_scan: the table ", name,
                  " must be for all batch items or for each");
}

template <class Problem>
void check_walks(const RouteInputs& in, const Problem& p) {
  STD_TORCH_CHECK(static_cast<int64_t>(in.walks.size()) == p.sequences,
                  "route_scan: walks must name one walk a sequence");
  STD_TORCH_CHECK(!in.needs_table() || in.read.has_value(),
                  "route_scan: a walk along a table needs the table `read`");
  const bool whole = p.length == p.tokens && p.height * p.width == p.tokens;
  for (const int64_t walk : in.walks) {
    STD_TORCH_CHECK(walk >= 0 && walk <= static_cast<int64_t>(Walk::kColumnBack), "route_scan: there is no such walk");
    STD_TORCH_CHECK(whole || walk == static_cast<int64_t>(Walk::kTable),
                    "route_scan: only a walk over all height x width positions goes without a table");
  }
  check_table(in.read, "read", p);
  check_table(in.project, "project", p);
  check_table(in.write, "write", p);
}

template <class Problem>
void check_shapes(const RouteInputs& in, const Problem& p) {
  const auto check = [](const OptionalTensor& t, const char* name, std::initializer_list<int64_t> expected) {
    if (t.has_value()) check_route_shape(*t, name, expected);
  };
  check(in.A, "A", {p.sequences, p.dim, p.states});
  check(in.params, "params", {p.batch, p.sequences, p.entries(), p.tokens});
  check(in.delta, "delta", {p.batch, p.sequences, p.dim, p.tokens});
  check(in.weight, "delta_weight", {p.sequences, p.dim, p.rank});
  check(in.D, "D", {p.sequences, p.dim});
  check(in.bias, "delta_bias", {p.sequences, p.dim});
}

}  // namespace route_arguments

// Checks the arguments against each other and sets the sizes and flags of a problem, which all
// devices name alike.
template <class Problem>
void describe_route(const RouteInputs& in, Problem& p) {
  STD_TORCH_CHECK(in.x.dim() == 3, "route_scan: x must be (batch, dim, positions)");
  STD_TORCH_CHECK(in.A.dim() == 3, "route_scan: A must be (sequences, dim, states)");
  STD_TORCH_CHECK(in.delta.has_value() != in.weight.has_value(),
                  "route_scan: give either delta or delta_weight, not both and not neither");
  STD_TORCH_CHECK(in.x.size(2) < INT32_MAX, "route_scan: positions do not fit 32 bits");
  p.batch = in.x.size(0);
  p.dim = in.x.size(1);
  p.tokens = in.x.size(2);
  p.height = in.height;
  p.width = in.width;
  p.sequences = in.A.size(0);
  p.states = in.A.size(2);
  p.rank = in.weight.has_value() ? in.weight->size(in.weight->dim() - 1) : 0;
  p.length = in.read.has_value() ? in.read->size(2) : p.tokens;
  p.softplus = in.softplus;
  p.scale = in.scale;
  route_arguments::check_shapes(in, p);
  route_arguments::check_walks(in, p);
}

}  // namespace mamba_mm
