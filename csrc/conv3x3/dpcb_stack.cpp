// dan_fast::dpcb_stack_cpp: schema, checks, threads.

#include "dpcb_stack.h"

#include <torch/csrc/stable/library.h>

#include "checks.h"

namespace dan_fast::conv3x3 {
namespace {

// x (B, H, W, C), packed (2 N, ...), modulation (B, N, C) -> (B, H, W, C).
Tensor dpcb_stack_cpu(const Tensor& x, const Tensor& packed, const Tensor& modulation, int64_t blocks, bool doubled) {
  check_image("x", x);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  const int64_t count = packed.size(0) / 2;
  check_packed(packed, 2 * count, channels, channels);
  check("modulation", modulation, {batch, count, channels});
  STD_TORCH_CHECK(blocks > 0 && count % blocks == 0, "groups of ", blocks, " do not make ", count, " blocks");

  Tensor out = torch::stable::clone(x);
  if (out.numel() == 0) return out;
  const DpcbStack stack{static_cast<int>(channels), static_cast<int>(count), static_cast<int>(blocks), doubled,
                        data(packed), conv3x3_path(channels)};
  dpcb_stack(stack, batch, static_cast<int>(height), static_cast<int>(width), mutable_data(out), data(modulation),
             threads(), in_parallel);
  return out;
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("dpcb_stack_cpp(Tensor x, Tensor packed, Tensor modulation, int blocks, bool doubled) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) { m.impl("dpcb_stack_cpp", TORCH_BOX(&dan_fast::conv3x3::dpcb_stack_cpu)); }
