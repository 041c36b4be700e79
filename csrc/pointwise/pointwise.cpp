// Loops over some pixels that compilers vectorise, and the operators that call them in parallel.

#include "pointwise.h"

#include <algorithm>

#include "../common/compiler.h"

namespace dan_fast::pointwise {
namespace {

DAN_FAST_CLONES void modulate(const float* x, const float* f1, const float* modulation, const float* bias,
                              int64_t pixels, int64_t channels, float* __restrict out) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c)
      out[n * channels + c] = x[n * channels + c] + (f1[n * channels + c] + bias[c]) * modulation[c];
}

// Adds to `sums`, as the following loops do: first grad, then grad * f1.
DAN_FAST_CLONES void modulate_gradient(const float* grad, const float* f1, const float* modulation, int64_t pixels,
                                       int64_t channels, float* __restrict out, float* __restrict sums) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c) {
      const float g = grad[n * channels + c];
      out[n * channels + c] = g * modulation[c];
      sums[c] += g;
      sums[channels + c] += g * f1[n * channels + c];
    }
}

DAN_FAST_CLONES void modulate_by_pixel_gradient(const float* grad, const float* f1, const float* modulation,
                                                const float* bias, int64_t pixels, int64_t channels,
                                                float* __restrict of_f1, float* __restrict of_modulation,
                                                float* __restrict sums) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = n * channels + c;
      const float g = grad[at] * modulation[at];
      of_f1[at] = g;
      of_modulation[at] = grad[at] * (f1[at] + bias[c]);
      sums[c] += g;
    }
}

DAN_FAST_CLONES void activate_gradient(const float* grad, const float* out, float slope, int64_t pixels,
                                       int64_t channels, float* __restrict in, float* __restrict sums) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = n * channels + c;
      const float small = slope * grad[at], g = out[at] > 0 ? grad[at] : small;
      in[at] = g;
      sums[c] += g;
    }
}

DAN_FAST_CLONES void add_up(const float* grad, int64_t pixels, int64_t channels, float* __restrict sums) {
  for (int64_t n = 0; n < pixels; ++n)
    for (int64_t c = 0; c < channels; ++c) sums[c] += grad[n * channels + c];
}

// Pixels per part: their sums are added in float, those of the parts in double.
constexpr int64_t kPixelsPerPart = 64;

// Images cut into parts, which any thread may compute.
struct Parts {
  int64_t batch, pixels, channels, per_image;

  explicit Parts(const Tensor& x)
      : batch(x.size(0)), pixels(x.size(1) * x.size(2)), channels(x.size(3)),
        per_image((pixels + kPixelsPerPart - 1) / kPixelsPerPart) {}

  // Calls run(image, at, pixels, part) for every part; `at`: the first float of the part in the batch.
  template <typename Run>
  void for_each(const Run& run) const {
    torch::stable::parallel_for(0, batch * per_image, 16, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        const int64_t image = n / per_image, first = n % per_image * kPixelsPerPart;
        run(image, (image * pixels + first) * channels, std::min(kPixelsPerPart, pixels - first), n);
      }
    });
  }

  // The sums (batch, count) of each image; run(image, at, pixels, sums) adds those of one part to `count` sums.
  template <typename Run>
  std::vector<double> sum(int64_t count, const Run& run) const {
    std::vector<float> parts(batch * per_image * count);
    for_each([&](int64_t image, int64_t at, int64_t own_pixels, int64_t part) {
      run(image, at, own_pixels, parts.data() + part * count);
    });
    std::vector<double> sums(batch * count);
    for (int64_t part = 0; part < batch * per_image; ++part)
      for (int64_t n = 0; n < count; ++n) sums[part / per_image * count + n] += parts[part * count + n];
    return sums;
  }

  // Adds the sums (batch, channels) of all images: (C).
  Tensor total(const Tensor& x, const std::vector<double>& sums) const {
    Tensor out = torch::stable::new_empty(x, {&channels, 1});
    for (int64_t c = 0; c < channels; ++c) {
      double all = 0;
      for (int64_t image = 0; image < batch; ++image) all += sums[image * channels + c];
      mutable_data(out)[c] = static_cast<float>(all);
    }
    return out;
  }
};

void check_images(const Tensor& x, const Tensor& other) {
  STD_TORCH_CHECK(x.dim() == 4, "expected images (B, H, W, C)");
  check("an image", x, {x.size(0), x.size(1), x.size(2), x.size(3)});
  check("an image", other, {x.size(0), x.size(1), x.size(2), x.size(3)});
}

}  // namespace

Tensor modulated(const Tensor& x, const Tensor& f1, const Tensor& modulation, const Tensor& bias) {
  check_images(x, f1);
  check("modulation", modulation, {x.size(0), x.size(3)});
  check("bias", bias, {x.size(3)});
  const Parts parts(x);
  Tensor out = torch::stable::empty_like(x);
  float* const to = mutable_data(out);
  parts.for_each([&](int64_t image, int64_t at, int64_t pixels, int64_t) {
    modulate(data(x) + at, data(f1) + at, data(modulation) + image * parts.channels, data(bias), pixels, parts.channels,
             to + at);
  });
  return out;
}

ModulateGradients modulate_gradients(const Tensor& grad, const Tensor& f1, const Tensor& modulation,
                                     const Tensor& bias) {
  check_images(grad, f1);
  check("modulation", modulation, {grad.size(0), grad.size(3)});
  check("bias", bias, {grad.size(3)});
  const Parts parts(grad);
  const int64_t channels = parts.channels;
  Tensor of_f1 = torch::stable::empty_like(grad), of_modulation = torch::stable::empty_like(modulation);
  float* const to = mutable_data(of_f1);
  const std::vector<double> sums = parts.sum(2 * channels, [&](int64_t image, int64_t at, int64_t pixels, float* own) {
    modulate_gradient(data(grad) + at, data(f1) + at, data(modulation) + image * channels, pixels, channels, to + at,
                      own);
  });
  std::vector<double> of_bias(parts.batch * channels);
  for (int64_t n = 0; n < parts.batch * channels; ++n) {
    const int64_t image = n / channels, c = n % channels;
    const double plain = sums[image * 2 * channels + c], product = sums[(image * 2 + 1) * channels + c];
    mutable_data(of_modulation)[n] = static_cast<float>(product + plain * data(bias)[c]);
    of_bias[n] = plain * data(modulation)[n];
  }
  return {of_f1, of_modulation, parts.total(grad, of_bias)};
}

ModulateGradients modulate_by_pixel_gradients(const Tensor& grad, const Tensor& f1, const Tensor& modulation,
                                              const Tensor& bias) {
  check_images(grad, f1);
  check_images(grad, modulation);
  check("bias", bias, {grad.size(3)});
  const Parts parts(grad);
  Tensor of_f1 = torch::stable::empty_like(grad), of_modulation = torch::stable::empty_like(grad);
  float *const to1 = mutable_data(of_f1), *const to2 = mutable_data(of_modulation);
  const auto sums = parts.sum(parts.channels, [&](int64_t, int64_t at, int64_t pixels, float* own) {
    modulate_by_pixel_gradient(data(grad) + at, data(f1) + at, data(modulation) + at, data(bias), pixels,
                               parts.channels, to1 + at, to2 + at, own);
  });
  return {of_f1, of_modulation, parts.total(grad, sums)};
}

ActivateGradients activate_gradients(const Tensor& grad, const Tensor& out, double slope) {
  check_images(grad, out);
  const Parts parts(grad);
  Tensor in = torch::stable::empty_like(grad);
  float* const to = mutable_data(in);
  const auto sums = parts.sum(parts.channels, [&](int64_t, int64_t at, int64_t pixels, float* own) {
    activate_gradient(data(grad) + at, data(out) + at, static_cast<float>(slope), pixels, parts.channels, to + at, own);
  });
  return {in, parts.total(grad, sums)};
}

Tensor pixel_sum(const Tensor& grad) {
  check_images(grad, grad);
  const Parts parts(grad);
  return parts.total(grad, parts.sum(parts.channels, [&](int64_t, int64_t at, int64_t pixels, float* own) {
    add_up(data(grad) + at, pixels, parts.channels, own);
  }));
}

}  // namespace dan_fast::pointwise
