// The checks of blur_downsample's arguments, which its CPU and its CUDA implementation share.
#pragma once

#include <cstdint>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "taps.h"

namespace dan_fast::blur_downsample {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check_blur_downsample(const Tensor& hr, const Tensor& kernel, int64_t scale) {
  STD_TORCH_CHECK(hr.dim() == 4, "blur_downsample: hr has ", hr.dim(), " dimensions, expected (B, C, H, W)");
  STD_TORCH_CHECK(kernel.dim() == 3 && kernel.size(1) == kernel.size(2) && kernel.size(1) > 0,
                  "blur_downsample: expected a kernel of shape (B, k, k)");
  STD_TORCH_CHECK(kernel.size(0) == hr.size(0), "blur_downsample: ", kernel.size(0), " kernels for ", hr.size(0),
                  " images, expected one for each");
  STD_TORCH_CHECK(hr.scalar_type() == kernel.scalar_type(), "blur_downsample: hr and kernel differ in dtype");
  STD_TORCH_CHECK(1 <= scale && scale <= kMaxScale, "blur_downsample: scale is ", scale, ", expected 1 to ", kMaxScale);
  const int64_t height = hr.size(2), width = hr.size(3), border = kernel.size(1) / 2;
  STD_TORCH_CHECK(height % scale == 0 && width % scale == 0, "blur_downsample: hr is ", height, "x", width,
                  ", expected multiples of the scale ", scale);
  STD_TORCH_CHECK(border < height && border < width, "blur_downsample: hr is ", height, "x", width,
                  ", expected more than ", border, " pixels a side for this kernel");
  // Pixel positions are ints, with room for the border.
  STD_TORCH_CHECK(height < (1 << 29) && width < (1 << 29), "blur_downsample: hr is ", height, "x", width,
                  ", too large");
}

// Checks, then calls run<T>(hr, kernel, scale, out) with contiguous tensors of float or double;
// 16-bit images are computed in float.
template <typename Run>
Tensor with_checked(const Tensor& hr, const Tensor& kernel, int64_t scale, Run run) {
  check_blur_downsample(hr, kernel, scale);
  const ScalarType dtype = hr.scalar_type();
  const bool is16 = dtype == ScalarType::Half || dtype == ScalarType::BFloat16;
  STD_TORCH_CHECK(is16 || dtype == ScalarType::Float || dtype == ScalarType::Double,
                  "blur_downsample: expected float16, bfloat16, float32 or float64");
  const ScalarType compute = is16 ? ScalarType::Float : dtype;
  const Tensor images = torch::stable::contiguous(torch::stable::to(hr, compute));
  const Tensor kernels = torch::stable::contiguous(torch::stable::to(kernel, compute));
  const int64_t shape[] = {hr.size(0), hr.size(1), hr.size(2) / scale, hr.size(3) / scale};
  Tensor out = torch::stable::new_empty(images, {shape, 4});
  if (out.numel() > 0) {
    if (compute == ScalarType::Float) run(float{}, images, kernels, static_cast<int>(scale), out);
    else run(double{}, images, kernels, static_cast<int>(scale), out);
  }
  return is16 ? torch::stable::to(out, dtype) : out;
}

}  // namespace dan_fast::blur_downsample
