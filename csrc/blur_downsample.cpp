// dan_fast::blur_downsample: every image correlated with its own kernel (reflected border), then shrunk
// by an antialiased bicubic filter (mirrored border). This file: the schema and the CPU implementation.

#include "blur_downsample.h"

#include <algorithm>
#include <vector>

#include <torch/csrc/stable/library.h>

// One build for every x86-64 machine: the loader picks the widest vectors that the machine has.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define DAN_FAST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
#endif
#ifndef DAN_FAST_CLONES
#define DAN_FAST_CLONES
#endif

#if defined(__GNUC__)
#define DAN_FAST_INLINE inline __attribute__((always_inline))
// GCC would unroll the loop over the taps around the loop over x, and then not vectorise either
// (six times slower): this it does not unroll.
#define DAN_FAST_KEEP_LOOP(pointer) __asm__ volatile("" : "+r"(pointer))
#else
#define DAN_FAST_INLINE inline
#define DAN_FAST_KEEP_LOOP(pointer)
#endif

namespace dan_fast {
namespace {

// out[x] = sum over t of weights[t] * in[offsets[t] + x], for `width` values of x. Unless the rows are
// short, the compiler knows `width`, and keeps the sums in vector registers.
template <typename T>
DAN_FAST_INLINE void weighted_sum_block(const T* in, const int64_t* offsets, const T* weights, int64_t count, T* out,
                                        int64_t width) {
  T sums[256 / sizeof(T)] = {};
  for (int64_t t = 0; t < count; ++t) {
    const T weight = weights[t];
    const T* row = in + offsets[t];
    DAN_FAST_KEEP_LOOP(row);
    for (int64_t x = 0; x < width; ++x) sums[x] += weight * row[x];
  }
  std::copy_n(sums, width, out);
}

template <typename T>
DAN_FAST_INLINE void weighted_sum_any(const T* in, const int64_t* offsets, const T* weights, int64_t count, T* out,
                                      int64_t width) {
  constexpr int64_t block = 256 / sizeof(T);
  if (width < block) return weighted_sum_block(in, offsets, weights, count, out, width);
  for (int64_t x = 0; x < width; x += block) {
    const int64_t start = std::min(x, width - block);  // the last block overlaps the one before
    weighted_sum_block(in + start, offsets, weights, count, out + start, block);
  }
}

// Templates cannot be cloned, hence one function a type.
DAN_FAST_CLONES void weighted_sum(const float* in, const int64_t* offsets, const float* weights, int64_t count,
                                  float* out, int64_t width) {
  weighted_sum_any(in, offsets, weights, count, out, width);
}
DAN_FAST_CLONES void weighted_sum(const double* in, const int64_t* offsets, const double* weights, int64_t count,
                                  double* out, int64_t width) {
  weighted_sum_any(in, offsets, weights, count, out, width);
}

// Rows for one thread at least, so that starting it pays.
int64_t grain(int64_t multiply_adds_a_row) { return std::max<int64_t>(1, 65536 / multiply_adds_a_row); }

// images (B, C, H, W), kernels (B, k, k), contiguous -> (B, C, H, W).
template <typename T>
Tensor blur(const Tensor& images, const Tensor& kernels) {
  const int64_t channels = images.size(1), height = images.size(2), width = images.size(3), k = kernels.size(1);
  const int64_t before = k / 2, after = (k - 1) / 2;
  const int64_t borders[] = {before, after, before, after};
  const Tensor padded = torch::stable::contiguous(torch::stable::pad(images, {borders, 4}, "reflect"));
  const int64_t pitch = width + k - 1, padded_height = height + k - 1;
  std::vector<int64_t> offsets;
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j) offsets.push_back(i * pitch + j);

  Tensor out = torch::stable::new_empty(images, images.sizes());
  const T* in = static_cast<const T*>(padded.const_data_ptr());
  const T* weights = static_cast<const T*>(kernels.const_data_ptr());
  T* to = static_cast<T*>(out.mutable_data_ptr());
  torch::stable::parallel_for(0, images.size(0) * channels * height, grain(k * k * width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t plane = row / height, y = row % height;
      weighted_sum(in + (plane * padded_height + y) * pitch, offsets.data(), weights + plane / channels * k * k, k * k,
                   to + row * width, width);
    }
  });
  return out;
}

// blurred (B, C, H, W) -> out (B, C, H / scale, W / scale), both contiguous.
template <typename T>
void downsample(const Tensor& blurred, int scale, Tensor& out) {
  const int height = blurred.size(2), width = blurred.size(3), out_height = height / scale, out_width = width / scale;
  const Taps<T> taps = downsample_taps<T>(scale);
  const T* in = static_cast<const T*>(blurred.const_data_ptr());
  T* to = static_cast<T*>(out.mutable_data_ptr());
  const int64_t rows = out.size(0) * out.size(1) * out_height;
  torch::stable::parallel_for(0, rows, grain(int64_t{taps.count} * width), [&](int64_t begin, int64_t end) {
    // One row shrunk vertically, with a mirrored border that reaches as far as the taps do.
    const int left = -taps.first, border_width = width - scale + taps.count;
    std::vector<T> shrunk(std::max(border_width, left + width));
    std::vector<int64_t> offsets(taps.count);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t plane = row / out_height;
      const int first = static_cast<int>(row % out_height) * scale + taps.first;
      for (int t = 0; t < taps.count; ++t) offsets[t] = int64_t{mirrored(first + t, height)} * width;
      T* line = shrunk.data() + left;
      weighted_sum(in + plane * height * width, offsets.data(), taps.weights, taps.count, line, width);
      for (int x = 1; x <= left; ++x) line[-x] = line[mirrored(-x, width)];
      for (int x = width; x < border_width - left; ++x) line[x] = line[mirrored(x, width)];
      for (int j = 0; j < out_width; ++j) {
        T sum = 0;
        for (int t = 0; t < taps.count; ++t) sum += taps.weights[t] * shrunk[j * scale + t];
        to[row * out_width + j] = sum;
      }
    }
  });
}

Tensor blur_downsample_cpu(const Tensor& hr, const Tensor& kernel, int64_t scale) {
  STD_TORCH_CHECK(hr.is_cpu() && kernel.is_cpu(), "blur_downsample: expected hr and kernel on the CPU");
  return with_checked(hr, kernel, scale, [](auto zero, const Tensor& images, const Tensor& kernels, int s, Tensor& out) {
    using T = decltype(zero);
    downsample<T>(blur<T>(images, kernels), s, out);
  });
}

}  // namespace
}  // namespace dan_fast

STABLE_TORCH_LIBRARY(dan_fast, m) {
  m.def("blur_downsample(Tensor hr, Tensor kernel, int scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("blur_downsample", TORCH_BOX(&dan_fast::blur_downsample_cpu));
}
