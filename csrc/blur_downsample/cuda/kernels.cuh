// The GPU kernels of blur_downsample on the folded filters of filters.cuh, and their launches.
//
//   forward_tiled    float, k up to 31: what training uses
//   forward_any      any type, any k: one thread per pixel, without tricks
//   backward_tiled, backward_any    the same for the gradient of the image: every sum gathered, in a fixed order
#pragma once

#include "filters.cuh"

namespace dan_fast::blur_downsample {
namespace device {

constexpr int kLanes = 32;   // pixels of a tile along x: one warp
constexpr int kPerThread = 8;  // pixels that a thread computes, one below the other
constexpr int kTileRows = 2 * kPerThread;
constexpr int kWarps = 8, kThreads = kWarps * kLanes;

constexpr int kMaxShared = 99 * 1024;  // what every card since sm_80 gives a block, sm_86 and sm_89 the least

// sums[p] += sum over m of weights[m] * column[(p + m) * Stride]. Every value and every weight is read once, into a
// ring of registers: M * P multiply-adds for M + P - 1 loads and, as all lanes read the same weights, M / 4 more.
template <int M, int Stride>
DAN_FAST_HD void correlate(const float* column, const float* weights, float (&sums)[kPerThread]) {
  constexpr int P = kPerThread;
  float ring[P];
#pragma unroll
  for (int p = 0; p < P - 1; ++p) ring[p] = column[p * Stride];
  float4 four{};
#pragma unroll
  for (int m = 0; m < M; ++m) {
    ring[(m + P - 1) % P] = column[(m + P - 1) * Stride];
    if (m % 4 == 0) four = reinterpret_cast<const float4*>(weights)[m / 4];
    const float weight = m % 4 == 0 ? four.x : m % 4 == 1 ? four.y : m % 4 == 2 ? four.z : four.w;
#pragma unroll
    for (int p = 0; p < P; ++p) sums[p] += weight * ring[(m + p) % P];
  }
}

// Which tile, of which plane, a block computes.
struct Place {
  int64_t plane;
  int y, x;  // of its first pixel
  DAN_FAST_HD Place(int64_t block, int tiles_y, int tiles_x)
      : plane(block / tiles_x / tiles_y), y(static_cast<int>(block / tiles_x % tiles_y) * kTileRows),
        x(static_cast<int>(block % tiles_x) * kLanes) {}
};

// Forward: sizes of a tile in shared memory, for scale S and kernels of at most K. The columns of the image are
// sorted by column % S, so that the pixels of a warp, S columns apart, read neighbouring words.
template <int S, int K>
struct Forward {
  static constexpr int M = taps_per_phase(S, K);  // taps along y in each of the S row phases
  static constexpr int pitch = phase_pitch(S, K);
  static constexpr int columns = kLanes - 1 + M;  // in each of the S column phases
  static constexpr int width = S * columns, height = S * (kTileRows - 1 + M);
  static constexpr int line = width | 1;  // odd: the columns at the image's border are read downwards
  static constexpr int filter = (K + tap_count(S) - 1) * S * pitch;
  static constexpr int tile = (height * line + 3) / 4 * 4, sums = kWarps / 2 * kTileRows * kLanes;
  static constexpr int filter_at = tile > sums ? tile : sums;  // the partial sums take the place of the image
  static constexpr int border_at = filter_at + filter;
  static constexpr int shared = static_cast<int>(sizeof(float)) * (border_at + kThreads);
  static_assert(shared <= kMaxShared, "a tile does not fit into shared memory");
};

// Each thread copies the same four columns of many rows, so that it computes their addresses once.
template <int S, int K>
DAN_FAST_HD void load_tile(const float* image, const Problem<float>& p, const Place& place, float* tile, int thread) {
  using F = Forward<S, K>;
  constexpr int vectors = (F::width + 6) / 4;  // with the way to the multiple of 4 before the first column
  constexpr int rows = kThreads / vectors, batch = 4;
  if (thread >= rows * vectors) return;
  const int top = place.y * S + p.start(), left = place.x * S + p.start();
  const int from = (left & ~3) + thread % vectors * 4;
  const bool aligned = p.width % 4 == 0 && reinterpret_cast<uintptr_t>(image) % 16 == 0;
  const bool whole = aligned && from >= 0 && from + 3 < p.width;
  int source[4], target[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int column = from + e - left;
    source[e] = reflected(from + e, p.width);
    target[e] = column >= 0 && column < F::width ? column % S * F::columns + column / S : -1;
  }
  // Several loads under way before the first is stored.
  for (int r = thread / vectors; r < F::height; r += batch * rows) {
    float4 values[batch];
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      const float* row = image + int64_t{reflected(top + r + b * rows, p.height)} * p.width;
      if (whole) values[b] = *reinterpret_cast<const float4*>(row + from);
      else values[b] = float4{row[source[0]], row[source[1]], row[source[2]], row[source[3]]};
    }
#pragma unroll
    for (int b = 0; b < batch; ++b) {
      if (r + b * rows >= F::height) break;
      const float four[] = {values[b].x, values[b].y, values[b].z, values[b].w};
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (target[e] >= 0) tile[(r + b * rows) * F::line + target[e]] = four[e];
    }
  }
}

// Positions 0 to size - 1 on one axis: `inner` of them in the middle are ordinary, the others need care.
struct Edge {
  int size, before, inner;
  DAN_FAST_HD Edge(int size, int before, int after) : size(size), before(clamped(before)) {
    inner = max(size - clamped(after) - this->before, 0);
  }
  DAN_FAST_HD int clamped(int i) const { return min(max(i, 0), size); }
  DAN_FAST_HD int count() const { return size - inner; }
  DAN_FAST_HD int at(int e) const { return e < before ? e : e + inner; }
};

// All positions of a rectangle that need care along either axis: whole rows first, then the rest of the columns.
template <typename Index>
struct Rim {
  Edge rows, columns;
  DAN_FAST_HD Index in_rows() const { return Index{rows.count()} * columns.size; }
  DAN_FAST_HD Index count() const { return in_rows() + Index{rows.inner} * columns.count(); }
  DAN_FAST_HD void at(Index q, int& row, int& column) const {
    const bool whole_row = q < in_rows();
    const Index rest = whole_row ? q : q - in_rows(), length = whole_row ? columns.size : rows.inner;
    const int line = static_cast<int>(rest / length), along = static_cast<int>(rest % length);
    row = whole_row ? rows.at(line) : rows.before + along;
    column = whole_row ? along : columns.at(line);
  }
};

// Computes the pixels of the tile that have filters of their own: 32 at a time, one per lane; a warp takes every 8th
// column of their taps.
template <int S, int K>
__device__ void border_pixels(const float* tile, float* partial, const float* filters, float* out,
                              const Problem<float>& p, const Place& place) {
  using F = Forward<S, K>;
  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  constexpr int border = S == 1 ? 0 : kBorder;
  const int height = p.height / S, width = p.width / S;  // as p would say, but divisions by a constant are cheap
  const int tile_height = min(kTileRows, height - place.y), tile_width = min(kLanes, width - place.x);
  const Rim<int> rim{{tile_height, border - place.y, place.y + tile_height - (height - border)},
                     {tile_width, border - place.x, place.x + tile_width - (width - border)}};
  const int total = rim.count();
  const int64_t image = place.plane / p.channels;
  for (int base = 0; base < total; base += kLanes) {
    int r, c;
    rim.at(min(base + lane, total - 1), r, c);
    const int y = place.y + r, x = place.x + c;
    const float* filter = filters + p.filter_at(image, class_of(y, height), class_of(x, width));
    float sum = 0;
    for (int j = warp; j < p.size(); j += kWarps)
      for (int phase = 0; phase < S; ++phase) {
        const float* values = tile + (r * S + phase) * F::line + j % S * F::columns + j / S + c;
        const float4* weights = reinterpret_cast<const float4*>(filter + (j * S + phase) * F::pitch);
#pragma unroll
        for (int m = 0; m < F::M; m += 4) {
          const float4 four = weights[m / 4];
          sum += four.x * values[m * S * F::line];
          if (m + 1 < F::M) sum += four.y * values[(m + 1) * S * F::line];
          if (m + 2 < F::M) sum += four.z * values[(m + 2) * S * F::line];
          if (m + 3 < F::M) sum += four.w * values[(m + 3) * S * F::line];
        }
      }
    partial[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && base + lane < total) {
      sum = 0;
      for (int w = 0; w < kWarps; ++w) sum += partial[w * kLanes + lane];
      out[(place.plane * height + y) * width + x] = sum;
    }
    __syncthreads();
  }
}

// A block computes 32 x 16 pixels of one plane. Two warps, one above the other, compute 8 pixels per thread. Four such
// pairs divide the columns of the filter among them, as more pixels would not fit into shared memory, and add their
// sums.
template <int S, int K>
__global__ void __launch_bounds__(kThreads, 3)
    forward_tiled(const float* __restrict__ hr, const float* __restrict__ filters, float* __restrict__ out,
                  const __grid_constant__ Problem<float> p, int tiles_y, int tiles_x) {
  using F = Forward<S, K>;
  DAN_FAST_SHARED(float, tile);
  float* const filter = tile + F::filter_at;
  const Place place(blockIdx.x, tiles_y, tiles_x);
  const float* inner_filter = filters + p.filter_at(place.plane / p.channels, kInner, kInner);
  for (int q = threadIdx.x; q < p.size() * S * F::pitch / 4; q += kThreads)
    reinterpret_cast<float4*>(filter)[q] = reinterpret_cast<const float4*>(inner_filter)[q];
  load_tile<S, K>(hr + place.plane * p.height * p.width, p, place, tile, threadIdx.x);
  __syncthreads();

  const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes, half = warp % 2;
  constexpr int groups = kWarps / 2;
  float sums[kPerThread] = {};
  for (int j = warp / 2; j < p.size(); j += groups) {
    const float* column = tile + half * kPerThread * S * F::line + j % S * F::columns + j / S + lane;
#pragma unroll
    for (int phase = 0; phase < S; ++phase)
      correlate<F::M, S * F::line>(column + phase * F::line, filter + (j * S + phase) * F::pitch, sums);
  }
  border_pixels<S, K>(tile, tile + F::border_at, filters, out, p, place);
  __syncthreads();

#pragma unroll
  for (int i = 0; i < kPerThread; ++i)
    tile[(warp / 2 * kTileRows + half * kPerThread + i) * kLanes + lane] = sums[i];
  __syncthreads();
  constexpr int border = S == 1 ? 0 : kBorder;
  const int height = p.height / S, width = p.width / S;
  for (int q = threadIdx.x; q < kTileRows * kLanes; q += kThreads) {
    const int y = place.y + q / kLanes, x = place.x + q % kLanes;
    if (y < border || y >= height - border || x < border || x >= width - border) continue;
    float sum = 0;
#pragma unroll
    for (int g = 0; g < groups; ++g) sum += tile[g * kTileRows * kLanes + q];
    out[(place.plane * height + y) * width + x] = sum;
  }
}

constexpr int kAnyThreads = 128;

template <typename T>
__global__ void __launch_bounds__(kAnyThreads) forward_any(const T* __restrict__ hr, const T* __restrict__ filters,
                                                           T* __restrict__ out, const __grid_constant__ Problem<T> p) {
  const int64_t pixel = int64_t{blockIdx.x} * kAnyThreads + threadIdx.x;
  const int height = p.out_height(), width = p.out_width();
  if (pixel >= p.planes() * height * width) return;
  const int x = pixel % width, y = pixel / width % height;
  const int64_t plane = pixel / width / height;
  const T* image = hr + plane * p.height * p.width;
  const T* filter = filters + p.filter_at(plane / p.channels, class_of(y, height), class_of(x, width));
  T sum = 0;
  for (int i = 0; i < p.size(); ++i) {
    const T* row = image + int64_t{reflected(y * p.scale + p.start() + i, p.height)} * p.width;
    for (int j = 0; j < p.size(); ++j)
      sum += filter[p.tap_at(i, j)] * row[reflected(x * p.scale + p.start() + j, p.width)];
  }
  out[pixel] = sum;
}

// The positions that reflection maps to u, on an axis that continues beyond its ends: u itself and one beyond each end.
DAN_FAST_HD int preimage(int which, int u, int n) { return which == 0 ? u : which == 1 ? -u : 2 * (n - 1) - u; }
DAN_FAST_HD bool is_preimage(int which, int u, int n, int k) {
  return which == 0 || (which == 1 ? u > 0 && u <= k / 2 : u < n - 1 && n - 1 - u <= (k - 1) / 2);
}

// The downsampled pixels, `first` to `last`, whose filters read position v; none if last < first.
struct Readers {
  int first, last;
  template <typename T>
  DAN_FAST_HD Readers(const Problem<T>& p, int v, int n) {
    const int past = v - p.start() - p.size();
    first = past < 0 ? 0 : past / p.scale + 1;
    last = v < p.start() ? -1 : min((v - p.start()) / p.scale, n - 1);
  }
};

// The gradient of pixel (u, v) of the image. `skip_inner`: without what comes from inner pixels without reflection.
template <typename T>
DAN_FAST_HD T gather(const T* grad, const T* filters, const Problem<T>& p, int64_t image, int u, int v,
                     bool skip_inner) {
  const int height = p.out_height(), width = p.out_width();
  T sum = 0;
  for (int a = 0; a < 3; ++a) {
    if (!is_preimage(a, u, p.height, p.k)) continue;
    const int row = preimage(a, u, p.height);
    for (int b = 0; b < 3; ++b) {
      if (!is_preimage(b, v, p.width, p.k)) continue;
      const int column = preimage(b, v, p.width);
      const Readers ys(p, row, height), xs(p, column, width);
      for (int y = ys.first; y <= ys.last; ++y) {
        // Tap (i, j) of the filters in this row, and their distances from class to class and from j to j + 1.
        const int i = row - p.start() - y * p.scale;
        const T* taps = filters + p.filter_at(image, class_of(y, height), 0) + p.tap_at(i, 0);
        const int64_t to_class = p.filter_size(), to_tap = p.scale * p.pitch();
        const bool skip = skip_inner && a == 0 && b == 0 && p.is_inner(y, height);
        for (int x = xs.first; x <= xs.last; ++x) {
          if (skip && p.is_inner(x, width)) x = width - p.border();  // the next one that is not
          if (x > xs.last) break;
          const int j = column - p.start() - x * p.scale;
          sum += taps[class_of(x, width) * to_class + j * to_tap] * grad[int64_t{y} * width + x];
        }
      }
    }
  }
  return sum;
}

// The gradient of the pixels that reflection or the filters of border pixels reach. `all`: of every pixel; else, after
// backward_tiled, it adds what that leaves out near the border of the image.
template <typename T>
DAN_FAST_HD Rim<int64_t> to_gather(const Problem<T>& p, bool all) {
  if (all) return Rim<int64_t>{{p.height, p.height, 0}, {p.width, p.width, 0}};
  const int before = max(p.scale + p.start() + p.size(), p.k / 2 + 1), after = kBorder * p.scale - p.start();
  return Rim<int64_t>{{p.height, before, after}, {p.width, before, after}};
}

template <typename T>
__global__ void __launch_bounds__(kAnyThreads, 4)
    backward_any(const T* __restrict__ grad, const T* __restrict__ filters, T* __restrict__ grad_hr,
                 const __grid_constant__ Problem<T> p, bool all) {
  const Rim<int64_t> rim = to_gather(p, all);
  const int64_t q = int64_t{blockIdx.x} * kAnyThreads + threadIdx.x, plane = q / rim.count();
  if (plane >= p.planes()) return;
  int u, v;
  rim.at(q % rim.count(), u, v);
  const T sum = gather(grad + plane * p.out_height() * p.out_width(), filters, p, plane / p.channels, u, v, !all);
  T* to = grad_hr + (plane * p.height + u) * p.width + v;
  *to = all ? sum : *to + sum;
}

// Backward: a block computes the S x S pixels of each of 32 x 16 cells; cell (y, x) begins at row
// y * S + start() of the image, where the filter of downsampled pixel (y, x) does.
template <int S, int K>
struct Backward {
  static constexpr int M = taps_per_phase(S, K);
  static constexpr int threads = 2 * S * kLanes;  // two halves of a tile, S row phases
  static constexpr int line = kLanes - 1 + M, height = kTileRows - 1 + M;
  static constexpr int filter = (K + tap_count(S) - 1) * S * phase_pitch(S, K);
  static constexpr int shared = static_cast<int>(sizeof(float)) * (filter + height * line);
  static_assert(shared <= kMaxShared, "a tile does not fit into shared memory");
  DAN_FAST_HD static int first_cell(const Problem<float>& p) { return -p.start() / S; }  // before it: no pixel
  DAN_FAST_HD static int cells(const Problem<float>& p, int n) { return (n - 1 - p.start()) / S + 1 - first_cell(p); }
};

// The gradients of all row phases go through registers once for each column of a cell's neighbours, and serve the S
// column phases: S times the multiply-adds of correlate() for the same loads.
template <int S, int K>
__global__ void __launch_bounds__(Backward<S, K>::threads, 4)
    backward_tiled(const float* __restrict__ grad, const float* __restrict__ filters, float* __restrict__ grad_hr,
                   const __grid_constant__ Problem<float> p, int tiles_y, int tiles_x) {
  using B = Backward<S, K>;
  constexpr int M = B::M, P = kPerThread, pitch = phase_pitch(S, K);
  DAN_FAST_SHARED(float, filter);
  float* const tile = filter + B::filter;
  const Place place(blockIdx.x, tiles_y, tiles_x);
  const int height = p.out_height(), width = p.out_width(), cell_y = place.y + B::first_cell(p),
            cell_x = place.x + B::first_cell(p);
  const int64_t image = place.plane / p.channels;
  const float* plane = grad + place.plane * height * width;
  const float* inner_filter = filters + p.filter_at(image, kInner, kInner);
  for (int q = threadIdx.x; q < p.size() * S * pitch / 4; q += B::threads)
    reinterpret_cast<float4*>(filter)[q] = reinterpret_cast<const float4*>(inner_filter)[q];
  // The pixels with filters of their own count as zero here: backward_any adds them.
  for (int q = threadIdx.x; q < B::height * B::line; q += B::threads) {
    const int y = cell_y - (M - 1) + q / B::line, x = cell_x - (M - 1) + q % B::line;
    const bool inside = p.is_inner(y, height) && p.is_inner(x, width);
    tile[q] = inside ? plane[int64_t{y} * width + x] : 0;
  }
  __syncthreads();

  const int lane = threadIdx.x % kLanes, half = threadIdx.x / kLanes % 2, phase = threadIdx.x / kLanes / 2;
  float sums[S][P] = {};
  for (int n = 0; n * S < p.size(); ++n) {
    const float* column = tile + half * P * B::line + lane + M - 1 - n;
    float values[M + P - 1];
#pragma unroll
    for (int i = 0; i < M + P - 1; ++i) values[i] = column[i * B::line];
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int j = n * S + s;
      if (j >= p.size()) break;
      const float4* weights = reinterpret_cast<const float4*>(filter + (j * S + phase) * pitch);
      float4 four{};
#pragma unroll
      for (int m = 0; m < M; ++m) {
        if (m % 4 == 0) four = weights[m / 4];
        const float weight = m % 4 == 0 ? four.x : m % 4 == 1 ? four.y : m % 4 == 2 ? four.z : four.w;
#pragma unroll
        for (int i = 0; i < P; ++i) sums[s][i] += weight * values[M - 1 - m + i];
      }
    }
  }

  float* to = grad_hr + place.plane * p.height * p.width;
  const int top = (cell_y + half * P) * S + phase + p.start(), left = (cell_x + lane) * S + p.start();
#pragma unroll
  for (int i = 0; i < P; ++i)
#pragma unroll
    for (int s = 0; s < S; ++s) {
      const int u = top + i * S, v = left + s;
      if (u >= 0 && u < p.height && v >= 0 && v < p.width) to[int64_t{u} * p.width + v] = sums[s][i];
    }
}

DAN_FAST_HD int64_t blocks_for(int64_t n, int64_t size) { return (n + size - 1) / size; }

// launch: called as launch(gpu_kernel, blocks, threads, bytes of shared memory, arguments...).
template <int S, int K, typename Launch>
void launch_tiled(const Launch& launch, bool backward, const float* in, const float* filters, float* out,
                  const Problem<float>& p) {
  using B = Backward<S, K>;
  const int height = backward ? B::cells(p, p.height) : p.out_height();
  const int width = backward ? B::cells(p, p.width) : p.out_width();
  const int tiles_y = static_cast<int>(blocks_for(height, kTileRows));
  const int tiles_x = static_cast<int>(blocks_for(width, kLanes));
  const int64_t blocks = p.planes() * tiles_y * tiles_x;
  if (backward) launch(backward_tiled<S, K>, blocks, B::threads, B::shared, in, filters, out, p, tiles_y, tiles_x);
  else launch(forward_tiled<S, K>, blocks, kThreads, Forward<S, K>::shared, in, filters, out, p, tiles_y, tiles_x);
}

template <int S, typename Launch>
void launch_tiled(const Launch& launch, bool backward, const float* in, const float* filters, float* out,
                  const Problem<float>& p) {
  switch (size_class(p.k)) {
    case 11: return launch_tiled<S, 11>(launch, backward, in, filters, out, p);
    case 21: return launch_tiled<S, 21>(launch, backward, in, filters, out, p);
    default: return launch_tiled<S, 31>(launch, backward, in, filters, out, p);
  }
}

template <typename T, typename Launch>
void run_backward(const Launch& launch, const T* grad, const T* filters, T* grad_hr, const Problem<T>& p, bool all) {
  const int64_t pixels = p.planes() * to_gather(p, all).count();
  launch(backward_any<T>, blocks_for(pixels, kAnyThreads), kAnyThreads, 0, grad, filters, grad_hr, p, all);
}

template <typename T, typename Launch>
void run_any(const Launch& launch, bool backward, const T* in, const T* filters, T* out, const Problem<T>& p) {
  if (backward) return run_backward(launch, in, filters, out, p, true);
  const int64_t pixels = p.planes() * p.out_height() * p.out_width();
  launch(forward_any<T>, blocks_for(pixels, kAnyThreads), kAnyThreads, 0, in, filters, out, p);
}

template <int S, typename T, typename Launch>
void run(const Launch& launch, bool backward, const T* in, const T* kernels, T* filters, T* out, const Task<T>& task,
         bool tiled) {
  const Problem<T>& p = task.problem;
  launch(compose<T, S>, compose_blocks(p), kComposeThreads, compose_shared(p), kernels, filters, p, task.folded);
  if constexpr (sizeof(T) == sizeof(float)) {
    if (tiled && size_class(p.k) != 0) {
      launch_tiled<S>(launch, backward, in, filters, out, p);
      if (backward) run_backward(launch, in, filters, out, p, false);
      return;
    }
  }
  run_any(launch, backward, in, filters, out, p);
}

// Forward: from images to downsampled images. Backward: from gradients of downsampled images to gradients of images.
// filters: memory for problem.filters() numbers. tiled: false runs forward_any and backward_any only, for tests.
template <typename T, typename Launch>
void run(const Launch& launch, bool backward, const T* in, const T* kernels, T* filters, T* out, const Task<T>& task,
         bool tiled = true) {
  switch (task.problem.scale) {
    case 1: return run<1>(launch, backward, in, kernels, filters, out, task, tiled);
    case 2: return run<2>(launch, backward, in, kernels, filters, out, task, tiled);
    case 3: return run<3>(launch, backward, in, kernels, filters, out, task, tiled);
    default: return run<4>(launch, backward, in, kernels, filters, out, task, tiled);
  }
}

}  // namespace device
}  // namespace dan_fast::blur_downsample
