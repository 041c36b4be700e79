// 3x3 convolutions in training, and their gradients: dan_fast::conv3x3_bias_lrelu_cpp, conv3x3_scale_residual_cpp,
// dpcb_cpp and their backward operators. As weights change at every step, each call transforms its own: that costs
// little where all tiles of a batch use them.

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "../pointwise/pointwise.h"
#include "batch.h"
#include "checks.h"
#include "conv3x3_weight_gradient.h"

namespace dan_fast::conv3x3 {
namespace {

using Optional = std::optional<Tensor>;

// Views `weight` (C, C, 3, 3), of any strides.
WeightView weights_of(const char* name, const Tensor& weight, int64_t channels) {
  STD_TORCH_CHECK(weight.is_cpu() && weight.scalar_type() == torch::headeronly::ScalarType::Float &&
                      weight.dim() == 4 && weight.size(0) == channels && weight.size(1) == channels &&
                      weight.size(2) == 3 && weight.size(3) == 3,
                  "expected ", name, " (", channels, ", ", channels, ", 3, 3), float32, on the CPU");
  return {data(weight), weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
}

// A convolution of images like x (B, H, W, C), which keeps the number of channels.
class Convolution {
 public:
  Convolution(const Tensor& x, const WeightView& taps)
      : height_(static_cast<int>(x.size(1))), width_(static_cast<int>(x.size(2))),
        channels_(static_cast<int>(x.size(3))), no_bias_(channels_), weights_(packed(x, taps)) {}

  Conv3x3 of(float** in, float** out, Finish finish, const float* bias = nullptr) const {
    Conv3x3 conv{height_, width_, channels_, channels_, in, out, data(weights_), bias ? bias : no_bias_.get()};
    conv.finish = finish;
    return conv;
  }

 private:
  static Tensor packed(const Tensor& x, const WeightView& taps) {
    const int64_t channels = x.size(3), count = packed_conv3x3(channels, channels);
    Tensor weights = torch::stable::new_empty(x, {&count, 1});
    float* const to = mutable_data(weights);
    in_parallel(channels / kPanel, [&](int64_t panel) {
      pack_conv3x3(taps, static_cast<int>(channels), static_cast<int>(panel * kPanel), to);
    });
    return weights;
  }

  int height_, width_, channels_;
  Floats no_bias_;
  Tensor weights_;
};

void bias_lrelu(const Tensor& x, const WeightView& taps, const Tensor& bias, double slope, Tensor& out) {
  const Convolution conv(x, taps);
  ImageRows from(x), to(out);
  convolve_batch(x.size(0), [&](int64_t n) {
    Conv3x3 own = conv.of(from.of(n), to.of(n), Finish::kActivate, data(bias));
    own.slope = static_cast<float>(slope);
    return own;
  });
}

// f1: empty, or receives the convolution without its bias.
void scale_residual(const Tensor& x, const WeightView& taps, const Tensor& bias, const Tensor& modulation,
                    const Tensor& residual, Tensor& out, Tensor& f1) {
  const Convolution conv(x, taps);
  const bool by_pixel = modulation.dim() == 4, store = f1.numel() > 0;
  ImageRows x_rows(x), residual_rows(residual), out_rows(out), modulation_rows(by_pixel ? modulation : x),
      f1_rows(store ? f1 : x);
  convolve_batch(x.size(0), [&](int64_t n) {
    const Finish finish = by_pixel ? Finish::kModulateByPixel : Finish::kModulate;
    Conv3x3 own = conv.of(x_rows.of(n), out_rows.of(n), finish, data(bias));
    if (by_pixel) own.modulation_image = modulation_rows.of(n);
    else own.modulation = data(modulation) + n * x.size(3);
    own.residual = residual_rows.of(n);
    if (store) own.f1 = f1_rows.of(n);
    return own;
  });
}

Tensor like(const Tensor& x, bool wanted = true) {
  const int64_t none = 0;
  return wanted ? torch::stable::empty_like(x) : torch::stable::new_empty(x, {&none, 1});
}

// x (B, H, W, C), weight (C, C, 3, 3), bias (C) -> (B, H, W, C).
Tensor bias_lrelu_cpu(const Tensor& x, const Tensor& weight, const Tensor& bias, double slope) {
  check_image("x", x);
  const int64_t channels = x.size(3);
  check("bias", bias, {channels});
  const WeightView taps = weights_of("weight", weight, channels);
  Tensor out = like(x);
  if (out.numel() > 0) bias_lrelu(x, taps, bias, slope, out);
  return out;
}

// x, residual (B, H, W, C), modulation (B, C) or (B, H, W, C) -> the result, and with `store` f1.
std::tuple<Tensor, Tensor> scale_residual_cpu(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                              const Tensor& modulation, const Tensor& residual, bool store) {
  check_image("x", x);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  check("bias", bias, {channels});
  check("residual", residual, {batch, height, width, channels});
  if (modulation.dim() == 4) check("modulation", modulation, {batch, height, width, channels});
  else check("modulation", modulation, {batch, channels});
  const WeightView taps = weights_of("weight", weight, channels);
  Tensor out = like(x), f1 = like(x, store);
  if (out.numel() > 0) scale_residual(x, taps, bias, modulation, residual, out, f1);
  return {out, f1};
}

// x (B, H, W, C), modulation (B, C) -> the result, and with `store` the first convolution after its activation and f1,
// the second one without its bias.
std::tuple<Tensor, Tensor, Tensor> dpcb_cpu(const Tensor& x, const Tensor& weight1, const Tensor& bias1,
                                            const Tensor& weight2, const Tensor& bias2, const Tensor& modulation,
                                            double slope, bool store) {
  check_image("x", x);
  const int64_t channels = x.size(3);
  check("bias1", bias1, {channels});
  check("bias2", bias2, {channels});
  check("modulation", modulation, {x.size(0), channels});
  const WeightView one = weights_of("weight1", weight1, channels), two = weights_of("weight2", weight2, channels);
  Tensor out = like(x), activated = like(x), f1 = like(x, store);
  if (out.numel() > 0) {
    bias_lrelu(x, one, bias1, slope, activated);
    scale_residual(activated, two, bias2, modulation, x, out, f1);
  }
  return {out, store ? activated : like(x, false), f1};
}

// The input's gradient from the output's, with an epilogue; `other` is what kAdd or kActivateGradient reads.
Tensor input_gradient(const Tensor& grad, const WeightView& taps, Finish finish, const Tensor& other,
                      double slope = 0) {
  Tensor out = like(grad);
  if (out.numel() == 0) return out;
  const Convolution conv(grad, taps.transposed());
  ImageRows from(grad), to(out), others(other);
  convolve_batch(grad.size(0), [&](int64_t n) {
    Conv3x3 own = conv.of(from.of(n), to.of(n), finish);
    own.slope = static_cast<float>(slope);
    own.activated = own.residual = others.of(n);
    return own;
  });
  return out;
}

// grad (B, H, W, C), the output's gradient -> the input's. With `activated`, the output of the leaky ReLU before the
// convolution, that of the ReLU's input; `add`, another gradient, is added. At most one of these two; both like grad.
Tensor input_gradient_cpu(const Tensor& grad, const Tensor& weight, const Optional& activated, double slope,
                          const Optional& add) {
  check_image("grad", grad);
  const int64_t batch = grad.size(0), height = grad.size(1), width = grad.size(2), channels = grad.size(3);
  STD_TORCH_CHECK(!activated || !add, "expected activated or add, not both");
  for (const Optional& image : {activated, add})
    if (image) check("activated, add", *image, {batch, height, width, channels});
  const WeightView taps = weights_of("weight", weight, channels);
  if (activated) return input_gradient(grad, taps, Finish::kActivateGradient, *activated, slope);
  return add ? input_gradient(grad, taps, Finish::kAdd, *add) : input_gradient(grad, taps, Finish::kStore, grad);
}

// The parts of the sum over a batch do not depend on the number of threads, so neither does the rounding.
constexpr int64_t kTilesPerPart = 128, kMostParts = 64;

// grad (B, H, W, O), the output's gradient, and the input x (B, H, W, I) -> the weight's gradient (O, 3, 3, I).
Tensor weight_gradient_cpu(const Tensor& grad, const Tensor& x) {
  check_image("x", x);
  check_image("grad", grad);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), in = x.size(3), out = grad.size(3);
  check("grad", grad, {batch, height, width, out});
  const int64_t shape[] = {out, 3, 3, in}, count = 9 * in;
  if (x.numel() == 0) return torch::stable::new_zeros(x, {shape, 4});

  ImageRows inputs(x), grads(grad);
  std::vector<const float* const*> in_rows, grad_rows;
  for (int64_t n = 0; n < batch; ++n) {
    in_rows.push_back(inputs.of(n));
    grad_rows.push_back(grads.of(n));
  }
  const WeightGradient sum{static_cast<int>(height), static_cast<int>(width), static_cast<int>(in),
                           static_cast<int>(out), in_rows.data(), grad_rows.data()};
  const int64_t tiles = batch * tiles_along(height) * tiles_along(width);
  const int64_t parts = std::clamp<int64_t>(tiles / kTilesPerPart, 1, kMostParts);
  const int64_t parts_shape[] = {parts, out, 3, 3, in};
  Tensor summed = torch::stable::new_empty(x, {parts_shape, 5});
  float* const taps = mutable_data(summed);
  const WeightGradientPath path = weight_gradient_path();
  in_parallel(parts, [&](int64_t part) {
    path(sum, tiles * part / parts, tiles * (part + 1) / parts, taps + part * out * count,
         memory_of_this_thread(weight_gradient_workspace(sum.in_channels, sum.out_channels)));
  });
  // Add all parts to the first one.
  in_parallel(out, [&](int64_t o) {
    float* const to = taps + o * count;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t n = 0; n < count; ++n) to[n] += to[part * out * count + n];
  });
  return torch::stable::clone(torch::stable::select(summed, 0, 0));
}

// Backward operators: from the gradient of the result to those of the arguments, in their order.

// x, out (B, H, W, C) -> x, weight, bias.
std::tuple<Tensor, Tensor, Tensor> bias_lrelu_backward_cpu(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                           const Tensor& out, double slope) {
  check_image("grad", grad);
  const WeightView taps = weights_of("weight", weight, grad.size(3));
  const pointwise::ActivateGradients inner = pointwise::activate_gradients(grad, out, slope);
  return {input_gradient(inner.in, taps, Finish::kStore, inner.in), weight_gradient_cpu(inner.in, x), inner.bias};
}

// x, f1 (B, H, W, C), modulation (B, C) or (B, H, W, C) -> x, weight, bias, modulation.
std::tuple<Tensor, Tensor, Tensor, Tensor> scale_residual_backward_cpu(const Tensor& grad, const Tensor& x,
                                                                       const Tensor& weight, const Tensor& bias,
                                                                       const Tensor& modulation, const Tensor& f1) {
  check_image("grad", grad);
  const WeightView taps = weights_of("weight", weight, grad.size(3));
  const pointwise::ModulateGradients outer = modulation.dim() == 4
      ? pointwise::modulate_by_pixel_gradients(grad, f1, modulation, bias)
      : pointwise::modulate_gradients(grad, f1, modulation, bias);
  return {input_gradient(outer.f1, taps, Finish::kStore, outer.f1), weight_gradient_cpu(outer.f1, x), outer.bias,
          outer.modulation};
}

// x, activated, f1 (B, H, W, C), modulation (B, C) -> x, weight1, bias1, weight2, bias2, modulation.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> dpcb_backward_cpu(
    const Tensor& grad, const Tensor& x, const Tensor& weight1, const Tensor& weight2, const Tensor& bias2,
    const Tensor& modulation, const Tensor& activated, const Tensor& f1, double slope) {
  check_image("grad", grad);
  const int64_t channels = grad.size(3);
  check("activated", activated, {grad.size(0), grad.size(1), grad.size(2), channels});
  const WeightView one = weights_of("weight1", weight1, channels), two = weights_of("weight2", weight2, channels);
  const pointwise::ModulateGradients outer = pointwise::modulate_gradients(grad, f1, modulation, bias2);
  const Tensor inner = input_gradient(outer.f1, two, Finish::kActivateGradient, activated, slope);
  return {input_gradient(inner, one, Finish::kAdd, grad), weight_gradient_cpu(inner, x), pointwise::pixel_sum(inner),
          weight_gradient_cpu(outer.f1, activated), outer.bias, outer.modulation};
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("conv3x3_bias_lrelu_cpp(Tensor x, Tensor weight, Tensor bias, float slope) -> Tensor");
  m.def("conv3x3_scale_residual_cpp(Tensor x, Tensor weight, Tensor bias, Tensor modulation, Tensor residual, "
        "bool store) -> (Tensor, Tensor)");
  m.def("dpcb_cpp(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, Tensor modulation, "
        "float slope, bool store) -> (Tensor, Tensor, Tensor)");
  m.def("conv3x3_input_gradient_cpp(Tensor grad, Tensor weight, Tensor? activated, float slope, Tensor? add) "
        "-> Tensor");
  m.def("conv3x3_weight_gradient_cpp(Tensor grad, Tensor x) -> Tensor");
  m.def("conv3x3_bias_lrelu_backward_cpp(Tensor grad, Tensor x, Tensor weight, Tensor out, float slope) "
        "-> (Tensor, Tensor, Tensor)");
  m.def("conv3x3_scale_residual_backward_cpp(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor modulation, "
        "Tensor f1) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("dpcb_backward_cpp(Tensor grad, Tensor x, Tensor weight1, Tensor weight2, Tensor bias2, Tensor modulation, "
        "Tensor activated, Tensor f1, float slope) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("conv3x3_bias_lrelu_cpp", TORCH_BOX(&dan_fast::conv3x3::bias_lrelu_cpu));
  m.impl("conv3x3_scale_residual_cpp", TORCH_BOX(&dan_fast::conv3x3::scale_residual_cpu));
  m.impl("dpcb_cpp", TORCH_BOX(&dan_fast::conv3x3::dpcb_cpu));
  m.impl("conv3x3_input_gradient_cpp", TORCH_BOX(&dan_fast::conv3x3::input_gradient_cpu));
  m.impl("conv3x3_weight_gradient_cpp", TORCH_BOX(&dan_fast::conv3x3::weight_gradient_cpu));
  m.impl("conv3x3_bias_lrelu_backward_cpp", TORCH_BOX(&dan_fast::conv3x3::bias_lrelu_backward_cpu));
  m.impl("conv3x3_scale_residual_backward_cpp", TORCH_BOX(&dan_fast::conv3x3::scale_residual_backward_cpu));
  m.impl("dpcb_backward_cpp", TORCH_BOX(&dan_fast::conv3x3::dpcb_backward_cpu));
}
