// Transforms tiles of an image to the points of Winograd's algorithm. Images are tables of rows, with zeros above and
// below the image.
#pragma once

#include <cstdint>

#include "../common/vectors.h"
#include "winograd.h"

namespace dan_fast::conv3x3 {

constexpr int kLine = 16;           // floats of a cache line
// Floats between the positions of a tile: without them their addresses would share cache sets.
constexpr int64_t kCacheSetPadding = kLine;

// Transforms the 6 x 6 inputs from column x on to the 36 positions of a tile, which lie `pitch` floats apart.
template <typename Vector>
DAN_FAST_INLINE void transform_inputs(const float* const* rows, int64_t x, int64_t width, int channels, float* to,
                                      int64_t pitch) {
  using winograd::kIn;
  using winograd::kOut;
  for (int c = 0; c < channels; c += sizeof(Vector) / sizeof(float)) {
    Vector down[kIn][kIn];  // [row][column]
    repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA {
      Vector column[kIn] = {}, values[kIn];
      if (j >= kIn - kOut && c % kLine == 0)  // what only the next tile reads
        repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { DAN_FAST_PREFETCH(rows[i] + (x + j + kOut) * channels + c); });
      if (x + j >= 0 && x + j < width)
        repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { load(column[i], rows[i] + (x + j) * channels + c); });
      winograd::input(column, values);
      repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { down[i][j] = values[i]; });
    });
    repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA {
      Vector values[kIn];
      winograd::input(down[i], values);
      repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA { store(to + (i * kIn + j) * pitch + c, values[j]); });
    });
  }
}

// The same for 4 x 4 gradients of outputs.
template <typename Vector>
DAN_FAST_INLINE void transform_gradients(const float* const* rows, int64_t x, int64_t width, int channels, float* to,
                                         int64_t pitch) {
  using winograd::kIn;
  using winograd::kOut;
  for (int c = 0; c < channels; c += sizeof(Vector) / sizeof(float)) {
    Vector down[kIn][kOut];
    repeat<kOut>([&](auto j) DAN_FAST_INLINE_LAMBDA {
      Vector column[kOut] = {}, values[kIn];
      if (x + j < width)
        repeat<kOut>([&](auto i) DAN_FAST_INLINE_LAMBDA { load(column[i], rows[i] + (x + j) * channels + c); });
      winograd::output_gradient(column, values);
      repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { down[i][j] = values[i]; });
    });
    repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA {
      Vector values[kIn];
      winograd::output_gradient(down[i], values);
      repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA { store(to + (i * kIn + j) * pitch + c, values[j]); });
    });
  }
}

}  // namespace dan_fast::conv3x3
