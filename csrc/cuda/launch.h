// One source, two compilers. Compiled by nvcc the kernels are CUDA; compiled by g++ with
// -DMAMBA_MM_EMULATED they run on the CPU, thread by thread (emulation.h), and are checked there
// for what a GPU does not tell: barriers that some threads miss, shuffles with absent lanes,
// shared memory read before it is written or beyond its end.
//
// How to write a kernel:
//
//   // A kernel's shared memory is laid out once, for the kernel and for the one who launches it.
//   template <class Memory>
//   struct Tiles {
//     SharedArray<float> sums;
//     __host__ __device__ Tiles(Memory& memory, int warps) : sums(memory.template take<float>(warps)) {}
//   };
//
//   __global__ void add(const float* x, float* out, int64_t count) {
//     SharedMemory memory;
//     Tiles<SharedMemory> tiles(memory, blockDim.x / kWarp);
//     const float sum = lane_sum(...);                    // reduce.h, __shfl_xor_sync(kAllLanes, ...)
//     if (lane() == 0) tiles.sums[warp()] = sum;
//     __syncthreads();
//     ...
//   }
//
//   SharedSize size;
//   Tiles<SharedSize>(size, warps);
//   launch(add, blocks, threads, size.bytes(), stream, x, out, count);
//
// Available in both worlds: threadIdx, blockIdx, blockDim, gridDim, __syncthreads(), __syncwarp(),
// __shfl_sync, __shfl_xor_sync, __shfl_up_sync, __shfl_down_sync (all 32 lanes take part:
// kAllLanes, blocks of whole warps), __global__, __device__, __host__, __forceinline__,
// __launch_bounds__, #pragma unroll, lane(), warp(), SharedArray, Pack, and device_math.h,
// reduce.h, stage.h. Not available: static __shared__ variables, atomics, cooperative groups.
// Function templates of kernels work: launch(kernel<float, 4>, ...).
//
// Kernels (.cu) do without torch's headers, which nvcc would read again for each architecture;
// tensors are handled in a .cpp next to them, which g++ compiles without CUDA's headers (stream.h
// has what both know). Errors are std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "stream.h"

namespace mamba_mm {

// What a block may take on every GPU from compute capability 8.0 on: 8.6, 8.9 and 12.0 have least.
constexpr size_t kSharedOfAllGpus = 99 * 1024;

}  // namespace mamba_mm

#ifdef MAMBA_MM_EMULATED
#include "emulation.h"
#else
#include <cuda_runtime.h>
#endif

namespace mamba_mm {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// K values that are read or written at once: up to 16 bytes, aligned to their size.
template <class T, int K>
struct alignas(sizeof(T) * K > 16 ? 16 : sizeof(T) * K) Pack {
  T values[K];
};

__device__ __forceinline__ int lane() { return threadIdx.x % kWarp; }
__device__ __forceinline__ int warp() { return threadIdx.x / kWarp; }

__host__ __device__ constexpr size_t align_shared(size_t bytes) { return (bytes + 15) / 16 * 16; }

#ifdef MAMBA_MM_EMULATED

template <class T>
using SharedArray = emulation::CheckedArray<T>;

// Hands out the block's shared memory piece by piece; every thread does so in the same order.
class SharedMemory {
 public:
  template <class T>
  SharedArray<T> take(int64_t count) {
    const size_t at = used_;
    used_ += align_shared(count * sizeof(T));
    return {reinterpret_cast<T*>(emulation::machine().shared(at, count * sizeof(T))), count};
  }

 private:
  size_t used_ = 0;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream, A&&... args) {
  emulation::machine().run(grid, block, shared_bytes, [&] { kernel(static_cast<P>(args)...); });
}

#else

// An array in shared memory. Under emulation every access is checked.
template <class T>
class SharedArray {
 public:
  __host__ __device__ SharedArray(T* data) : data_(data) {}
  __device__ __forceinline__ T& operator[](int i) const { return data_[i]; }
  // The array from element i on.
  __device__ __forceinline__ SharedArray from(int i) const { return SharedArray(data_ + i); }
  // K elements from i on, a multiple of K.
  template <int K>
  __device__ __forceinline__ Pack<T, K> pack(int i) const {
    return *reinterpret_cast<const Pack<T, K>*>(data_ + i);
  }

 private:
  T* data_;
};

// Hands out the block's shared memory piece by piece; every thread does so in the same order.
class SharedMemory {
 public:
  template <class T>
  __device__ __forceinline__ SharedArray<T> take(int64_t count) {
    extern __shared__ __align__(16) unsigned char mamba_mm_shared_memory[];
    T* const data = reinterpret_cast<T*>(mamba_mm_shared_memory + used_);
    used_ += align_shared(count * sizeof(T));
    return SharedArray<T>(data);
  }

 private:
  size_t used_ = 0;
};

inline void check_cuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("mamba_mm: ") + what + " failed: " + cudaGetErrorString(error));
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, A&&... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  // Beyond this a kernel must say that it wants the larger part of the processor's memory.
  if (shared_bytes > 48 * 1024)
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
               ("reserving " + std::to_string(shared_bytes) +
                " bytes of shared memory for a block (where a GPU has less, use backend='torch')")
                   .c_str());
  kernel<<<grid, block, shared_bytes, static_cast<cudaStream_t>(stream)>>>(static_cast<P>(args)...);
  check_cuda(cudaGetLastError(), "launching a kernel");
}

#endif

// Counts what a layout of shared memory takes; same interface as SharedMemory.
class SharedSize {
 public:
  template <class T>
  __host__ __device__ SharedArray<T> take(int64_t count) {
    bytes_ += align_shared(count * sizeof(T));
    return SharedArray<T>(nullptr);
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

// As many warps as fit into a block's shared memory on every GPU, `warps` or a half of it or a
// quarter: the same everywhere, as partial sums depend on it. `lay_out(size, warps)` lays out.
template <class LayOut>
int fitting_warps(int64_t warps, const LayOut& lay_out) {
  for (;; warps /= 2) {
    SharedSize size;
    lay_out(size, static_cast<int>(warps));
    if (warps == 1 || size.bytes() <= kSharedOfAllGpus) return static_cast<int>(warps);
  }
}

}  // namespace mamba_mm
