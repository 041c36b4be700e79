// 3x3 convolutions whose weights change at every step, and their gradients: dan_fast::conv3x3_bias_lrelu_cpp,
// conv3x3_scale_residual_cpp, dpcb_cpp, and what is called after them. Each transforms its weights itself: that costs
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

// (C, C, 3, 3), however it lies.
Taps taps_of(const char* name, const Tensor& weight, int64_t channels) {
  STD_TORCH_CHECK(weight.is_cpu() && weight.scalar_type() == torch::headeronly::ScalarType::Float &&
                      weight.dim() == 4 && weight.size(0) == channels && weight.size(1) == channels &&
                      weight.size(2) == 3 && weight.size(3) == 3,
                  "expected ", name, " (", channels, ", ", channels, ", 3, 3), float32, on the CPU");
  return {data(weight), weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
}

// Of images like x (B, H, W, C) to as many channels.
class Convolution {
 public:
  Convolution(const Tensor& x, const Taps& taps)
      : height_(static_cast<int>(x.size(1))), width_(static_cast<int>(x.size(2))),
        channels_(static_cast<int>(x.size(3))), no_bias_(channels_), weights_(packed(x, taps)) {}

  Conv3x3 of(float** in, float** out, Finish finish, const float* bias = nullptr) const {
    Conv3x3 conv{height_, width_, channels_, channels_, in, out, data(weights_), bias ? bias : no_bias_.get()};
    conv.finish = finish;
    return conv;
  }

 private:
  static Tensor packed(const Tensor& x, const Taps& taps) {
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

void bias_lrelu(const Tensor& x, const Taps& taps, const Tensor& bias, double slope, Tensor& out) {
  const Convolution conv(x, taps);
  Images from(x), to(out);
  convolve_batch(x.size(0), [&](int64_t n) {
    Conv3x3 own = conv.of(from.of(n), to.of(n), Finish::kActivate, data(bias));
    own.slope = static_cast<float>(slope);
    return own;
  });
}

// `bare`: of no elements, or for the sums.
void scale_residual(const Tensor& x, const Taps& taps, const Tensor& bias, const Tensor& scale, const Tensor& residual,
                    Tensor& out, Tensor& bare) {
  const Convolution conv(x, taps);
  const bool by_pixel = scale.dim() == 4, store = bare.numel() > 0;
  Images from(x), onto(residual), to(out), by(by_pixel ? scale : x), sums(store ? bare : x);
  convolve_batch(x.size(0), [&](int64_t n) {
    Conv3x3 own = conv.of(from.of(n), to.of(n), by_pixel ? Finish::kMultiplyAndAdd : Finish::kScaleAndAdd, data(bias));
    if (by_pixel) own.by = by.of(n);
    else own.scale = data(scale) + n * x.size(3);
    own.onto = onto.of(n);
    if (store) own.bare = sums.of(n);
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
  const Taps taps = taps_of("weight", weight, channels);
  Tensor out = like(x);
  if (out.numel() > 0) bias_lrelu(x, taps, bias, slope, out);
  return out;
}

// x, residual (B, H, W, C), scale (B, C) or (B, H, W, C) -> the result, and with `store` the convolution.
std::tuple<Tensor, Tensor> scale_residual_cpu(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                              const Tensor& scale, const Tensor& residual, bool store) {
  check_image("x", x);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  check("bias", bias, {channels});
  check("residual", residual, {batch, height, width, channels});
  if (scale.dim() == 4) check("scale", scale, {batch, height, width, channels});
  else check("scale", scale, {batch, channels});
  const Taps taps = taps_of("weight", weight, channels);
  Tensor out = like(x), bare = like(x, store);
  if (out.numel() > 0) scale_residual(x, taps, bias, scale, residual, out, bare);
  return {out, bare};
}

// x (B, H, W, C), scale (B, C) -> the result, and with `store` the first convolution, activated, and the second, bare.
std::tuple<Tensor, Tensor, Tensor> dpcb_cpu(const Tensor& x, const Tensor& weight1, const Tensor& bias1,
                                            const Tensor& weight2, const Tensor& bias2, const Tensor& scale,
                                            double slope, bool store) {
  check_image("x", x);
  const int64_t channels = x.size(3);
  check("bias1", bias1, {channels});
  check("bias2", bias2, {channels});
  check("scale", scale, {x.size(0), channels});
  const Taps one = taps_of("weight1", weight1, channels), two = taps_of("weight2", weight2, channels);
  Tensor out = like(x), between = like(x), bare = like(x, store);
  if (out.numel() > 0) {
    bias_lrelu(x, one, bias1, slope, between);
    scale_residual(between, two, bias2, scale, x, out, bare);
  }
  return {out, store ? between : like(x, false), bare};
}

// Of the input from that of the output, with `finish` and what it takes.
Tensor input_gradient(const Tensor& grad, const Taps& taps, Finish finish, const Tensor& other, double slope = 0) {
  Tensor out = like(grad);
  if (out.numel() == 0) return out;
  const Convolution conv(grad, taps.transposed());
  Images from(grad), to(out), others(other);
  convolve_batch(grad.size(0), [&](int64_t n) {
    Conv3x3 own = conv.of(from.of(n), to.of(n), finish);
    own.slope = static_cast<float>(slope);
    own.by = own.onto = others.of(n);
    return own;
  });
  return out;
}

// grad (B, H, W, C), of the output -> of the input; the leaky ReLU's output `activated` and `add`: like grad, or none.
Tensor input_gradient_cpu(const Tensor& grad, const Tensor& weight, const Optional& activated, double slope,
                          const Optional& add) {
  check_image("grad", grad);
  const int64_t batch = grad.size(0), height = grad.size(1), width = grad.size(2), channels = grad.size(3);
  STD_TORCH_CHECK(!activated || !add, "expected activated or add, not both");
  for (const Optional& image : {activated, add})
    if (image) check("activated, add", *image, {batch, height, width, channels});
  const Taps taps = taps_of("weight", weight, channels);
  if (activated) return input_gradient(grad, taps, Finish::kActivateGradient, *activated, slope);
  return add ? input_gradient(grad, taps, Finish::kAdd, *add) : input_gradient(grad, taps, Finish::kStore, grad);
}

// The sum over a batch in parts that do not depend on the number of threads, so that neither does the rounding.
constexpr int64_t kTilesAPart = 128, kMostParts = 64;

// grad (B, H, W, O), of the output, x (B, H, W, I), the input -> (O, 3, 3, I).
Tensor weight_gradient_cpu(const Tensor& grad, const Tensor& x) {
  check_image("x", x);
  check_image("grad", grad);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), in = x.size(3), out = grad.size(3);
  check("grad", grad, {batch, height, width, out});
  const int64_t shape[] = {out, 3, 3, in}, count = 9 * in;
  if (x.numel() == 0) return torch::stable::new_zeros(x, {shape, 4});

  Images inputs(x), grads(grad);
  std::vector<const float* const*> in_rows, grad_rows;
  for (int64_t n = 0; n < batch; ++n) {
    in_rows.push_back(inputs.of(n));
    grad_rows.push_back(grads.of(n));
  }
  const WeightGradient sum{static_cast<int>(height), static_cast<int>(width), static_cast<int>(in),
                           static_cast<int>(out), in_rows.data(), grad_rows.data()};
  const int64_t tiles = batch * tiles_along(height) * tiles_along(width);
  const int64_t parts = std::clamp<int64_t>(tiles / kTilesAPart, 1, kMostParts);
  const int64_t parts_shape[] = {parts, out, 3, 3, in};
  Tensor summed = torch::stable::new_empty(x, {parts_shape, 5});
  float* const taps = mutable_data(summed);
  const WeightGradientPath path = weight_gradient_path();
  in_parallel(parts, [&](int64_t part) {
    path(sum, tiles * part / parts, tiles * (part + 1) / parts, taps + part * out * count,
         memory_of_this_thread(weight_gradient_workspace(sum.in_channels, sum.out_channels)));
  });
  // Onto the first.
  in_parallel(out, [&](int64_t o) {
    float* const to = taps + o * count;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t n = 0; n < count; ++n) to[n] += to[part * out * count + n];
  });
  return torch::stable::clone(torch::stable::select(summed, 0, 0));
}

// Of the arguments of the operators above, in their order, from that of the result.

// x, out (B, H, W, C) -> x, weight, bias.
std::tuple<Tensor, Tensor, Tensor> bias_lrelu_backward_cpu(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                                           const Tensor& out, double slope) {
  check_image("grad", grad);
  const Taps taps = taps_of("weight", weight, grad.size(3));
  const pointwise::ActivateGradients inner = pointwise::activate_gradients(grad, out, slope);
  return {input_gradient(inner.in, taps, Finish::kStore, inner.in), weight_gradient_cpu(inner.in, x), inner.bias};
}

// x, bare (B, H, W, C), scale (B, C) or (B, H, W, C) -> x, weight, bias, scale.
std::tuple<Tensor, Tensor, Tensor, Tensor> scale_residual_backward_cpu(const Tensor& grad, const Tensor& x,
                                                                       const Tensor& weight, const Tensor& bias,
                                                                       const Tensor& scale, const Tensor& bare) {
  check_image("grad", grad);
  const Taps taps = taps_of("weight", weight, grad.size(3));
  const pointwise::ModulateGradients outer = scale.dim() == 4 ? pointwise::multiply_gradients(grad, bare, scale, bias)
                                                   : pointwise::modulate_gradients(grad, bare, scale, bias);
  return {input_gradient(outer.f1, taps, Finish::kStore, outer.f1), weight_gradient_cpu(outer.f1, x), outer.bias,
          outer.f2};
}

// x, t, bare (B, H, W, C), scale (B, C) -> x, weight1, bias1, weight2, bias2, scale.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> dpcb_backward_cpu(
    const Tensor& grad, const Tensor& x, const Tensor& weight1, const Tensor& weight2, const Tensor& bias2,
    const Tensor& scale, const Tensor& t, const Tensor& bare, double slope) {
  check_image("grad", grad);
  const int64_t channels = grad.size(3);
  check("t", t, {grad.size(0), grad.size(1), grad.size(2), channels});
  const Taps one = taps_of("weight1", weight1, channels), two = taps_of("weight2", weight2, channels);
  const pointwise::ModulateGradients outer = pointwise::modulate_gradients(grad, bare, scale, bias2);
  const Tensor inner = input_gradient(outer.f1, two, Finish::kActivateGradient, t, slope);
  return {input_gradient(inner, one, Finish::kAdd, grad), weight_gradient_cpu(inner, x), pointwise::pixel_sum(inner),
          weight_gradient_cpu(outer.f1, t), outer.bias, outer.f2};
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("conv3x3_bias_lrelu_cpp(Tensor x, Tensor weight, Tensor bias, float slope) -> Tensor");
  m.def("conv3x3_scale_residual_cpp(Tensor x, Tensor weight, Tensor bias, Tensor scale, Tensor residual, bool store) "
        "-> (Tensor, Tensor)");
  m.def("dpcb_cpp(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, Tensor scale, float slope, "
        "bool store) -> (Tensor, Tensor, Tensor)");
  m.def("conv3x3_input_gradient_cpp(Tensor grad, Tensor weight, Tensor? activated, float slope, Tensor? add) "
        "-> Tensor");
  m.def("conv3x3_weight_gradient_cpp(Tensor grad, Tensor x) -> Tensor");
  m.def("conv3x3_bias_lrelu_backward_cpp(Tensor grad, Tensor x, Tensor weight, Tensor out, float slope) "
        "-> (Tensor, Tensor, Tensor)");
  m.def("conv3x3_scale_residual_backward_cpp(Tensor grad, Tensor x, Tensor weight, Tensor bias, Tensor scale, "
        "Tensor bare) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("dpcb_backward_cpp(Tensor grad, Tensor x, Tensor weight1, Tensor weight2, Tensor bias2, Tensor scale, Tensor t, "
        "Tensor bare, float slope) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
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
