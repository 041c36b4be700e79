// dan_fast::modulate_cpp, x + (f1 + bias) * f2, and dan_fast::modulate_backward_cpp.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "compiler.h"
#include "tensors.h"

namespace dan_fast {
namespace {

DAN_FAST_CLONES void modulate(const float* x, const float* f1, const float* f2, const float* bias, int64_t pixels,
                              int64_t channels, float* __restrict out) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c)
      out[n * channels + c] = x[n * channels + c] + (f1[n * channels + c] + bias[c]) * f2[c];
}

// The gradient of f1; onto `sums` those of the pixels: grad, then grad * f1.
DAN_FAST_CLONES void modulate_backward(const float* grad, const float* f1, const float* f2, int64_t pixels,
                                       int64_t channels, float* __restrict grad_f1, float* __restrict sums) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c) {
      const float g = grad[n * channels + c];
      grad_f1[n * channels + c] = g * f2[c];
      sums[c] += g;
      sums[channels + c] += g * f1[n * channels + c];
    }
}

struct Sizes {
  int64_t batch, pixels, channels;
};

// x (B, H, W, C), f2 (B, C), bias (C).
Sizes sizes_of(const Tensor& x, const Tensor& f1, const Tensor& f2, const Tensor& bias) {
  STD_TORCH_CHECK(x.dim() == 4, "expected an image (B, H, W, C)");
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  check("x or grad", x, {batch, height, width, channels});
  check("f1", f1, {batch, height, width, channels});
  check("f2", f2, {batch, channels});
  check("bias", bias, {channels});
  return {batch, height * width, channels};
}

constexpr int64_t kPixelsAPart = 64;  // whose sums are added in float; those of the parts in double, in their order

Tensor modulate_cpu(const Tensor& x, const Tensor& f1, const Tensor& f2, const Tensor& bias) {
  const auto [batch, pixels, channels] = sizes_of(x, f1, f2, bias);
  Tensor out = torch::stable::empty_like(x);
  const int64_t parts = (pixels + kPixelsAPart - 1) / kPixelsAPart, step = channels;
  const float *const from = data(x), *const factor = data(f1), *const f2s = data(f2), *const biases = data(bias);
  float* const to = mutable_data(out);
  const int64_t count = pixels;
  torch::stable::parallel_for(0, batch * parts, 16, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t image = n / parts, first = n % parts * kPixelsAPart;
      const int64_t at = (image * count + first) * step;
      modulate(from + at, factor + at, f2s + image * step, biases, std::min(kPixelsAPart, count - first), step,
               to + at);
    }
  });
  return out;
}

// -> the gradients of f1 (B, H, W, C), f2 (B, C), bias (C).
std::tuple<Tensor, Tensor, Tensor> modulate_backward_cpu(const Tensor& grad, const Tensor& f1, const Tensor& f2,
                                                         const Tensor& bias) {
  const Sizes sizes = sizes_of(grad, f1, f2, bias);
  const int64_t pixels = sizes.pixels, channels = sizes.channels;
  Tensor grad_f1 = torch::stable::empty_like(grad), grad_f2 = torch::stable::empty_like(f2);
  Tensor grad_bias = torch::stable::empty_like(bias);
  const int64_t parts = (pixels + kPixelsAPart - 1) / kPixelsAPart;
  const float *const g = data(grad), *const factor = data(f1), *const f2s = data(f2);
  float* const to = mutable_data(grad_f1);
  std::vector<float> sums(sizes.batch * parts * 2 * channels);
  torch::stable::parallel_for(0, sizes.batch * parts, 16, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const int64_t image = n / parts, first = n % parts * kPixelsAPart;
      const int64_t at = (image * pixels + first) * channels;
      modulate_backward(g + at, factor + at, f2s + image * channels, std::min(kPixelsAPart, pixels - first), channels,
                        to + at, sums.data() + n * 2 * channels);
    }
  });
  std::vector<double> of_bias(channels);
  for (int64_t image = 0; image < sizes.batch; ++image)
    for (int64_t c = 0; c < channels; ++c) {
      double plain = 0, product = 0;
      for (int64_t part = 0; part < parts; ++part) {
        const float* const own = sums.data() + (image * parts + part) * 2 * channels;
        plain += own[c];
        product += own[channels + c];
      }
      mutable_data(grad_f2)[image * channels + c] = static_cast<float>(product + plain * data(bias)[c]);
      of_bias[c] += plain * f2s[image * channels + c];
    }
  for (int64_t c = 0; c < channels; ++c) mutable_data(grad_bias)[c] = static_cast<float>(of_bias[c]);
  return {grad_f1, grad_f2, grad_bias};
}

}  // namespace
}  // namespace dan_fast

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("modulate_cpp(Tensor x, Tensor f1, Tensor f2, Tensor bias) -> Tensor");
  m.def("modulate_backward_cpp(Tensor grad, Tensor f1, Tensor f2, Tensor bias) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("modulate_cpp", TORCH_BOX(&dan_fast::modulate_cpu));
  m.impl("modulate_backward_cpp", TORCH_BOX(&dan_fast::modulate_backward_cpu));
}
