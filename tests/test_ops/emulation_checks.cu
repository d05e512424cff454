// Kernels that test the emulation itself, called through ctypes by test_cuda_emulated.py.
#include "device_math.h"
#include "reduce.h"

namespace mamba_mm {
namespace {

constexpr int kThreads = 64;

struct Shared {
  SharedArray<float> values;
  template <class Memory>
  explicit Shared(Memory& memory) : values(memory.template take<float>(kThreads)) {}
};

size_t shared_bytes() {
  SharedSize size;
  Shared layout(size);
  return size.bytes();
}

// Every warp's sum of x, through shuffles and through shared memory.
__global__ void sums(const float* x, float* shuffled, float* stored, float* eight) {
  SharedMemory memory;
  Shared shared(memory);
  const float value = x[blockIdx.x * blockDim.x + threadIdx.x];
  const float sum = lane_sum(value);
  shared.values[threadIdx.x] = value;
  __syncthreads();
  float other = 0;
  for (int i = 0; i < kWarp; ++i) other += shared.values[warp() * kWarp + i];
  float values[8];
  for (int i = 0; i < 8; ++i) values[i] = value * (i + 1);
  const float one_of_eight = lane_sums(values);
  const int64_t w = blockIdx.x * (kThreads / kWarp) + warp();
  if (lane() == 0) {
    shuffled[w] = sum;
    stored[w] = other;
  }
  if (lane() < 8) eight[w * 8 + lane_sums_index<8>()] = one_of_eight;
}

__global__ void missed_barrier() {
  if (threadIdx.x != 3) __syncthreads();
}

__global__ void different_barriers() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void absent_lane() {
  if (lane() != 5) lane_sum(1.f);
}

__global__ void beyond_the_end(float* out) {
  SharedMemory memory;
  Shared shared(memory);
  shared.values[threadIdx.x + 1] = 0;
  *out = shared.values[0];
}

__global__ void misaligned_pack(float* out) {
  SharedMemory memory;
  Shared shared(memory);
  *out = shared.values.pack<4>(2).values[0];
}

__global__ void too_much_memory(float* out) {
  SharedMemory memory;
  Shared shared(memory), more(memory);
  *out = more.values[0];
}

// Each thread reads its neighbour's value, without waiting for it.
__global__ void missing_barrier(float* out) {
  SharedMemory memory;
  Shared shared(memory);
  shared.values[threadIdx.x] = 1;
  out[threadIdx.x] = shared.values[threadIdx.x ^ 1];
}

// What a block finds depends on who was there before.
__global__ void dependent_blocks(float* order) {
  if (threadIdx.x == 0) order[blockIdx.x] = order[gridDim.x]++;
}

std::string last_error;

}  // namespace
}  // namespace mamba_mm

#pragma GCC visibility push(default)
extern "C" {

void emulation_sums(int blocks, const float* x, float* shuffled, float* stored, float* eight) {
  using namespace mamba_mm;
  launch(sums, dim3(blocks), dim3(kThreads), shared_bytes(), nullptr, x, shuffled, stored, eight);
}

void emulation_missing_barrier(float* out) {
  using namespace mamba_mm;
  launch(missing_barrier, dim3(1), dim3(kThreads), shared_bytes(), nullptr, out);
}

void emulation_block_order(int blocks, float* order) {
  using namespace mamba_mm;
  launch(dependent_blocks, dim3(blocks), dim3(kThreads), 0, nullptr, order);
}

// The error of a misuse, empty if it goes unnoticed.
const char* emulation_misuse(const char* name) {
  using namespace mamba_mm;
  const std::string which = name;
  const size_t bytes = shared_bytes();
  float out = 0;
  last_error = "";
  try {
    if (which == "missed barrier") launch(missed_barrier, dim3(2), dim3(kThreads), bytes, nullptr);
    if (which == "different barriers") launch(different_barriers, dim3(2), dim3(kThreads), bytes, nullptr);
    if (which == "absent lane") launch(absent_lane, dim3(2), dim3(kThreads), bytes, nullptr);
    if (which == "beyond the end") launch(beyond_the_end, dim3(2), dim3(kThreads), bytes, nullptr, &out);
    if (which == "misaligned pack") launch(misaligned_pack, dim3(2), dim3(kThreads), bytes, nullptr, &out);
    if (which == "too much memory") launch(too_much_memory, dim3(2), dim3(kThreads), bytes, nullptr, &out);
    if (which == "half a warp") launch(missed_barrier, dim3(2), dim3(48), bytes, nullptr);
    if (which == "large block") launch(missed_barrier, dim3(1), dim3(kThreads), kSharedOfAllGpus + 1, nullptr);
    if (which == "grid") launch(missed_barrier, dim3(1, 65536), dim3(kThreads), bytes, nullptr);
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return last_error.c_str();
}

float emulation_softplus(float x) { return mamba_mm::softplus(x); }
float emulation_softplus_slope(float x) { return mamba_mm::softplus_slope(mamba_mm::softplus(x)); }

// Through 16 bit and back, bit for bit as PyTorch.
float emulation_round(float x, bool brain) {
  mamba_mm::BFloat16 b;
  mamba_mm::Half h;
  mamba_mm::narrow(x, b);
  mamba_mm::narrow(x, h);
  return brain ? mamba_mm::widen(b) : mamba_mm::widen(h);
}
}
#pragma GCC visibility pop
