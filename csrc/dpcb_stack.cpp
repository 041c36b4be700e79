// dan_fast::dpcb_stack_cpp and dan_fast::pack_dpcb_stack: schemas, checks, threads.

#include "dpcb_stack.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

namespace dan_fast {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

void check(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == ScalarType::Float && tensor.is_contiguous(),
                  "dpcb_stack: expected ", name, " contiguous, float32, on the CPU");
  bool right = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t dimension = 0;
  for (const int64_t size : shape) right = right && tensor.size(dimension++) == size;
  STD_TORCH_CHECK(right, "dpcb_stack: ", name, " has a wrong shape");
}

const float* data(const Tensor& tensor) { return static_cast<const float*>(tensor.const_data_ptr()); }

// Weights (N, C, C, 3, 3) and biases (N, C) of both convolutions of N blocks to (N, 2, C * C * 36 + C).
Tensor pack_dpcb_stack(const Tensor& weight1, const Tensor& bias1, const Tensor& weight2, const Tensor& bias2) {
  STD_TORCH_CHECK(weight1.dim() == 5, "dpcb_stack: weight1 has ", weight1.dim(), " dimensions, expected 5");
  const int64_t blocks = weight1.size(0), channels = weight1.size(1);
  STD_TORCH_CHECK(conv3x3_path(channels), "dpcb_stack: ", channels, " channels, expected 16, 32 or 64");
  for (const Tensor* weight : {&weight1, &weight2}) check("weight", *weight, {blocks, channels, channels, 3, 3});
  for (const Tensor* bias : {&bias1, &bias2}) check("bias", *bias, {blocks, channels});

  const int64_t weights = packed_conv3x3(channels), each = weights + channels, panels = channels / kPanel;
  const int64_t shape[] = {blocks, 2, each};
  Tensor packed = torch::stable::new_empty(weight1, {shape, 3});
  float* to = static_cast<float*>(packed.mutable_data_ptr());
  torch::stable::parallel_for(0, 2 * blocks * panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t number = i / panels, block = number / 2, panel = i % panels;
      const float* from = data(number % 2 ? weight2 : weight1) + block * channels * channels * 9;
      pack_conv3x3(from, channels, panel * kPanel, to + number * each);
      if (panel == 0)
        std::copy_n(data(number % 2 ? bias2 : bias1) + block * channels, channels, to + number * each + weights);
    }
  });
  return packed;
}

// x (B, H, W, C), scales (B, N, C) -> (B, H, W, C).
Tensor dpcb_stack_cpu(const Tensor& x, const Tensor& packed, const Tensor& scales, int64_t blocks, bool doubled) {
  STD_TORCH_CHECK(x.dim() == 4 && packed.dim() == 3, "dpcb_stack: expected x (B, H, W, C) and packed weights");
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3), count = packed.size(0);
  const Conv3x3Path path = conv3x3_path(channels);
  STD_TORCH_CHECK(path, "dpcb_stack: ", channels, " channels, expected 16, 32 or 64");
  check("x", x, {batch, height, width, channels});
  check("packed", packed, {count, 2, packed_conv3x3(channels) + channels});
  check("scales", scales, {batch, count, channels});
  STD_TORCH_CHECK(blocks > 0 && count % blocks == 0, "dpcb_stack: groups of ", blocks, " do not make ", count);
  STD_TORCH_CHECK(height < (1 << 29) && width < (1 << 29), "dpcb_stack: x is ", height, "x", width, ", too large");

  Tensor out = torch::stable::clone(x);
  if (out.numel() == 0) return out;
  const DpcbStack stack{static_cast<int>(channels), static_cast<int>(count), static_cast<int>(blocks), doubled,
                        data(packed)};
  dpcb_stack(stack, batch, static_cast<int>(height), static_cast<int>(width),
             static_cast<float*>(out.mutable_data_ptr()), data(scales),
             static_cast<int>(torch::stable::get_num_threads()), path, [](int64_t strips, const auto& run) {
               torch::stable::parallel_for(0, strips, 1, [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) run(n);
               });
             });
  return out;
}

}  // namespace
}  // namespace dan_fast

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("pack_dpcb_stack(Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2) -> Tensor");
  m.def("dpcb_stack_cpp(Tensor x, Tensor packed, Tensor scales, int blocks, bool doubled) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("pack_dpcb_stack", TORCH_BOX(&dan_fast::pack_dpcb_stack));
  m.impl("dpcb_stack_cpp", TORCH_BOX(&dan_fast::dpcb_stack_cpu));
}
