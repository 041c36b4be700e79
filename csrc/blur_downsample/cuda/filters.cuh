// Blur and downsampling folded into one filter per image: the geometry, and the GPU kernel that builds the filters.
//
// No torch here and nothing that only nvcc knows: tests/csrc/cuda_on_host.h compiles this for the CPU as well.
//
// A downsampled pixel is a sum of `taps.count` x `taps.count` blurred pixels, each a sum of k x k pixels of the
// image with its reflected border: one filter of size() x size() taps on that image, moved by `scale` from pixel to
// pixel. Where the downsampling reaches over the border, it takes mirrored blurred pixels: only its weights on the
// blurred pixels inside change, so such pixels have filters of their own on the same place. That concerns two
// pixels at either end of an axis: five classes of rows, five of columns, 25 filters per image.
#pragma once

#include <cstdint>

#include "../borders.h"

#ifdef __CUDACC__
#define DAN_FAST_HD __host__ __device__ __forceinline__
// The dynamic shared memory of the block.
#define DAN_FAST_SHARED(T, name)                 \
  extern __shared__ float4 dan_fast_shared[];    \
  T* const name = reinterpret_cast<T*>(dan_fast_shared)
#endif

namespace dan_fast::blur_downsample {
namespace device {

constexpr int kClasses = 5;
constexpr int kMaxTaps = 16;
constexpr int kInner = 2;   // the class of all pixels which are not at a border
constexpr int kBorder = 2;  // pixels at either border of an axis; none at scale 1, where nothing is mirrored

// Taps of the antialiased bicubic filter that are not zero.
constexpr DAN_FAST_HD int tap_count(int scale) { return scale == 1 ? 1 : scale == 3 ? 11 : 4 * scale; }

// Storage of a filter for kernels of at most k: its rows i, i + scale, ... (one phase) are neighbours, with room
// behind them to a multiple of 4 for loads of 16 bytes.
constexpr DAN_FAST_HD int taps_per_phase(int scale, int k) { return (k + tap_count(scale) - 1 + scale - 1) / scale; }
constexpr DAN_FAST_HD int phase_pitch(int scale, int k) { return (taps_per_phase(scale, k) + 3) / 4 * 4; }

// Blur kernels are filled up with zeros to one of these sizes, each of which has a compiled GPU kernel. 0: as they are.
constexpr DAN_FAST_HD int size_class(int k) { return k <= 11 ? 11 : k <= 21 ? 21 : k <= 31 ? 31 : 0; }

// The class of downsampled row (or column) y of n, and a row of a class. With fewer than five rows, each is a class of
// its own; the empty classes equal the last row: their values do not matter, but they may be multiplied by zero.
DAN_FAST_HD int class_of(int y, int n) {
  return y <= kInner || n < kClasses ? y : y < n - kBorder ? kInner : y - n + kClasses;
}
DAN_FAST_HD int member_of(int cls, int n) {
  return n < kClasses ? min(cls, n - 1) : cls <= kInner ? cls : cls + n - kClasses;
}

// The arguments of all GPU kernels. The high-resolution images are (images, channels, height, width).
template <typename T>
struct Problem {
  int64_t images;
  int channels, height, width, k, scale;
  int first;  // downsampled pixel y has taps on blurred pixels y * scale + first, ...

  DAN_FAST_HD int out_height() const { return height / scale; }
  DAN_FAST_HD int out_width() const { return width / scale; }
  DAN_FAST_HD int64_t planes() const { return images * channels; }
  DAN_FAST_HD int border() const { return scale == 1 ? 0 : kBorder; }
  DAN_FAST_HD bool is_inner(int y, int n) const { return y >= border() && y < n - border(); }
  // The folded filter: its side, and where it starts, before y * scale.
  DAN_FAST_HD int size() const { return k + tap_count(scale) - 1; }
  DAN_FAST_HD int start() const { return first - k / 2; }
  // Storage: tap (i, j) of filter (image, row class, column class).
  DAN_FAST_HD int stored_k() const { return size_class(k) ? size_class(k) : k; }
  DAN_FAST_HD int rows() const { return scale * taps_per_phase(scale, stored_k()); }  // those from size() on are zero
  DAN_FAST_HD int pitch() const { return phase_pitch(scale, stored_k()); }
  DAN_FAST_HD int64_t filter_size() const { return int64_t{size()} * scale * pitch(); }
  DAN_FAST_HD int64_t filter_at(int64_t image, int row_class, int column_class) const {
    return ((image * kClasses + row_class) * kClasses + column_class) * filter_size();
  }
  DAN_FAST_HD int64_t tap_at(int i, int j) const { return int64_t{j * scale + i % scale} * pitch() + i / scale; }
  int64_t filters() const { return images * kClasses * kClasses * filter_size(); }
};

// The taps of the downsampling for every class: the weight that a downsampled row (column) of the class gives to
// blurred rows (columns) y * scale + first + t, with what it gives to their mirror images.
template <typename T>
struct Folded {
  T rows[kClasses][kMaxTaps], columns[kClasses][kMaxTaps];
};

template <typename T>
void fold(T (&folded)[kClasses][kMaxTaps], const T* taps, int scale, int first, int n) {
  for (int c = 0; c < kClasses; ++c) {
    const int from = member_of(c, n / scale) * scale + first;
    for (int t = 0; t < kMaxTaps; ++t) folded[c][t] = 0;
    for (int u = 0; u < tap_count(scale); ++u) folded[c][mirrored(from + u, n) - from] += taps[u];
  }
}

// The problem and its taps, from `count` taps that start at `first`: those that are zero at the ends are dropped.
template <typename T>
struct Task {
  Problem<T> problem;
  Folded<T> folded;
  Task(int64_t images, int channels, int height, int width, int k, int scale, int first, int count, const T* taps) {
    const int zeros = (count - tap_count(scale)) / 2;  // before the others; scale 3 has one more behind them
    problem = {images, channels, height, width, k, scale, first + zeros};
    fold(folded.rows, taps + zeros, scale, problem.first, height);
    fold(folded.columns, taps + zeros, scale, problem.first, width);
  }
};

constexpr int kComposeThreads = 256, kComposeRows = 8;

template <typename T>
int64_t compose_blocks(const Problem<T>& p) {
  return p.images * kClasses * ((p.rows() + kComposeRows - 1) / kComposeRows);
}
template <typename T>
int compose_shared(const Problem<T>& p) {
  return static_cast<int>(sizeof(T)) * (kMaxTaps * (kClasses + 1) + kComposeRows * (p.k + 2 * tap_count(p.scale) - 2));
}

// Builds some rows of the filters of an image and a row class: composes blur and downsampling along y, then along x.
template <typename T, int S>
__global__ void __launch_bounds__(kComposeThreads)
    compose(const T* __restrict__ kernels, T* __restrict__ filters, const __grid_constant__ Problem<T> p,
            const __grid_constant__ Folded<T> folded) {
  constexpr int count = tap_count(S), margin = count - 1;
  DAN_FAST_SHARED(T, taps);  // those along y, then those along x for every class
  T* const lines = taps + kMaxTaps * (kClasses + 1);  // with zeros on both sides
  const int width = p.k + 2 * margin, rows = p.rows();
  const int chunks = (rows + kComposeRows - 1) / kComposeRows;
  const int top = blockIdx.x % chunks * kComposeRows, row_class = blockIdx.x / chunks % kClasses;
  const int64_t image = blockIdx.x / chunks / kClasses;
  for (int q = threadIdx.x; q < kMaxTaps * (kClasses + 1); q += kComposeThreads)
    taps[q] = q < kMaxTaps ? folded.rows[row_class][q] : folded.columns[q / kMaxTaps - 1][q % kMaxTaps];
  __syncthreads();

  const T* kernel = kernels + image * p.k * p.k;
  for (int q = threadIdx.x; q < kComposeRows * width; q += kComposeThreads) {
    const int i = top + q / width, b = q % width - margin;
    T sum = 0;
    if (b >= 0 && b < p.k)
      for (int t = max(0, i - p.k + 1); t <= min(i, margin); ++t) sum += taps[t] * kernel[(i - t) * p.k + b];
    lines[q] = sum;
  }
  __syncthreads();

  // p.filter_at() and p.tap_at(), with what is constant in the loop moved before it.
  const unsigned size = p.size(), pitch = p.pitch(), filter_size = size * S * pitch;
  T* const to = filters + p.filter_at(image, row_class, 0);
  for (unsigned q = threadIdx.x; q < kClasses * kComposeRows * size; q += kComposeThreads) {
    const unsigned j = q % size, r = q / size % kComposeRows, column_class = q / size / kComposeRows, i = top + r;
    if (i >= static_cast<unsigned>(rows)) continue;
    const T* along_x = taps + kMaxTaps * (column_class + 1);
    const T* line = lines + r * width + j + margin;
    T sum = 0;
#pragma unroll
    for (int t = 0; t < count; ++t) sum += along_x[t] * line[-t];
    to[column_class * filter_size + (j * S + i % S) * pitch + i / S] = sum;
  }
}

}  // namespace device
}  // namespace dan_fast::blur_downsample
