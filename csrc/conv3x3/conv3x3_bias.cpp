// dan_fast::conv3x3_bias_cpp, a convolution with its bias, and dan_fast::pack_conv3x3, which packs the weights of
// every operator that takes them packed.

#include <torch/csrc/stable/library.h>

#include "batch.h"
#include "checks.h"

namespace dan_fast::conv3x3 {
namespace {

// Weights (N, O, I, 3, 3) and biases (N, O), O and I multiples of 16, to (N, 36 O I + O).
Tensor pack_conv3x3_cpu(const Tensor& weight, const Tensor& bias) {
  STD_TORCH_CHECK(weight.dim() == 5, "weight has ", weight.dim(), " dimensions, expected (N, O, I, 3, 3)");
  const int64_t count = weight.size(0), out = weight.size(1), in = weight.size(2);
  STD_TORCH_CHECK(in % kPanel == 0 && out % kPanel == 0, in, " to ", out, " channels, expected multiples of 16");
  check("weight", weight, {count, out, in, 3, 3});
  check("bias", bias, {count, out});

  const int64_t weights = packed_conv3x3(in, out), panels = out / kPanel;
  const int64_t shape[] = {count, weights + out};
  Tensor packed = torch::stable::new_empty(weight, {shape, 2});
  in_parallel(count * panels, [&](int64_t i) {
    const int64_t n = i / panels, panel = i % panels;
    float* const to = mutable_data(packed) + n * (weights + out);
    pack_conv3x3({data(weight) + n * out * in * 9, in * 9, 9, 3, 1}, static_cast<int>(in),
                 static_cast<int>(panel * kPanel), to);
    if (panel == 0) std::copy_n(data(bias) + n * out, out, to + weights);
  });
  return packed;
}

// x (B, H, W, I), packed (1, ...) -> (B, H, W, O).
Tensor conv3x3_bias_cpu(const Tensor& x, const Tensor& packed, int64_t out_channels) {
  check_image("x", x);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  STD_TORCH_CHECK(out_channels % kPanel == 0, out_channels, " output channels, expected a multiple of 16");
  check_packed(packed, 1, channels, out_channels);

  const int64_t shape[] = {batch, height, width, out_channels};
  Tensor out = torch::stable::new_empty(x, {shape, 4});
  if (out.numel() == 0) return out;
  ImageRows in_images(x), out_images(out);
  convolve_batch(batch, [&](int64_t n) {
    return Conv3x3{static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels),
                   static_cast<int>(out_channels), in_images.of(n), out_images.of(n), data(packed),
                   data(packed) + packed_conv3x3(channels, out_channels)};
  });
  return out;
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("pack_conv3x3(Tensor weight, Tensor bias) -> Tensor");
  m.def("conv3x3_bias_cpp(Tensor x, Tensor packed, int out_channels) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("pack_conv3x3", TORCH_BOX(&dan_fast::conv3x3::pack_conv3x3_cpu));
  m.impl("conv3x3_bias_cpp", TORCH_BOX(&dan_fast::conv3x3::conv3x3_bias_cpu));
}
