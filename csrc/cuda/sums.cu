#include "sums.h"

#include "launch.h"

namespace mamba_mm {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 65536;

template <class T>
__global__ void add_up_kernel(const T* parts, int64_t count, int64_t size, T* sum) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  const int64_t total = (count + kPartsTogether - 1) / kPartsTogether * size;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total; i += stride) {
    const int64_t first = i / size * kPartsTogether;
    const int64_t last = first + kPartsTogether < count ? first + kPartsTogether : count;
    const T* const column = parts + i % size;
    T result = column[first * size];
#pragma unroll 4
    for (int64_t k = first + 1; k < last; ++k) result += column[k * size];
    sum[i] = result;
  }
}

}  // namespace

void add_up(const void* parts, int64_t count, int64_t size, void* sum, bool is_double, Stream stream) {
  const int64_t total = (count + kPartsTogether - 1) / kPartsTogether * size;
  const int64_t blocks = (total + kThreads - 1) / kThreads;
  const dim3 grid(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks));
  if (is_double)
    launch(add_up_kernel<double>, grid, dim3(kThreads), 0, stream, static_cast<const double*>(parts), count, size,
           static_cast<double*>(sum));
  else
    launch(add_up_kernel<float>, grid, dim3(kThreads), 0, stream, static_cast<const float*>(parts), count, size,
           static_cast<float*>(sum));
}

}  // namespace mamba_mm
