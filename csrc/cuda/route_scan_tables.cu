// Which tables visit a position twice: found on the GPU, because tables may be made there, and
// nobody waits for the answer; the kernels read it (RoutePass::repeats).
#include "route_scan_blocks.h"

namespace mamba_mm {
namespace {

struct TableCheck {
  Table table;
  int64_t rows, sequences, length, tokens;
  int32_t *visitors, *flags;
  int64_t flags_batch;
};

constexpr int kThreads = 256;

// Each step leaves its number at its position. Of several, any one stays.
template <bool kFind>
__global__ void visit(TableCheck check) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= check.rows * check.length) return;
  const int64_t row = i / check.length, t = i % check.length;
  const int64_t b = row / check.sequences, k = row % check.sequences;
  const int position = check.table.data[b * check.table.batch + k * check.table.sequence + t];
  if (position < 0 || position >= check.tokens) return;
  int32_t* const visitor = check.visitors + row * check.tokens + position;
  // Where there are several, all but one find another's number, whichever that is.
  if (!kFind)
    *visitor = static_cast<int32_t>(t);
  else if (*visitor != static_cast<int32_t>(t))
    check.flags[b * check.flags_batch + k] = 1;
}

}  // namespace

void find_repeats(const Table& table, int64_t batch, int64_t sequences, int64_t length, int64_t tokens,
                  int32_t* visitors, int32_t* flags, int64_t flags_batch, Stream stream) {
  const int64_t rows = (table.batch == 0 ? 1 : batch) * sequences, blocks = divide_up(rows * length, kThreads);
  if (blocks > INT32_MAX || length > INT32_MAX)
    throw std::runtime_error("route_scan: the tables have more entries than one launch checks; split the call along "
                             "the batch");
  const TableCheck check{table, rows, sequences, length, tokens, visitors, flags, flags_batch};
  const dim3 grid(static_cast<unsigned>(blocks));
  launch(visit<false>, grid, dim3(kThreads), 0, stream, check);
  launch(visit<true>, grid, dim3(kThreads), 0, stream, check);
}

}  // namespace mamba_mm
