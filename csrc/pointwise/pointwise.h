// What gradients of the blocks do pixel by pixel, with the sums over pixels that they need. Images are (B, H, W, C).
#pragma once

#include <cstdint>
#include <vector>

#include "../common/tensors.h"

namespace dan_fast::pointwise {

// The first is what comes of the image; sums are over the pixels of each image, or of all. They are added in parts that
// do not depend on the number of threads.

// out = x + (f1 + bias) * f2, f2 (B, C).
Tensor modulated(const Tensor& x, const Tensor& f1, const Tensor& f2, const Tensor& bias);

struct ModulateGradients {
  Tensor f1, f2, bias;
};
ModulateGradients modulate_gradients(const Tensor& grad, const Tensor& f1, const Tensor& f2, const Tensor& bias);

// The same with f2 (B, H, W, C).
ModulateGradients multiply_gradients(const Tensor& grad, const Tensor& f1, const Tensor& f2, const Tensor& bias);

// Of the input of a leaky ReLU with output `out`, and their sum (C).
struct ActivateGradients {
  Tensor in, bias;
};
ActivateGradients activate_gradients(const Tensor& grad, const Tensor& out, double slope);

// (C).
Tensor pixel_sum(const Tensor& grad);

}  // namespace dan_fast::pointwise
