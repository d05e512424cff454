// The forward pass along one sequence: a lane is a channel, and walks its segment in chunks of 32
// steps.
//
// With one state or 16, the common numbers, a channel's states stay in registers. Any other number
// goes through a chunk four states at a time, which lie in shared memory between the chunks.
#include "route_scan_blocks.h"

namespace mamba_mm {
namespace {

using Tile = TileShape<kWarp>;

// The four-state kernel stages so many states of B and C at a time.
constexpr int kStaged = 16, kTileStates = 4;

template <class T, int kStates>
struct ForwardTiles {
  static constexpr bool kInRegisters = kStates == 1 || kStates == 16;
  using Staged = ProjectionShape<kInRegisters ? kStates : kStaged>;
  Positions positions;
  LowRank<T> low;
  SharedArray<T> B, C, dt, x, y, states;

  template <class Memory>
  __host__ __device__ ForwardTiles(Memory& memory, const RoutePass& pass, int warps)
      : positions(memory, warps),
        low(memory, pass),
        B(memory.template take<T>(Staged::kSize)),
        C(memory.template take<T>(Staged::kSize)),
        dt(memory.template take<T>(warps * Tile::kSize)),
        x(memory.template take<T>(kInRegisters ? 0 : warps * Tile::kSize)),
        y(memory.template take<T>(kInRegisters ? 0 : warps * Tile::kSize)),
        states(memory.template take<T>(kInRegisters ? 0 : pass.states * warps * kWarp)) {}
};

// What a lane knows of its channel.
template <class T>
struct ForwardLane {
  const RoutePass& pass;
  const RouteBlock& place;
  const RouteChannels channels;
  const bool present;
  const int channel;
  const int64_t row;  // of A, without the states
  const T bias, skip, scale;
  const SumOfChannel<T> out;

  __device__ __forceinline__ ForwardLane(const RoutePass& pass, const RouteBlock& place)
      : pass(pass),
        place(place),
        channels(pass, place, blockDim.x, kWarp),
        present(lane() < channels.count),
        channel(present ? channels.first + lane() : 0),
        row(place.sequence * pass.dim + channel),
        bias(load_parameter<T>(pass.bias, row, present)),
        skip(load_parameter<T>(pass.D, row, present)),
        scale(static_cast<T>(pass.scale)),
        out(pass.out, pass, place, channel) {}

  __device__ __forceinline__ T rate(int64_t n) const {
    return load_parameter<T>(pass.A, row * pass.states + n, present && n < pass.states) * T(kLog2E);
  }
  __device__ __forceinline__ T first_state(int64_t n) const {
    return load_parameter<T>(pass.ends, place.carry_at(pass, channel, n), present && place.continues(pass));
  }
  __device__ __forceinline__ int64_t first_x() const { return place.batch * pass.x.batch + channel; }
  __device__ __forceinline__ T* checkpoint(int t0) const {
    const int i = t0 / kTileSteps;
    if (pass.checkpoints == nullptr || i >= pass.saved() || !present) return nullptr;
    return static_cast<T*>(pass.checkpoints) + pass.checkpoint_at(place.batch, place.sequence, channel, i);
  }
};

// The entries of B or C of kCount steps from t on: with one state those of several steps are a pack.
template <int kStates, int kCount, class T>
__device__ __forceinline__ void read_steps(SharedArray<T> tile, int t, T (&values)[kCount][kStates]) {
  if constexpr (kStates == 1) {
    T row[kCount];
    read_projection<1>(tile, t, 0, row);
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i][0] = row[i];
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) read_projection<kStates>(tile, t + i, 0, values[i]);
  }
}

template <class T, int kStates>
__global__ void __launch_bounds__(128, kStates == 1 ? 6 : 4) route_in_registers(RoutePass pass) {
  constexpr int kTogether = kStates == 1 ? 8 : 4;
  SharedMemory memory;
  const ForwardTiles<T, kStates> tiles(memory, pass, blockDim.x / kWarp);
  const Positions positions = tiles.positions.of_warp();
  const SharedArray<T> dt = tiles.dt.from(warp() * Tile::kSize);
  RouteBlock place(pass, blockDim.x, 0);
  place.leave_repeats_to_one_block(pass);
  const ForwardLane<T> own(pass, place);
  const StepSizes<T, kWarp> sizes{pass, place, tiles.low, own.channel, own.present, own.bias};
  const bool skips = pass.D != nullptr;

  T rate[kStates], h[kStates];
#pragma unroll
  for (int n = 0; n < kStates; ++n) {
    rate[n] = own.rate(n);
    h[n] = own.first_state(n);
  }
  for (int t0 = place.begin; t0 < place.end; t0 += kTileSteps) {
    const int steps = place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps;
    __syncthreads();
    positions.find(pass, place, t0, steps);
    __syncwarp();
    load_states<kStates>(pass, place, positions.project, false, 0, tiles.B);
    load_states<kStates>(pass, place, positions.project, true, 0, tiles.C);
    if (pass.rank > 0) tiles.low.load(pass, place, positions.project, 0);
    __syncthreads();
    sizes.find(positions.project, dt);
#pragma unroll 1
    for (int t = 0; t < steps; t += kTogether) {
      int read[kTogether], write[kTogether];
      T x[kTogether], y[kTogether], sums[kTogether] = {}, b[kTogether][kStates], c[kTogether][kStates];
      read_positions<kTogether, 1>(positions.read, t, read);
      read_positions<kTogether, 1>(positions.write, t, write);
      gather(pass.x, own.first_x(), read, x);
      own.out.prepare(write, sums);
      read_steps<kStates>(tiles.B, t, b);
      read_steps<kStates>(tiles.C, t, c);
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const T step = dt[(t + i) * Tile::kPitch + lane()], driven = step * x[i];
        y[i] = skips ? own.skip * x[i] : T(0);
#pragma unroll
        for (int n = 0; n < kStates; ++n) {
          h[n] = power_of_two(step * rate[n]) * h[n] + driven * b[i][n];
          y[i] += c[i][n] * h[n];
        }
        y[i] *= own.scale;
      }
      if (own.present) own.out.add(write, sums, y);
    }
    if (T* const saved = own.checkpoint(t0)) {
#pragma unroll
      for (int n = 0; n < kStates; ++n) saved[n * kCheckpointLanes] = h[n];
    }
  }
}

template <class T>
__global__ void __launch_bounds__(128, sizeof(T) == 8 ? 2 : 4) route_in_tiles(RoutePass pass) {
  constexpr int kTogether = 8;
  const int states = static_cast<int>(pass.states);
  SharedMemory memory;
  const ForwardTiles<T, kTileStates> tiles(memory, pass, blockDim.x / kWarp);
  const Positions positions = tiles.positions.of_warp();
  const int of_warp = warp() * Tile::kSize;
  const SharedArray<T> dt = tiles.dt.from(of_warp), x = tiles.x.from(of_warp), y = tiles.y.from(of_warp);
  RouteBlock place(pass, blockDim.x, 0);
  place.leave_repeats_to_one_block(pass);
  const ForwardLane<T> own(pass, place);
  const StepSizes<T, kWarp> sizes{pass, place, tiles.low, own.channel, own.present, own.bias};
  const bool skips = pass.D != nullptr;

  for (int n = 0; n < states; ++n) tiles.states[n * blockDim.x + threadIdx.x] = own.first_state(n);
  for (int t0 = place.begin; t0 < place.end; t0 += kTileSteps) {
    const int steps = place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps;
    __syncthreads();
    positions.find(pass, place, t0, steps);
    __syncwarp();
    if (pass.rank > 0) tiles.low.load(pass, place, positions.project, 0);
    gather_tile<kWarp>(pass.x, place, own.channels, positions.read, T(1), x);
    __syncthreads();
    sizes.find(positions.project, dt);
    for (int t = 0; t < steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      y[i] = skips ? own.skip * x[i] : T(0);
    }
    for (int n0 = 0; n0 < states; n0 += kStaged) {
      const int left = states - n0, staged = left < kStaged ? left : kStaged;
      __syncthreads();
      load_states<kStaged>(pass, place, positions.project, false, n0, tiles.B);
      load_states<kStaged>(pass, place, positions.project, true, n0, tiles.C);
      __syncthreads();
      for (int n = n0; n < n0 + staged; n += kTileStates) {
        // States beyond the last take part with zeros, which an infinite input must not touch.
        const int valid = n0 + staged - n;
        T rate[kTileStates], h[kTileStates], b[kTileStates], c[kTileStates];
#pragma unroll
        for (int i = 0; i < kTileStates; ++i) {
          rate[i] = own.rate(n + i);
          h[i] = i < valid ? tiles.states[(n + i) * blockDim.x + threadIdx.x] : T(0);
        }
#pragma unroll 2
        for (int t = 0; t < steps; ++t) {
          const int i = t * Tile::kPitch + lane();
          const T step = dt[i], driven = step * x[i];
          read_projection<kStaged>(tiles.B, t, n - n0, b);
          read_projection<kStaged>(tiles.C, t, n - n0, c);
          T sum = y[i];
#pragma unroll
          for (int j = 0; j < kTileStates; ++j) {
            h[j] = j < valid ? power_of_two(step * rate[j]) * h[j] + driven * b[j] : T(0);
            sum += c[j] * h[j];
          }
          y[i] = sum;
        }
#pragma unroll
        for (int i = 0; i < kTileStates; ++i)
          if (i < valid) tiles.states[(n + i) * blockDim.x + threadIdx.x] = h[i];
      }
    }
#pragma unroll 1
    for (int t = 0; t < steps; t += kTogether) {
      int write[kTogether];
      T values[kTogether], sums[kTogether] = {};
      read_positions<kTogether, 1>(positions.write, t, write);
      own.out.prepare(write, sums);
#pragma unroll
      for (int i = 0; i < kTogether; ++i)
        values[i] = t + i < steps ? own.scale * y[(t + i) * Tile::kPitch + lane()] : T(0);
      if (own.present) own.out.add(write, sums, values);
    }
    if (T* const saved = own.checkpoint(t0))
      for (int n = 0; n < states; ++n) saved[n * kCheckpointLanes] = tiles.states[n * blockDim.x + threadIdx.x];
  }
}

template <class T, int kStates>
void run(const RoutePass& pass, void (*kernel)(RoutePass), Stream stream) {
  const int64_t kept = ForwardTiles<T, kStates>::kInRegisters ? 0 : pass.states;
  int64_t warps = divide_up(pass.dim, kWarp);
  if (warps > 4) warps = 4;
  // As many warps share B and C as keep their states in 32 KB, which leaves room for several
  // blocks a processor.
  while (warps > 1 && warps * kWarp * kept * static_cast<int64_t>(sizeof(T)) > 32 * 1024) warps /= 2;
  const auto lay_out = [&](SharedSize& size, int warps) { ForwardTiles<T, kStates>(size, pass, warps); };
  warps = fitting_warps(warps, lay_out);
  SharedSize size;
  lay_out(size, static_cast<int>(warps));
  const dim3 block(static_cast<unsigned>(warps * kWarp));
  launch(kernel, RouteBlock::grid(pass, pass.segments.count, block.x), block, size.bytes(), stream, pass);
}

}  // namespace

void run_route_forward(const RoutePass& pass, bool is_double, Stream stream) {
  if (is_double)
    run<double, kTileStates>(pass, route_in_tiles<double>, stream);
  else if (pass.states == 1)
    run<float, 1>(pass, route_in_registers<float, 1>, stream);
  else if (pass.states == 16)
    run<float, 16>(pass, route_in_registers<float, 16>, stream);
  else
    run<float, kTileStates>(pass, route_in_tiles<float>, stream);
}

}  // namespace mamba_mm
