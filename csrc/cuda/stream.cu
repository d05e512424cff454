#include "stream.h"

#include "launch.h"

#ifndef MAMBA_MM_EMULATED
#include <dlfcn.h>
#endif

namespace mamba_mm {

#ifdef MAMBA_MM_EMULATED

Stream current_stream(int) { return nullptr; }
DeviceGuard::DeviceGuard(int) {}
DeviceGuard::~DeviceGuard() {}

#else

namespace {

using GetStream = int32_t (*)(int32_t device, void** stream);

GetStream find_get_stream() {
  void* const torch = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
  void* const symbol = torch == nullptr ? nullptr : dlsym(torch, "aoti_torch_get_current_cuda_stream");
  if (symbol == nullptr)
    throw std::runtime_error(
        "mamba_mm: this PyTorch has no CUDA (libtorch_cuda.so with aoti_torch_get_current_cuda_stream is not loaded); "
        "install a CUDA build of torch >= 2.10 to run on a GPU");
  return reinterpret_cast<GetStream>(symbol);
}

}  // namespace

Stream current_stream(int device) {
  static const GetStream get_stream = find_get_stream();
  void* stream = nullptr;
  if (get_stream(device, &stream) != 0)
    throw std::runtime_error("mamba_mm: PyTorch did not give its CUDA stream for device " + std::to_string(device));
  return stream;
}

DeviceGuard::DeviceGuard(int device) {
  check_cuda(cudaGetDevice(&former_), "asking for the current device");
  check_cuda(cudaSetDevice(device), "choosing the device");
}

DeviceGuard::~DeviceGuard() { cudaSetDevice(former_); }

#endif

}  // namespace mamba_mm
