// The arithmetic of blocks and their gradients pixel by pixel, and the sums over pixels that gradients need: added in
// parts that do not depend on the number of threads. Images are (B, H, W, C).
#pragma once

#include <cstdint>
#include <vector>

#include "../common/tensors.h"

namespace dan_fast::pointwise {

// out = x + (f1 + bias) * modulation, modulation (B, C).
Tensor modulated(const Tensor& x, const Tensor& f1, const Tensor& modulation, const Tensor& bias);

struct ModulateGradients {
  Tensor f1, modulation, bias;
};
ModulateGradients modulate_gradients(const Tensor& grad, const Tensor& f1, const Tensor& modulation,
                                     const Tensor& bias);

// The same with modulation (B, H, W, C).
ModulateGradients modulate_by_pixel_gradients(const Tensor& grad, const Tensor& f1, const Tensor& modulation,
                                              const Tensor& bias);

struct ActivateGradients {
  Tensor in, bias;
};
// in: the gradient of a leaky ReLU's input, from that of its output `out`; bias: the sum of `in` over all pixels, (C).
ActivateGradients activate_gradients(const Tensor& grad, const Tensor& out, double slope);

// The sum over all pixels, (C).
Tensor pixel_sum(const Tensor& grad);

}  // namespace dan_fast::pointwise
