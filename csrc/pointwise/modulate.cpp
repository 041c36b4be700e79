// dan_fast::modulate_cpp and dan_fast::modulate_backward_cpp: schema.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "pointwise.h"

namespace dan_fast::pointwise {
namespace {

// grad, f1 (B, H, W, C), modulation (B, C), bias (C) -> the gradients of f1, modulation and bias.
std::tuple<Tensor, Tensor, Tensor> modulate_backward_cpu(const Tensor& grad, const Tensor& f1, const Tensor& modulation,
                                                         const Tensor& bias) {
  const ModulateGradients gradients = modulate_gradients(grad, f1, modulation, bias);
  return {gradients.f1, gradients.modulation, gradients.bias};
}

}  // namespace
}  // namespace dan_fast::pointwise

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("modulate_cpp(Tensor x, Tensor f1, Tensor modulation, Tensor bias) -> Tensor");
  m.def("modulate_backward_cpp(Tensor grad, Tensor f1, Tensor modulation, Tensor bias) -> (Tensor, Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("modulate_cpp", TORCH_BOX(&dan_fast::pointwise::modulated));
  m.impl("modulate_backward_cpp", TORCH_BOX(&dan_fast::pointwise::modulate_backward_cpu));
}
