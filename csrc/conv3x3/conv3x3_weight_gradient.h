// The gradient of a 3x3 convolution's weights, in the same tiles as the convolution: at each position of a tile the
// gradients are multiplied with the inputs, the products are summed over the tiles, and the sums transformed to nine
// taps.
#pragma once

#include <cstdint>

#include "conv3x3.h"

namespace dan_fast::conv3x3 {

// Numbers of channels are multiples of 16.
struct WeightGradient {
  int height;
  int width;
  int in_channels;
  int out_channels;
  // One table of rows per image, as in Conv3x3: the convolution's input, and the gradient of its output.
  const float* const* const* in;
  const float* const* const* grad;
};

// Sums over the tiles begin <= n < end, numbered row after row and image after image, into taps (out, 3, 3, in).
// workspace: weight_gradient_workspace() floats that no other thread uses.
using WeightGradientPath = void (*)(const WeightGradient& sum, int64_t begin, int64_t end, float* taps,
                                    float* workspace);
int64_t weight_gradient_workspace(int in_channels, int out_channels);

// The code for the widest vectors that this machine has.
WeightGradientPath weight_gradient_path();

}  // namespace dan_fast::conv3x3
