// Between tensors and tiles. A tile holds some steps of W channels as [step][W], in the
// type of the computation; tensors come in any layout and in half precision too.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "selective_scan.h"

namespace mamba_mm {
namespace MAMBA_MM_ISA {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Zeroed scratch memory, aligned for the widest registers.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64 + 64;
    data_ = static_cast<T*>(aligned_alloc(64, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    memset(data_, 0, bytes);
  }
  ~Buffer() { free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* get() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  T* data_;
};

inline float bits_to_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

inline uint32_t float_to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float bfloat_to_float(uint16_t h) { return bits_to_float(uint32_t{h} << 16); }

inline uint16_t float_to_bfloat(float x) {
  if (x != x) return 0x7fc0;
  const uint32_t bits = float_to_bits(x);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t{h & 0x8000u} << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) {  // subnormal: an integer times 2^-24, exact in float
    const float x = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
    return sign ? -x : x;
  }
  return bits_to_float(sign | ((magnitude << 13) + 0x38000000));
}

inline uint16_t float_to_half(float x) {
  const uint32_t bits = float_to_bits(x), magnitude = bits & 0x7fffffff;
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;  // rounds to 65536 or more
  if (magnitude < 0x38800000) {
    // Below the normal range: adding 1/2 makes the hardware round at the right bit.
    const float shifted = bits_to_float(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (float_to_bits(shifted) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

template <class T>
inline T read_element(const void* data, DType dtype, int64_t i) {
  switch (dtype) {
    case DType::kFloat64: return static_cast<T>(static_cast<const double*>(data)[i]);
    case DType::kFloat32: return static_cast<T>(static_cast<const float*>(data)[i]);
    case DType::kBFloat16: return static_cast<T>(bfloat_to_float(static_cast<const uint16_t*>(data)[i]));
    case DType::kFloat16: return static_cast<T>(half_to_float(static_cast<const uint16_t*>(data)[i]));
  }
  return T{};
}

template <class T>
inline void write_element(void* data, DType dtype, int64_t i, T x) {
  switch (dtype) {
    case DType::kFloat64: static_cast<double*>(data)[i] = static_cast<double>(x); break;
    case DType::kFloat32: static_cast<float*>(data)[i] = static_cast<float>(x); break;
    case DType::kBFloat16: static_cast<uint16_t*>(data)[i] = float_to_bfloat(static_cast<float>(x)); break;
    case DType::kFloat16: static_cast<uint16_t*>(data)[i] = float_to_half(static_cast<float>(x)); break;
  }
}

template <class T>
constexpr DType dtype_of() {
  return sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32;
}

template <class V>
struct Staging {
  using T = typename V::T;
  using F = typename V::F;
  static constexpr int W = V::W;
  // How many steps ahead memory is asked for where steps lie far apart.
  static constexpr int64_t kAhead = 8;

  // Read `count` elements that lie `stride` apart.
  static void read_row(const void* data, DType dtype, int64_t first, int64_t stride, int64_t count, T* to) {
    int64_t i = 0;
    if (stride == 1) {
      if (dtype == dtype_of<T>()) {
        memcpy(to, static_cast<const T*>(data) + first, count * sizeof(T));
        return;
      }
      i = read_halves(data, dtype, first, count, to);
    }
    for (; i < count; ++i) to[i] = read_element<T>(data, dtype, first + i * stride);
  }

  static void write_row(void* data, DType dtype, int64_t first, int64_t stride, int64_t count, const T* from) {
    int64_t i = 0;
    if (stride == 1) {
      if (dtype == dtype_of<T>()) {
        memcpy(static_cast<T*>(data) + first, from, count * sizeof(T));
        return;
      }
      i = write_halves(data, dtype, first, count, from);
    }
    for (; i < count; ++i) write_element<T>(data, dtype, first + i * stride, from[i]);
  }

  // Steps t0 ... t0 + steps - 1 of `lanes` channels from c0 on; missing lanes become zero.
  // `rows` is scratch for W rows of `steps` elements.
  static void load_tile(const Rows& from, int64_t b, int64_t c0, int64_t lanes, int64_t t0, int64_t steps,
                        T* tile, T* rows) {
    const int64_t first = b * from.batch + c0 * from.channel + t0 * from.time;
    if (from.channel == 1 && from.time != 1) {  // channels last: a step is a vector already
      if (from.dtype == dtype_of<T>() && lanes == W) {
        const T* data = static_cast<const T*>(from.data) + first;
        for (int64_t t = 0; t < steps; ++t) {
          __builtin_prefetch(data + (t + kAhead) * from.time);
          V::store(tile + t * W, V::load(data + t * from.time));
        }
        return;
      }
      for (int64_t t = 0; t < steps; ++t) {
        read_row(from.data, from.dtype, first + t * from.time, 1, lanes, tile + t * W);
        for (int64_t r = lanes; r < W; ++r) tile[t * W + r] = T{};
      }
      return;
    }
    if (from.dtype == dtype_of<T>() && from.time == 1 && lanes == W) {
      transpose_rows(static_cast<const T*>(from.data) + first, from.channel, steps, tile);
      return;
    }
    for (int64_t r = 0; r < lanes; ++r)
      read_row(from.data, from.dtype, first + r * from.channel, from.time, steps, rows + r * steps);
    if (lanes < W) memset(rows + lanes * steps, 0, (W - lanes) * steps * sizeof(T));
    transpose_rows(rows, steps, steps, tile);
  }

  static void store_tile(const MutableRows& to, int64_t b, int64_t c0, int64_t lanes, int64_t t0, int64_t steps,
                         const T* tile, T* rows) {
    const int64_t first = b * to.batch + c0 * to.channel + t0 * to.time;
    if (to.channel == 1 && to.time != 1) {
      if (to.dtype == dtype_of<T>() && lanes == W) {
        T* data = static_cast<T*>(to.data) + first;
        for (int64_t t = 0; t < steps; ++t) {
          __builtin_prefetch(data + (t + kAhead) * to.time, 1);
          V::store(data + t * to.time, V::load(tile + t * W));
        }
        return;
      }
      for (int64_t t = 0; t < steps; ++t) write_row(to.data, to.dtype, first + t * to.time, 1, lanes, tile + t * W);
      return;
    }
    if (to.dtype == dtype_of<T>() && to.time == 1 && lanes == W) {
      transpose_tile(tile, steps, static_cast<T*>(to.data) + first, to.channel);
      return;
    }
    transpose_tile(tile, steps, rows, steps);
    for (int64_t r = 0; r < lanes; ++r)
      write_row(to.data, to.dtype, first + r * to.channel, to.time, steps, rows + r * steps);
  }

  // Ask for the next chunk while this one is worked on: the rows of a tile are too many
  // streams, and their pieces too short, for the processor to see them coming.
  template <int kWrite, class R>
  static void prefetch_tile(const R& from, int64_t b, int64_t c0, int64_t lanes, int64_t t0, int64_t steps) {
    if (from.time != 1 || steps <= 0) return;
    const int64_t size = from.dtype == DType::kFloat64 ? 8 : from.dtype == DType::kFloat32 ? 4 : 2;
    const char* first = static_cast<const char*>(from.data) + (b * from.batch + c0 * from.channel + t0) * size;
    for (int64_t r = 0; r < lanes; ++r)
      for (int64_t i = 0; i < steps * size; i += 64)
        __builtin_prefetch(first + r * from.channel * size + i, kWrite);
  }

  // `lanes` parameters that lie `stride` apart; missing lanes become zero.
  static F load_lanes(const void* data, int64_t first, int64_t stride, int64_t lanes) {
    alignas(64) T values[W] = {};
    if (data != nullptr)
      for (int64_t r = 0; r < lanes; ++r) values[r] = static_cast<const T*>(data)[first + r * stride];
    return V::load(values);
  }

  static void store_lanes(void* data, int64_t first, int64_t stride, int64_t lanes, const T* values) {
    for (int64_t r = 0; r < lanes; ++r) static_cast<T*>(data)[first + r * stride] = values[r];
  }

 private:
  static void transpose_rows(const T* rows, int64_t stride, int64_t steps, T* tile) {
    int64_t t = 0;
    for (; t + W <= steps; t += W) V::transpose(rows + t, stride, tile + t * W, W);
    for (; t < steps; ++t)
      for (int64_t r = 0; r < W; ++r) tile[t * W + r] = rows[r * stride + t];
  }

  static void transpose_tile(const T* tile, int64_t steps, T* rows, int64_t stride) {
    int64_t t = 0;
    for (; t + W <= steps; t += W) V::transpose(tile + t * W, W, rows + t, stride);
    for (; t < steps; ++t)
      for (int64_t r = 0; r < W; ++r) rows[r * stride + t] = tile[t * W + r];
  }

  // Convert whole vectors of half-precision elements; return how many elements were done.
  static int64_t read_halves(const void* data, DType dtype, int64_t first, int64_t count, T* to) {
    int64_t i = 0;
#ifdef MAMBA_MM_HALF_VECTORS
    const auto* from = static_cast<const uint16_t*>(data) + first;
    if (dtype == DType::kBFloat16)
      for (; i + W <= count; i += W) V::store(to + i, V::from_bfloat(from + i));
    else if (dtype == DType::kFloat16)
      for (; i + W <= count; i += W) V::store(to + i, V::from_half(from + i));
#endif
    return i;
  }

  static int64_t write_halves(void* data, DType dtype, int64_t first, int64_t count, const T* from) {
    int64_t i = 0;
#ifdef MAMBA_MM_HALF_VECTORS
    auto* to = static_cast<uint16_t*>(data) + first;
    if (dtype == DType::kBFloat16)
      for (; i + W <= count; i += W) V::to_bfloat(to + i, V::load(from + i));
    else if (dtype == DType::kFloat16)
      for (; i + W <= count; i += W) V::to_half(to + i, V::load(from + i));
#endif
    return i;
  }
};

// Asks for the memory of a tile's W channels a line a step, long before it is read or written.
template <class V>
class TileRequest {
  using T = typename V::T;
  static constexpr int64_t W = V::W;

 public:
  template <class R>
  TileRequest(const R& rows, int64_t b, int64_t c0, int64_t lanes) {
    if (rows.dtype != dtype_of<T>() || lanes < W) return;
    first_ = static_cast<const T*>(rows.data) + b * rows.batch + c0 * rows.channel;
    // Channels last, the W channels of a step are a line; else W steps of a channel are one.
    step_ = rows.time == 1 ? rows.channel : rows.time;
    group_ = rows.time == 1 ? W : W * rows.time;
  }
  TileRequest() = default;

  // For kCount steps, a divisor of W, from a multiple of kCount on.
  template <int kWrite, int kCount>
  void ask(int64_t step) const {
    if (first_ == nullptr) return;
    const T* line = first_ + step / W * group_ + step % W * step_;
    for (int i = 0; i < kCount; ++i, line += step_) __builtin_prefetch(line, kWrite, 2);
  }

 private:
  const T* first_ = nullptr;
  int64_t step_ = 0, group_ = 0;
};

// The rows of B or C for some steps, one row of `steps` values a state, in the type of
// the computation. Rows that already are what is needed are used where they lie.
template <class V>
class ProjectionRows {
 public:
  using T = typename V::T;

  ProjectionRows(const Projection& projection, int64_t states, int64_t max_steps)
      : projection_(projection),
        direct_(projection.dtype == dtype_of<T>() && projection.time == 1),
        copy_(projection.varies && !direct_ ? states * max_steps : 0),
        states_(states),
        max_steps_(max_steps) {}

  void stage(int64_t b, int64_t g, int64_t t0, int64_t steps) {
    if (!projection_.varies) return;
    const int64_t first = b * projection_.batch + g * projection_.group + t0 * projection_.time;
    if (direct_) {
      base_ = static_cast<const T*>(projection_.data) + first;
      stride_ = projection_.state;
      return;
    }
    for (int64_t n = 0; n < states_; ++n)
      Staging<V>::read_row(projection_.data, projection_.dtype, first + n * projection_.state,
                           projection_.time, steps, copy_.get() + n * max_steps_);
    base_ = copy_.get();
    stride_ = max_steps_;
  }

  const T* row(int64_t n) const { return base_ + n * stride_; }

 private:
  const Projection& projection_;
  const bool direct_;
  Buffer<T> copy_;
  const int64_t states_, max_steps_;
  const T* base_ = nullptr;
  int64_t stride_ = 0;
};

}  // namespace MAMBA_MM_ISA
}  // namespace mamba_mm
