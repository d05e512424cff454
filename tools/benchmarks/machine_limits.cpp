// What this machine can do at best: fused multiply-adds, exponentials and memory traffic
// per second, on one thread. Built by machine_limits.py for the processor it runs on.
#include <chrono>
#include <cstdint>
#include <cstring>

namespace {

constexpr int kLanes = 16;
typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef int32_t IVec __attribute__((vector_size(kLanes * sizeof(float))));

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The exponential of the kernels: rounding by a magic number, a polynomial of degree 5.
inline Vec exp2_vec(Vec x) {
  const Vec t = x + 12582912.f, f = x - (t - 12582912.f);
  Vec p = f * 0.00132647272f + 0.00967151281f;
  p = p * f + 0.0555073374f;
  p = p * f + 0.240222421f;
  p = p * f + 0.693146978f;
  p = p * f + 1.f;
  return (Vec)((IVec)p + ((IVec)t << 23));
}

volatile float sink;

}  // namespace

extern "C" {

// Fused multiply-adds of one float a second.
double fma_rate(double duration) {
  constexpr int kChains = 12;
  Vec x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = Vec{} + static_cast<float>(i);
  const Vec a = Vec{} + 0.9999f, b = Vec{} + 1e-4f;
  const double start = seconds();
  int64_t rounds = 0;
  double now = start;
  while ((now = seconds()) - start < duration) {
    for (int r = 0; r < 1000; ++r)
#pragma GCC unroll 12
      for (int i = 0; i < kChains; ++i) x[i] = x[i] * a + b;
    rounds += 1000;
  }
  for (int i = 0; i < kChains; ++i) sink = x[i][0];
  return static_cast<double>(rounds) * kChains * kLanes / (now - start);
}

// Exponentials of one float a second, from and to the first-level cache.
double exp_rate(double duration) {
  constexpr int kCount = 128;
  static thread_local Vec in[kCount], out[kCount];
  for (int i = 0; i < kCount; ++i) in[i] = Vec{} - 0.01f * static_cast<float>(i);
  const double start = seconds();
  int64_t rounds = 0;
  double now = start;
  while ((now = seconds()) - start < duration) {
    for (int r = 0; r < 20; ++r) {
      for (int i = 0; i < kCount; ++i) out[i] = exp2_vec(in[i]);
      asm volatile("" : : "r"(out) : "memory");
    }
    rounds += 20;
  }
  sink = out[0][0];
  return static_cast<double>(rounds) * kCount * kLanes / (now - start);
}

// Bytes read and written a second by a copy of `bytes` bytes.
double copy_rate(void* to, const void* from, int64_t bytes, double duration) {
  const double start = seconds();
  int64_t rounds = 0;
  double now = start;
  while ((now = seconds()) - start < duration) {
    memcpy(to, from, bytes);
    asm volatile("" : : "r"(to) : "memory");
    ++rounds;
  }
  return 2.0 * static_cast<double>(rounds) * static_cast<double>(bytes) / (now - start);
}
}
