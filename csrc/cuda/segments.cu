#include "segments.h"

#include <algorithm>
#include <cstdlib>

#include "selective_scan.h"
#include "step_span.h"

namespace mamba_mm {
namespace {

// Enough to hide latencies on the larger GPUs, with the shortest segment still long against what
// scanning it twice costs.
constexpr int64_t kThreadsWanted = 65536, kShortestSegment = 4 * kCheckpointSteps;

constexpr int kLoadedTogether = 8;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t count_wanted(int64_t threads, int64_t length) {
  const char* const forced = std::getenv("MAMBA_MM_CUDA_SEGMENTS");
  if (forced == nullptr || *forced == '\0')
    return std::min(kThreadsWanted / std::max<int64_t>(threads, 1), length / kShortestSegment);
  char* end = nullptr;
  const int64_t count = std::strtoll(forced, &end, 10);
  if (*end != '\0' || count < 1)
    throw std::runtime_error(std::string("mamba_mm: MAMBA_MM_CUDA_SEGMENTS is '") + forced +
                             "', expected the number of segments of a sequence, 1 or more; unset it for the default");
  return count;
}

template <class T>
__global__ void carry_kernel(SegmentCarry call) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t channels = call.batch * call.rows * call.dim;
  if (i >= channels * call.states) return;
  // Channels lie side by side in `ends`, states in A.
  const int64_t c = i % call.dim, n = i / call.dim % call.states, row = i / call.dim / call.states;
  const int64_t channel = row * call.dim + c, in_A = channel % (call.rows * call.dim) * call.states + n;
  T* const ends = static_cast<T*>(call.ends) + i;
  const T* const spans = static_cast<const T*>(call.spans) + row * kSpanNumbers * call.dim + c;
  const T rate = static_cast<const T*>(call.A)[in_A] * T(kLog2E);
  T state = call.initial == nullptr ? T(0) : static_cast<const T*>(call.initial)[channel * call.states + n];
  const int64_t last = call.segments - 1;  // nothing follows this one, which nobody has scanned
  const int64_t step = call.from_the_right ? -1 : 1, first = call.from_the_right ? last : 0;
  for (int64_t k = 0; k <= last; k += kLoadedTogether) {
    // Loads do not wait for the recurrence: without this each would take its time after another.
    T end[kLoadedTogether];
    StepSpan<T> span[kLoadedTogether];
#pragma unroll
    for (int j = 0; j < kLoadedTogether; ++j) {
      const bool scanned = k + j < last;
      const int64_t segment = first + step * (k + j);
      end[j] = scanned ? ends[segment * channels * call.states] : T(0);
      if (scanned) span[j].load(spans + segment * channels * kSpanNumbers, call.dim);
    }
#pragma unroll
    for (int j = 0; j < kLoadedTogether; ++j) {
      if (k + j > last) break;
      ends[(first + step * (k + j)) * channels * call.states] = state;
      state = span[j].through(state, rate) + end[j];
    }
  }
}

}  // namespace

Segments segments_of(int64_t threads, int64_t length) {
  const int64_t stretches = std::max<int64_t>(1, divide_up(length, kCheckpointSteps));
  const int64_t count = std::max<int64_t>(1, std::min(count_wanted(threads, length), stretches));
  Segments result;
  result.steps = divide_up(stretches, count) * kCheckpointSteps;
  result.count = std::max<int64_t>(1, divide_up(length, result.steps));
  return result;
}

void carry_over_segments(const SegmentCarry& call, bool is_double, Stream stream) {
  constexpr int kThreads = 128;
  const int64_t blocks = divide_up(call.batch * call.rows * call.dim * call.states, kThreads);
  launch(is_double ? carry_kernel<double> : carry_kernel<float>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0,
         stream, call);
}

}  // namespace mamba_mm
