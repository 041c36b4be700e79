// A 3x3 convolution with zero padding, in tiles of 4 x 4 pixels, and what a network does after it while the sums are in
// registers. Pixels lie as (row, column, channel); numbers of channels are multiples of 16, others filled up with zeros.
#pragma once

#include <cstdint>

namespace dan_fast::conv3x3 {

enum class Finish {  // with v = sum + bias
  kStore,            // out = v
  kActivate,         // out = leaky ReLU of v
  kScaleAndAdd,      // out = factor * (onto + scale * v) + entry, a scale for each channel
  kMultiplyAndAdd,   // out = factor * (onto + by * v) + entry, `by` an image
  kAdd,              // kept = v, out = onto + v
  kActivateGradient  // out = v where the leaky ReLU's output `by` is positive, else slope * v
};

// Images are tables of rows, in which a pixel takes as many floats as it has channels.
struct Conv3x3 {
  int height;
  int width;
  int in_channels;
  int out_channels;  // of every image but `in`
  // Rows from number -1 to the first multiple of 4 not below `height`; those outside the image are zero.
  const float* const* in;
  float* const* out;     // rows inside, of this and all others
  const float* weights;  // of pack_conv3x3()
  // Of each channel. With a step they differ at the image's border: at 3 * (0 in the first row, 2 in the last, else 1)
  // + (the same of the column) steps. The first comes first where it is also the last.
  const float* bias;
  int64_t bias_step = 0;
  Finish finish = Finish::kStore;
  const float* scale = nullptr;
  const float* const* by = nullptr;
  float factor = 1;
  float slope = 0.2f;
  const float* const* onto = nullptr;   // null: out
  const float* const* entry = nullptr;  // null: zero
  float* const* kept = nullptr;         // null: nobody wants it
  float* const* bare = nullptr;         // the sum without the bias, where v is scaled or multiplied; null: the same
};

inline int64_t tiles_along(int64_t pixels) { return (pixels + 3) / 4; }

// The tiles begin <= n < end, numbered row after row, in conv3x3_workspace() floats of memory that one thread has.
// Results do not depend on begin and end.
using Conv3x3Path = void (*)(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace);
int64_t conv3x3_workspace(int in_channels);

// Channels are taken in panels of so many, up to so many that come in; any number of them goes out.
constexpr int kPanel = 16;
constexpr int kMostChannels = 80;
inline int64_t in_panels(int64_t channels) { return (channels + kPanel - 1) / kPanel * kPanel; }

// For the widest vectors that this machine has; null if there is no code for so many channels.
Conv3x3Path conv3x3_path(int64_t in_channels);

// Where the taps of a convolution lie: that of output o, input i, row v and column u is data[o * out + i * in + v * row +
// u * column].
struct Taps {
  const float* data;
  int64_t out, in, row, column;

  // Of the convolution that takes the gradient of the output to that of the input.
  Taps transposed() const { return {data + 2 * row + 2 * column, in, out, -row, -column}; }
};

// To the order in which they are read, 36 * out * in floats: output channels `begin` to `begin` + 16 of them.
void pack_conv3x3(const Taps& taps, int in_channels, int begin, float* packed);
inline int64_t packed_conv3x3(int64_t in_channels, int64_t out_channels) { return 36 * in_channels * out_channels; }

}  // namespace dan_fast::conv3x3
