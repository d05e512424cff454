// Sums of partial results, in an order that is always the same.
#pragma once

#include <cstdint>

#include "stream.h"

namespace mamba_mm {

// Partial results that are summed into one in a single launch.
constexpr int64_t kPartsTogether = 32;

// sum[k][i] = parts[k'][i] + parts[k' + 1][i] + ..., kPartsTogether of the `count` parts each, or
// what is left of them. In the type of the computation.
void add_up(const void* parts, int64_t count, int64_t size, void* sum, bool is_double, Stream stream);

}  // namespace mamba_mm
