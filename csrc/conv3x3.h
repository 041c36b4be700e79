// A 3x3 convolution of C to C channels with zero padding, in tiles of 4 x 4 pixels, and what a dual-path block does
// after it. Pixels lie as (row, column, channel).
#pragma once

#include <cstdint>

namespace dan_fast {

struct Conv3x3 {
  int height;
  int width;
  // Rows of the image, from number -1 to the first multiple of 4 not below `height`; those outside the image are zero.
  const float* const* in;
  float* const* out;     // rows inside
  const float* weights;  // of pack_conv3x3()
  const float* bias;     // of each channel
  // Of each channel: out = factor * (out + scale * (sum + bias)) + entry. Null: out = leaky ReLU (0.2) of sum + bias.
  const float* scale;
  float factor;
  const float* const* entry;  // rows; null: zero
};

inline int64_t tiles_along(int64_t pixels) { return (pixels + 3) / 4; }

// The memory that one thread computes in, for a number of tiles at once that keeps it in the second cache.
struct Workspace {
  int64_t tiles;
  int64_t transformed;  // floats of the inputs, which are at the front
  int64_t floats;       // in all
};
Workspace conv3x3_workspace(int channels);

// The tiles begin <= n < end, numbered row after row. Results do not depend on begin and end.
using Conv3x3Path = void (*)(const Conv3x3& conv, int64_t begin, int64_t end, const Workspace& size, float* workspace);

// For the widest vectors that this machine has; null if there is no code for so many channels: there is for 16, 32, 64.
Conv3x3Path conv3x3_path(int channels);

// weights (C, C, 3, 3) [out, in] to the order in which they are read, 36 * C * C floats: output channels `begin` to
// `begin` + 16 of them.
constexpr int kPanel = 16;
void pack_conv3x3(const float* weights, int channels, int begin, float* packed);
inline int64_t packed_conv3x3(int64_t channels) { return 36 * channels * channels; }

}  // namespace dan_fast
