// A 3x3 convolution with zero padding, in tiles of 4 x 4 pixels, and the arithmetic that follows it in a network, done
// while the sums are in registers. Images lie as (row, column, channel). Numbers of channels are multiples of 16;
// callers fill up with zeros.
#pragma once

#include <cstdint>

namespace dan_fast::conv3x3 {

// What becomes of v = sum + bias.
enum class Finish {
  kStore,            // out = v
  kActivate,         // out = leaky ReLU of v
  kModulate,         // out = residual_factor * (residual + modulation * v) + group_input; modulation: per channel
  kModulateByPixel,  // the same with modulation_image instead of modulation
  kAdd,              // addend = v, out = residual + v
  kActivateGradient  // out = v where `activated`, the leaky ReLU's output, is positive, else slope * v
};

// One convolution of one image. Images are tables of rows; a pixel takes one float per channel.
struct Conv3x3 {
  int height;
  int width;
  int in_channels;
  int out_channels;  // the channels of every image but `in`
  // Rows from number -1 to the first multiple of 4 not below `height`; those outside the image are zero.
  const float* const* in;
  float* const* out;     // the rows inside the image, as in all that follow
  const float* weights;  // as pack_conv3x3() writes them
  // One per channel. With a bias_step there are nine such rows, bias_step floats apart: that of a pixel is number
  // 3 * place(row) + place(column), where place is 0 for the first row or column, 2 for the last, else 1. A first one
  // that is also the last has place 0.
  const float* bias;
  int64_t bias_step = 0;
  Finish finish = Finish::kStore;
  const float* modulation = nullptr;
  const float* const* modulation_image = nullptr;
  const float* const* activated = nullptr;
  const float* const* residual = nullptr;     // null: out
  float residual_factor = 1;
  const float* const* group_input = nullptr;  // null: zero
  float slope = 0.2f;
  float* const* addend = nullptr;             // null: not stored
  float* const* f1 = nullptr;                 // the sum without the bias, where v is modulated; null: not stored
};

inline int64_t tiles_along(int64_t pixels) { return (pixels + 3) / 4; }

// Computes the tiles begin <= n < end, numbered row after row; `workspace`: conv3x3_workspace() floats that no other
// thread uses. Results do not depend on begin and end.
using Conv3x3Path = void (*)(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace);
int64_t conv3x3_workspace(int in_channels);

// Channels are processed in panels of kPanel, at most kMostChannels input channels; output channels are unlimited.
constexpr int kPanel = 16;
constexpr int kMostChannels = 80;
inline int64_t in_panels(int64_t channels) { return (channels + kPanel - 1) / kPanel * kPanel; }

// The code for the widest vectors that this machine has; null if none is compiled for `in_channels`.
Conv3x3Path conv3x3_path(int64_t in_channels);

// The weights of a convolution, wherever they lie: that of output o, input i, row v and column u is
// data[o * out + i * in + v * row + u * column].
struct WeightView {
  const float* data;
  int64_t out, in, row, column;

  // The weights of the convolution that turns the gradient of the output into that of the input.
  WeightView transposed() const { return {data + 2 * row + 2 * column, in, out, -row, -column}; }
};

// Transforms the weights of the output channels `begin` to `begin` + kPanel, and writes them in the order in which the
// convolution reads them. A whole convolution takes packed_conv3x3() floats.
void pack_conv3x3(const WeightView& weights, int in_channels, int begin, float* packed);
inline int64_t packed_conv3x3(int64_t in_channels, int64_t out_channels) { return 36 * in_channels * out_channels; }

}  // namespace dan_fast::conv3x3
