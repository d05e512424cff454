// CUDA's execution model on the CPU, for tests: it runs kernels that nvcc compiles for the GPU.
//
// A block's threads are fibers on one operating-system thread. A fiber runs until it has to wait
// for others, at a barrier or a shuffle; then the next one runs. Blocks run one after another.
// The orders of blocks, and of the threads in a block, are shuffled by a seed
// (MAMBA_MM_EMULATION_SEED), so that what depends on them shows.
//
// Errors, as exceptions from launch(): a barrier or shuffle that some threads do not reach, or
// that they reach in different lines; a shared array used beyond its end; more shared memory taken
// than was launched with. Shared memory starts as NaN, so that a value which nobody wrote shows in
// the result.
#pragma once

// glibc's checked longjmp takes the switch to another stack for an error.
#undef _FORTIFY_SOURCE

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace mamba_mm {

template <class T, int K>
struct Pack;

namespace emulation {

[[noreturn]] inline void fail(const std::string& what) {
  const auto show = [](dim3 d) {
    return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
  };
  throw std::runtime_error("emulated kernel, block " + show(blockIdx) + ", thread " + show(threadIdx) + ": " + what);
}

// A piece of shared memory whose every access is checked.
template <class T>
class CheckedArray {
 public:
  CheckedArray(T* data, int64_t count = 0) : data_(data), count_(count) {}

  T& operator[](int64_t i) const {
    check(i, 1);
    return data_[i];
  }
  CheckedArray from(int64_t i) const {
    check(i, 0);
    return {data_ + i, count_ - i};
  }
  template <int K>
  Pack<T, K> pack(int64_t i) const {
    check(i, K);
    if (reinterpret_cast<uintptr_t>(data_ + i) % alignof(Pack<T, K>) != 0)
      fail("a pack of " + std::to_string(K) + " values at element " + std::to_string(i) + " is not aligned");
    Pack<T, K> result;
    std::memcpy(&result, data_ + i, sizeof(result));
    return result;
  }

 private:
  void check(int64_t i, int64_t size) const {
    if (i < 0 || i + size > count_)
      fail("element " + std::to_string(i) + " of a shared array of " + std::to_string(count_) + " is out of bounds");
  }

  T* data_;
  int64_t count_;
};

// Where a fiber stands.
enum class State { kRunnable, kWaitsForWarp, kWaitsForBlock, kFinished };

struct Fiber {
  State state = State::kFinished;
  const char* place = "";  // the function that it waits in, and the line that calls it
  int line = 0;
  dim3 index;
  bool alive = false;  // has a stack in use, at its end or in the middle of a kernel
  jmp_buf resume;
  ucontext_t context;
  std::unique_ptr<char[]> stack;
};

class Machine {
 public:
  // Run `kernel` for every thread of every block.
  void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> one_launch_at_a_time(mutex_);
    const unsigned threads = block.x * block.y * block.z;
    check_launch(grid, block, threads, shared_bytes);
    gridDim = grid;
    blockDim = block;
    kernel_ = &kernel;
    threads_ = threads;
    shared_.resize((shared_bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
    shared_bytes_ = shared_bytes;
    while (fibers_.size() < threads_) fibers_.push_back(std::make_unique<Fiber>());
    exchange_.resize(threads_);
    const char* seed = std::getenv("MAMBA_MM_EMULATION_SEED");
    std::minstd_rand random(seed == nullptr ? 1 : 1 + std::strtoul(seed, nullptr, 10));
    for (const int64_t i : permutation(static_cast<int64_t>(grid.x) * grid.y * grid.z, random)) {
      blockIdx = dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y);
      run_block(permutation(threads_, random));
    }
  }

  // From inside a kernel: memory at an offset of the block's shared memory.
  void* shared(size_t at, size_t bytes) {
    if (at + bytes > shared_bytes_)
      fail("takes " + std::to_string(at + bytes) + " bytes of shared memory, but was launched with " +
           std::to_string(shared_bytes_));
    return reinterpret_cast<char*>(shared_.data()) + at;
  }

  // From inside a kernel: wait for the other threads of the warp or of the block.
  void wait(State state, const char* place, int line) {
    Fiber& fiber = *fibers_[current_];
    fiber.state = state;
    fiber.place = place;
    fiber.line = line;
    suspend(fiber);
  }

  // From inside a kernel: this lane's value for the others; theirs by reading(lane).
  template <class T>
  T exchange(T value, int from, const char* place, int line) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    // Two sets in turn: a lane may be at the next shuffle while others still read this one.
    Exchange& own = exchange_[current_];
    const int set = own.turn ^= 1;
    std::memcpy(&own.values[set], &value, sizeof(T));
    const unsigned first = current_ / 32 * 32;
    wait(State::kWaitsForWarp, place, line);
    std::memcpy(&value, &exchange_[first + from].values[set], sizeof(T));
    return value;
  }

  unsigned lane() const { return current_ % 32; }

 private:
  struct Exchange {
    uint64_t values[2];
    int turn = 0;
  };

  static constexpr size_t kStack = 128 * 1024;

  static void check_launch(dim3 grid, dim3 block, unsigned threads, size_t shared_bytes) {
    const auto refuse = [](const std::string& what) { throw std::runtime_error("emulated launch: " + what); };
    if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
      refuse("a grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
             " blocks; a GPU takes 2147483647 x 65535 x 65535");
    if (threads == 0 || threads > 1024 || threads % 32 != 0 || block.z > 64)
      refuse("a block of " + std::to_string(threads) + " threads; whole warps, at most 1024 threads, are expected");
    if (shared_bytes > kSharedOfAllGpus)
      refuse(std::to_string(shared_bytes) + " bytes of shared memory, of which some GPUs have " +
             std::to_string(kSharedOfAllGpus) + " for a block");
  }

  template <class Random>
  static std::vector<int64_t> permutation(int64_t count, Random& random) {
    std::vector<int64_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    return order;
  }

  void run_block(const std::vector<int64_t>& order) {
    std::memset(shared_.data(), 0xff, shared_.size() * sizeof(uint64_t));  // NaN in every type
    for (unsigned i = 0; i < threads_; ++i) {
      Fiber& fiber = *fibers_[i];
      fiber.state = State::kRunnable;
      fiber.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y);
      exchange_[i].turn = 0;
    }
    do {
      for (const int64_t i : order)
        if (fibers_[i]->state == State::kRunnable) resume(i);
    } while (release());
  }

  // Let those go on whom everybody has reached. False once all threads are at the end.
  bool release() {
    bool released = false;
    for (unsigned first = 0; first < threads_; first += 32)
      released = release_range(first, first + 32, State::kWaitsForWarp) || released;
    released = release_range(0, threads_, State::kWaitsForBlock) || released;
    const auto finished = [](const auto& fiber) { return fiber->state == State::kFinished; };
    if (!released && !std::all_of(fibers_.begin(), fibers_.begin() + threads_, finished)) stuck();
    return released;
  }

  bool release_range(unsigned begin, unsigned end, State waiting) {
    const Fiber& one = *fibers_[begin];
    for (unsigned i = begin; i < end; ++i) {
      const Fiber& other = *fibers_[i];
      if (other.state != waiting || other.line != one.line || std::strcmp(other.place, one.place) != 0) return false;
    }
    for (unsigned i = begin; i < end; ++i) fibers_[i]->state = State::kRunnable;
    return true;
  }

  [[noreturn]] void stuck() {
    std::map<std::string, int> counts;
    for (unsigned i = 0; i < threads_; ++i) {
      const Fiber& fiber = *fibers_[i];
      ++counts[fiber.state == State::kFinished ? "have finished"
                                               : std::string("wait in ") + fiber.place + " called in line " +
                                                     std::to_string(fiber.line)];
    }
    std::string what = "threads wait for others that will not come:";
    for (const auto& [place, count] : counts) what += " " + std::to_string(count) + " " + place + ";";
    abandon();
    threadIdx = dim3(0, 0, 0);
    fail(what);
  }

  // Threads in the middle of a kernel never go on: their stacks are used anew.
  void abandon() {
    for (auto& fiber : fibers_) fiber->alive = false;
  }

  void resume(unsigned i) {
    current_ = i;
    threadIdx = fibers_[i]->index;
    switch_to(*fibers_[i]);
    if (error_) {
      abandon();
      std::rethrow_exception(std::exchange(error_, nullptr));
    }
  }

  // ucontext gives a fiber its stack; from then on the cheaper jumps switch, which leave the
  // signal mask, and with it the kernel of the operating system, alone.
  __attribute__((noinline)) void switch_to(Fiber& fiber) {
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.alive) _longjmp(fiber.resume, 1);
    fiber.alive = true;
    if (!fiber.stack) fiber.stack.reset(new char[kStack]);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, &Machine::fiber_main, 0);
    setcontext(&fiber.context);
  }

  __attribute__((noinline)) void suspend(Fiber& fiber) {
    if (_setjmp(fiber.resume) == 0) _longjmp(scheduler_, 1);
  }

  // A fiber serves one block after another.
  static void fiber_main();

  void run_thread() {
    try {
      (*kernel_)();
    } catch (...) {
      error_ = std::current_exception();
    }
    wait(State::kFinished, "", 0);
  }

  std::mutex mutex_;
  const std::function<void()>* kernel_ = nullptr;
  unsigned threads_ = 0, current_ = 0;
  size_t shared_bytes_ = 0;
  std::vector<uint64_t> shared_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Exchange> exchange_;
  std::exception_ptr error_;
  jmp_buf scheduler_;
};

inline Machine& machine() {
  static Machine machine;
  return machine;
}

inline void Machine::fiber_main() {
  while (true) machine().run_thread();
}

inline void check_mask(unsigned mask) {
  if (mask != 0xffffffffu) fail("a shuffle or warp barrier without all lanes; the emulation knows whole warps only");
}

}  // namespace emulation
}  // namespace mamba_mm

inline void __syncthreads(int line = __builtin_LINE()) {
  mamba_mm::emulation::machine().wait(mamba_mm::emulation::State::kWaitsForBlock, "__syncthreads", line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  mamba_mm::emulation::check_mask(mask);
  mamba_mm::emulation::machine().wait(mamba_mm::emulation::State::kWaitsForWarp, "__syncwarp", line);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int from, int line = __builtin_LINE()) {
  mamba_mm::emulation::check_mask(mask);
  return mamba_mm::emulation::machine().exchange(value, from & 31, "__shfl_sync", line);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int line = __builtin_LINE()) {
  mamba_mm::emulation::check_mask(mask);
  auto& machine = mamba_mm::emulation::machine();
  return machine.exchange(value, (machine.lane() ^ lanes) & 31, "__shfl_xor_sync", line);
}

// Lanes whose partner lies outside the warp keep their own value.
template <class T>
T __shfl_up_sync(unsigned mask, T value, int lanes, int line = __builtin_LINE()) {
  mamba_mm::emulation::check_mask(mask);
  auto& machine = mamba_mm::emulation::machine();
  const int own = machine.lane(), from = own - lanes;
  return machine.exchange(value, from < 0 ? own : from, "__shfl_up_sync", line);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, int lanes, int line = __builtin_LINE()) {
  mamba_mm::emulation::check_mask(mask);
  auto& machine = mamba_mm::emulation::machine();
  const int own = machine.lane(), from = own + lanes;
  return machine.exchange(value, from > 31 ? own : from, "__shfl_down_sync", line);
}
