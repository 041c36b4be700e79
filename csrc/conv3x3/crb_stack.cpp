// dan_fast::crb_stack_cpp: schema, checks, threads.

#include "crb_stack.h"

#include <torch/csrc/stable/library.h>

#include "checks.h"

namespace dan_fast::conv3x3 {
namespace {

// x (B, H, W, I): its first C channels are x, bias (B, N, 1 or 9, hidden), one and two packed, squeeze (N, S, C),
// squeeze_bias (N, S), excite (N, C, S), excite_bias (N, C) -> x after the blocks, (B, H, W, I).
Tensor crb_stack_cpu(const Tensor& x, const Tensor& bias, const Tensor& one, const Tensor& two, const Tensor& squeeze,
                     const Tensor& squeeze_bias, const Tensor& excite, const Tensor& excite_bias) {
  check_image("x", x);
  STD_TORCH_CHECK(bias.dim() == 4 && squeeze.dim() == 3, "expected bias (B, N, 1 or 9, hidden), squeeze (N, S, C)");
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), in = x.size(3);
  const int64_t blocks = squeeze.size(0), squeezed = squeeze.size(1), channels = squeeze.size(2);
  const int64_t places = bias.size(2), hidden = bias.size(3);
  STD_TORCH_CHECK(channels % kPanel == 0 && channels <= in && (places == 1 || places == 9) && conv3x3_path(hidden),
                  in, " channels to ", hidden, " to ", channels, " with ", places, " biases");
  check("bias", bias, {batch, blocks, places, hidden});
  check_packed(one, blocks, in, hidden);
  check_packed(two, blocks, hidden, channels);
  check("squeeze", squeeze, {blocks, squeezed, channels});
  check("squeeze_bias", squeeze_bias, {blocks, squeezed});
  check("excite", excite, {blocks, channels, squeezed});
  check("excite_bias", excite_bias, {blocks, channels});

  Tensor out = torch::stable::clone(x);
  if (out.numel() == 0) return out;
  const CrbStack stack{static_cast<int>(channels), static_cast<int>(in), static_cast<int>(hidden),
                       static_cast<int>(squeezed), static_cast<int>(blocks), static_cast<int>(places), data(one),
                       data(two), data(squeeze), data(squeeze_bias), data(excite), data(excite_bias),
                       conv3x3_path(in), conv3x3_path(hidden)};
  crb_stack(stack, batch, static_cast<int>(height), static_cast<int>(width), mutable_data(out), data(bias), threads(),
            in_parallel);
  return out;
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("crb_stack_cpp(Tensor x, Tensor bias, Tensor one, Tensor two, Tensor squeeze, Tensor squeeze_bias, "
        "Tensor excite, Tensor excite_bias) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) { m.impl("crb_stack_cpp", TORCH_BOX(&dan_fast::conv3x3::crb_stack_cpu)); }
