// The forward pass: a lane is a channel, and walks its segment in chunks of 32 steps.
//
// With one state or 16, the common numbers, a channel's states stay in registers. Any other number
// goes through a chunk four states at a time, which lie in shared memory between the chunks.
#include "scan_blocks.h"

namespace mamba_mm {
namespace {

using Tile = TileShape<kWarp>;

// The four-state kernel stages so many states of B and C at a time.
constexpr int kStaged = 16, kTileStates = 4;

template <class T>
struct ForwardTiles {
  SharedArray<T> u, delta, y, B, C, states;

  template <class Memory>
  __host__ __device__ ForwardTiles(Memory& memory, int warps, int projection, bool with_y, int64_t states_kept)
      : u(memory.template take<T>(warps * Tile::kSize)),
        delta(memory.template take<T>(warps * Tile::kSize)),
        y(memory.template take<T>(with_y ? warps * Tile::kSize : 0)),
        B(memory.template take<T>(projection)),
        C(memory.template take<T>(projection)),
        states(memory.template take<T>(states_kept * warps * kWarp)) {}
};

// Apply the gate to the outputs and store them. `gate` is a tile that may be overwritten.
template <class T>
__device__ __forceinline__ void finish_outputs(const Forward& call, const TilePlace& place, SharedArray<T> y,
                                               SharedArray<T> gate) {
  __syncwarp();
  if (call.in.z.data != nullptr) {
    load_tile<kWarp>(call.in.z, place, gate);
    __syncwarp();
#pragma unroll 4
    for (int t = 0; t < place.steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      y[i] *= silu(gate[i]);
    }
    __syncwarp();
  }
  store_tile<kWarp>(call.out, place, y);
}

// A step's values of B or C, from state n on: staged, or a row of the channel's own.
template <int kStates, int kCount, class T>
__device__ __forceinline__ void projection_row(const Projection& rows, SharedArray<T> staged, const void* fixed,
                                               int64_t row, int t, int n, T (&values)[kCount]) {
  if (rows.varies) {
    read_projection<kStates>(staged, t, n, values);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = static_cast<const T*>(fixed)[row + i];
  }
}

// Without kFinal: the states at the end of a segment that begins with zeros, and no outputs.
template <class T, int kStates, bool kFinal>
__global__ void __launch_bounds__(128, kStates == 1 ? 6 : 4) scan_in_registers(ForwardPass pass) {
  const Forward& call = pass.call;
  const Problem& in = call.in;
  SharedMemory memory;
  const ForwardTiles<T> tiles(memory, blockDim.x / kWarp, ProjectionShape<kStates>::kSize, false, 0);
  const SharedArray<T> u = tiles.u.from(warp() * Tile::kSize), delta = tiles.delta.from(warp() * Tile::kSize);
  const ScanBlock place(in, pass.segments, blockDim.x, 0);
  const WarpChannels channels(in, place, blockDim.x, kWarp);
  const bool present = lane() < channels.count;
  const int64_t channel = present ? channels.first + lane() : 0, row = channel * kStates;

  T rate[kStates], h[kStates];
#pragma unroll
  for (int n = 0; n < kStates; ++n) {
    rate[n] = load_parameter<T>(in.A, row + n, present) * T(kLog2E);
    h[n] = load_parameter<T>(kFinal ? pass.ends : nullptr, carry_at(in, place, channel, n), present);
  }
  const T bias = load_parameter<T>(in.bias, channel, present), skip = load_parameter<T>(in.D, channel, present);
  const bool skips = in.D != nullptr;
  StepSpan<T> span;

  for (int64_t t0 = place.begin; t0 < place.end; t0 += kTileSteps) {
    const int steps = static_cast<int>(place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps);
    const TilePlace here{place.batch, channels.first, t0, channels.count, steps};
    __syncthreads();
    if (in.B.varies) load_projection<kStates>(in.B, place.batch, place.group, 0, kStates, t0, steps, tiles.B);
    if (kFinal && in.C.varies)
      load_projection<kStates>(in.C, place.batch, place.group, 0, kStates, t0, steps, tiles.C);
    load_tile<kWarp>(in.u, here, u);
    load_tile<kWarp>(in.delta, here, delta);
    __syncthreads();
#pragma unroll(kStates == 1 ? 4 : 2)
    for (int t = 0; t < steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      const T dt = step_size(delta[i], bias, in.softplus), x = u[i], driven = dt * x;
      T b[kStates];
      projection_row<kStates>(in.B, tiles.B, in.fixed_B, row, t, 0, b);
#pragma unroll
      for (int n = 0; n < kStates; ++n) h[n] = power_of_two(dt * rate[n]) * h[n] + driven * b[n];
      if (kFinal) {
        T c[kStates];
        projection_row<kStates>(in.C, tiles.C, in.fixed_C, row, t, 0, c);
        T y = skips ? skip * x : T(0);
#pragma unroll
        for (int n = 0; n < kStates; ++n) y += c[n] * h[n];
        u[i] = y;
      } else {
        span.add(dt);
      }
    }
    if (kFinal) {
      const int64_t k = t0 / kTileSteps;
      if (call.checkpoints != nullptr && k < in.checkpoints() && present) {
        T* const saved = static_cast<T*>(call.checkpoints) +
                         in.checkpoint_at(place.batch, place.group, channels.offset + lane(), k, 0);
#pragma unroll
        for (int n = 0; n < kStates; ++n) saved[n * kCheckpointLanes] = h[n];
      }
      finish_outputs(call, here, u, delta);
    }
  }

  if (!present) return;
  if (!kFinal) span.store(static_cast<T*>(pass.spans) + span_at(in, place, channel), in.dim);
#pragma unroll
  for (int n = 0; n < kStates; ++n) {
    if (!kFinal)
      static_cast<T*>(pass.ends)[carry_at(in, place, channel, n)] = h[n];
    else if (place.end == in.length)
      static_cast<T*>(call.last_state)[place.batch * in.dim * kStates + row + n] = h[n];
  }
}

template <class T, bool kFinal>
__global__ void __launch_bounds__(128, sizeof(T) == 8 ? 2 : 4) scan_in_tiles(ForwardPass pass) {
  const Forward& call = pass.call;
  const Problem& in = call.in;
  const int states = static_cast<int>(in.states);
  SharedMemory memory;
  const ForwardTiles<T> tiles(memory, blockDim.x / kWarp, ProjectionShape<kStaged>::kSize, true, states);
  const SharedArray<T> u = tiles.u.from(warp() * Tile::kSize), delta = tiles.delta.from(warp() * Tile::kSize),
                       y = tiles.y.from(warp() * Tile::kSize);
  const ScanBlock place(in, pass.segments, blockDim.x, 0);
  const WarpChannels channels(in, place, blockDim.x, kWarp);
  const bool present = lane() < channels.count;
  const int64_t channel = present ? channels.first + lane() : 0, row = channel * states;

  for (int n = 0; n < states; ++n)
    tiles.states[n * blockDim.x + threadIdx.x] =
        load_parameter<T>(kFinal ? pass.ends : nullptr, carry_at(in, place, channel, n), present);
  const T bias = load_parameter<T>(in.bias, channel, present), skip = load_parameter<T>(in.D, channel, present);
  const bool skips = in.D != nullptr;
  StepSpan<T> span;

  for (int64_t t0 = place.begin; t0 < place.end; t0 += kTileSteps) {
    const int steps = static_cast<int>(place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps);
    const TilePlace here{place.batch, channels.first, t0, channels.count, steps};
    __syncwarp();
    load_tile<kWarp>(in.u, here, u);
    load_tile<kWarp>(in.delta, here, delta);
    __syncwarp();
    for (int t = 0; t < steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      const T dt = step_size(delta[i], bias, in.softplus);
      delta[i] = dt;
      if (!kFinal) span.add(dt);
      y[i] = skips ? skip * u[i] : T(0);
    }
    for (int n0 = 0; n0 < states; n0 += kStaged) {
      const int staged = states - n0 < kStaged ? states - n0 : kStaged;
      __syncthreads();
      if (in.B.varies) load_projection<kStaged>(in.B, place.batch, place.group, n0, staged, t0, steps, tiles.B);
      if (kFinal && in.C.varies)
        load_projection<kStaged>(in.C, place.batch, place.group, n0, staged, t0, steps, tiles.C);
      __syncthreads();
      for (int n = n0; n < n0 + staged; n += kTileStates) {
        // States beyond the last take part with zeros, which an infinite input must not touch.
        const int valid = n0 + staged - n;
        T rate[kTileStates], h[kTileStates], b[kTileStates], c[kTileStates];
#pragma unroll
        for (int i = 0; i < kTileStates; ++i) {
          rate[i] = load_parameter<T>(in.A, row + n + i, present && i < valid) * T(kLog2E);
          h[i] = i < valid ? tiles.states[(n + i) * blockDim.x + threadIdx.x] : T(0);
          b[i] = load_parameter<T>(in.fixed_B, row + n + i, present && i < valid);
          c[i] = load_parameter<T>(in.fixed_C, row + n + i, present && i < valid);
        }
#pragma unroll 2
        for (int t = 0; t < steps; ++t) {
          const int i = t * Tile::kPitch + lane();
          const T dt = delta[i], driven = dt * u[i];
          if (in.B.varies) read_projection<kStaged>(tiles.B, t, n - n0, b);
#pragma unroll
          for (int j = 0; j < kTileStates; ++j)
            h[j] = j < valid ? power_of_two(dt * rate[j]) * h[j] + driven * b[j] : T(0);
          if (kFinal) {
            if (in.C.varies) read_projection<kStaged>(tiles.C, t, n - n0, c);
            T sum_of_states = y[i];
#pragma unroll
            for (int j = 0; j < kTileStates; ++j) sum_of_states += c[j] * h[j];
            y[i] = sum_of_states;
          }
        }
#pragma unroll
        for (int i = 0; i < kTileStates; ++i)
          if (i < valid) tiles.states[(n + i) * blockDim.x + threadIdx.x] = h[i];
      }
    }
    if (kFinal) {
      const int64_t k = t0 / kTileSteps;
      if (call.checkpoints != nullptr && k < in.checkpoints() && present) {
        T* const saved = static_cast<T*>(call.checkpoints) +
                         in.checkpoint_at(place.batch, place.group, channels.offset + lane(), k, 0);
        for (int n = 0; n < states; ++n) saved[n * kCheckpointLanes] = tiles.states[n * blockDim.x + threadIdx.x];
      }
      finish_outputs(call, here, y, delta);
    }
  }

  if (!present) return;
  if (!kFinal) span.store(static_cast<T*>(pass.spans) + span_at(in, place, channel), in.dim);
  for (int n = 0; n < states; ++n) {
    const T h = tiles.states[n * blockDim.x + threadIdx.x];
    if (!kFinal)
      static_cast<T*>(pass.ends)[carry_at(in, place, channel, n)] = h;
    else if (place.end == in.length)
      static_cast<T*>(call.last_state)[place.batch * in.dim * states + row + n] = h;
  }
}

using Kernel = void (*)(ForwardPass);

template <bool kFinal>
Kernel choose_kernel(int64_t states, bool is_double) {
  if (is_double) return scan_in_tiles<double, kFinal>;
  if (states == 1) return scan_in_registers<float, 1, kFinal>;
  if (states == 16) return scan_in_registers<float, 16, kFinal>;
  return scan_in_tiles<float, kFinal>;
}

template <class T>
void run(const ForwardPass& pass, Stream stream) {
  const Problem& in = pass.call.in;
  const bool in_registers = sizeof(T) == 4 && (in.states == 1 || in.states == 16);
  const int64_t kept = in_registers ? 0 : in.states;
  // As many warps share B and C as keep their states in 32 KB, which leaves room for several
  // blocks a processor.
  int64_t warps = divide_up(in.channels_per_group(), kWarp);
  if (warps > 4) warps = 4;
  while (warps > 1 && warps * kWarp * kept * static_cast<int64_t>(sizeof(T)) > 32 * 1024) warps /= 2;
  const int projection = in_registers && in.states == 1 ? ProjectionShape<1>::kSize : ProjectionShape<kStaged>::kSize;
  const auto lay_out = [&](SharedSize& size, int warps) {
    ForwardTiles<T>(size, warps, projection, !in_registers, kept);
  };
  warps = fitting_warps(warps, lay_out);
  SharedSize size;
  lay_out(size, static_cast<int>(warps));
  const dim3 block(static_cast<unsigned>(warps * kWarp));
  const bool is_double = sizeof(T) == 8;
  const int64_t count = pass.segments.count;
  if (count > 1) {
    // Nothing follows the last segment.
    launch(choose_kernel<false>(in.states, is_double), ScanBlock::grid(in, count - 1, block.x), block, size.bytes(),
           stream, pass);
    SegmentCarry carry{count, in.batch, 1, in.dim, in.states, in.A, pass.ends, pass.spans, nullptr, false};
    carry_over_segments(carry, is_double, stream);
  }
  launch(choose_kernel<true>(in.states, is_double), ScanBlock::grid(in, count, block.x), block, size.bytes(), stream,
         pass);
}

}  // namespace

void run_forward(const ForwardPass& pass, bool is_double, Stream stream) {
  is_double ? run<double>(pass, stream) : run<float>(pass, stream);
}

}  // namespace mamba_mm
