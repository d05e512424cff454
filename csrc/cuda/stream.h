// The device and the stream that PyTorch works on.
#pragma once

namespace mamba_mm {

// A cudaStream_t; a name that files without CUDA's headers can use.
using Stream = void*;

// The stream on which PyTorch has its work for this device. It is asked at run time, not when
// linking, so that the library also loads under a PyTorch without CUDA.
Stream current_stream(int device);

// Makes a device the current one, and the former one again in the end.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device);
  ~DeviceGuard();
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int former_ = 0;
};

}  // namespace mamba_mm
