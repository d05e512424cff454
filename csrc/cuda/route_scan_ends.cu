// Parts 1 and 2 of segments.h: what a segment that begins with zeros leaves behind, its state at
// the end, or for the backward pass its adjoint at the start, which needs no states. All sequences
// in one launch, as nothing is added up here.
#include <algorithm>

#include "route_scan_blocks.h"

namespace mamba_mm {
namespace {

using Tile = TileShape<kWarp>;

template <class T, int kStates>
struct EndTiles {
  static constexpr int kStaged = kStates == 1 ? 1 : 16;
  Positions positions;
  LowRank<T> low;
  SharedArray<T> rows, dt, values, states;  // rows: of B or C

  template <class Memory>
  __host__ __device__ EndTiles(Memory& memory, const RoutePass& pass, int warps)
      : positions(memory, warps),
        low(memory, pass),
        rows(memory.template take<T>(ProjectionShape<kStaged>::kSize)),
        dt(memory.template take<T>(warps * Tile::kSize)),
        values(memory.template take<T>(warps * Tile::kSize)),
        states(memory.template take<T>(pass.states * warps * kWarp)) {}
};

template <class T, int kStates, bool kAdjoint>
__global__ void __launch_bounds__(128, sizeof(T) == 8 ? 2 : 5) route_ends(RoutePass pass) {
  using Tiles = EndTiles<T, kStates>;
  constexpr int kStaged = Tiles::kStaged;
  const int states = static_cast<int>(pass.states);
  SharedMemory memory;
  const Tiles tiles(memory, pass, blockDim.x / kWarp);
  const Positions positions = tiles.positions.of_warp();
  const SharedArray<T> dt = tiles.dt.from(warp() * Tile::kSize), values = tiles.values.from(warp() * Tile::kSize);
  // Nothing follows the last segment, or for the adjoint the first.
  const RouteBlock place(pass, blockDim.x, kAdjoint ? 1 : 0);
  const RouteChannels channels(pass, place, blockDim.x, kWarp);
  const bool present = lane() < channels.count;
  const int channel = present ? channels.first + lane() : 0;
  const int64_t row = place.sequence * pass.dim + channel;
  const StepSizes<T, kWarp> sizes{pass, place, tiles.low, channel, present, load_parameter<T>(pass.bias, row, present)};

  for (int n = 0; n < states; ++n) tiles.states[n * blockDim.x + threadIdx.x] = 0;
  StepSpan<T> span;
  const int chunks = (place.end - place.begin + kTileSteps - 1) / kTileSteps;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int t0 = place.begin + (kAdjoint ? chunks - 1 - chunk : chunk) * kTileSteps;
    const int steps = place.end - t0 < kTileSteps ? place.end - t0 : kTileSteps;
    __syncthreads();
    positions.find(pass, place, t0, steps);
    __syncwarp();
    if (pass.rank > 0) tiles.low.load(pass, place, positions.project, 0);
    if (kAdjoint)
      gather_tile<kWarp>(pass.grad_out, place, channels, positions.write, static_cast<T>(pass.scale), values);
    else
      gather_tile<kWarp>(pass.x, place, channels, positions.read, T(1), values);
    __syncthreads();
    sizes.find(positions.project, dt);
    for (int t = 0; t < steps; ++t) {
      const int i = t * Tile::kPitch + lane();
      span.add(dt[i]);
      if (!kAdjoint) values[i] *= dt[i];
    }
    for (int n0 = 0; n0 < states; n0 += kStaged) {
      const int left = states - n0, staged = left < kStaged ? left : kStaged;
      __syncthreads();
      load_states<kStaged>(pass, place, positions.project, kAdjoint, n0, tiles.rows);
      __syncthreads();
      for (int n = n0; n < n0 + staged; n += kStates) {
        const int valid = n0 + staged - n;
        T rate[kStates], s[kStates], weight[kStates];
#pragma unroll
        for (int i = 0; i < kStates; ++i) {
          rate[i] = load_parameter<T>(pass.A, row * states + n + i, present && i < valid) * T(kLog2E);
          s[i] = i < valid ? tiles.states[(n + i) * blockDim.x + threadIdx.x] : T(0);
        }
#pragma unroll 2
        for (int step = 0; step < steps; ++step) {
          const int t = kAdjoint ? steps - 1 - step : step, i = t * Tile::kPitch + lane();
          read_projection<kStaged>(tiles.rows, t, n - n0, weight);
#pragma unroll
          for (int j = 0; j < kStates; ++j) {
            const T decay = power_of_two(dt[i] * rate[j]), more = values[i] * weight[j];
            s[j] = j >= valid ? T(0) : kAdjoint ? decay * (s[j] + more) : decay * s[j] + more;
          }
        }
#pragma unroll
        for (int i = 0; i < kStates; ++i)
          if (i < valid) tiles.states[(n + i) * blockDim.x + threadIdx.x] = s[i];
      }
    }
  }
  if (!present) return;
  span.store(static_cast<T*>(pass.spans) + place.span_at(pass, channel), pass.dim);
  for (int n = 0; n < states; ++n)
    static_cast<T*>(pass.ends)[place.carry_at(pass, channel, n)] = tiles.states[n * blockDim.x + threadIdx.x];
}

template <class T, int kStates>
void run(RoutePass& pass, const Walk* walks, bool adjoint, Stream stream) {
  int64_t warps = divide_up(pass.dim, kWarp);
  if (warps > 4) warps = 4;
  while (warps > 1 && warps * kWarp * pass.states * static_cast<int64_t>(sizeof(T)) > 32 * 1024) warps /= 2;
  const auto lay_out = [&](SharedSize& size, int warps) { EndTiles<T, kStates>(size, pass, warps); };
  warps = fitting_warps(warps, lay_out);
  SharedSize size;
  lay_out(size, static_cast<int>(warps));
  const dim3 block(static_cast<unsigned>(warps * kWarp));
  for (int64_t k = 0; k < pass.sequences; k += kWalksTogether) {
    pass.first_sequence = k;
    pass.launched = std::min<int64_t>(kWalksTogether, pass.sequences - k);
    std::copy(walks + k, walks + k + pass.launched, pass.walks);
    launch(adjoint ? route_ends<T, kStates, true> : route_ends<T, kStates, false>,
           RouteBlock::grid(pass, pass.segments.count - 1, block.x), block, size.bytes(), stream, pass);
  }
}

}  // namespace

void run_route_ends(RoutePass pass, const Walk* walks, bool adjoint, bool is_double, Stream stream) {
  if (pass.segments.count < 2 || pass.states == 0) return;
  if (is_double)
    run<double, 1>(pass, walks, adjoint, stream);
  else if (pass.states == 1)
    run<float, 1>(pass, walks, adjoint, stream);
  else
    run<float, 4>(pass, walks, adjoint, stream);
  const SegmentCarry carry{pass.segments.count, pass.items, pass.sequences, pass.dim,
                           pass.states,         pass.A,     pass.ends,      pass.spans,
                           nullptr,             adjoint};
  carry_over_segments(carry, is_double, stream);
}

}  // namespace mamba_mm
