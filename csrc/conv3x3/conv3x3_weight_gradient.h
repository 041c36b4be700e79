// The gradient of a 3x3 convolution's weights, in the same tiles as the convolution: for each position in a tile the
// product of its gradients with its inputs, summed over the tiles and taken back to nine taps at the end.
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
  // For each image of a batch its table of rows, as in Conv3x3: the convolution's input, the gradient of its output.
  const float* const* const* in;
  const float* const* const* grad;
};

// The tiles begin <= n < end, numbered row after row and image after image, to taps (out, 3, 3, in); in
// weight_gradient_workspace() floats of memory that one thread has.
using WeightGradientPath = void (*)(const WeightGradient& sum, int64_t begin, int64_t end, float* taps,
                                    float* workspace);
int64_t weight_gradient_workspace(int in_channels, int out_channels);

// For the widest vectors that this machine has.
WeightGradientPath weight_gradient_path();

}  // namespace dan_fast::conv3x3
