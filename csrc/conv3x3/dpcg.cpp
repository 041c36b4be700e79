// dan_fast::dpcg_cpp: schema, checks, threads.

#include "dpcg.h"

#include <torch/csrc/stable/library.h>

#include "checks.h"

namespace dan_fast::conv3x3 {
namespace {

// x, z (B, H, W, C), packed (4 N, ...) -> x (B, H, W, C).
Tensor dpcg_cpu(const Tensor& x, const Tensor& z, const Tensor& packed, bool doubled) {
  check_image("x", x);
  const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3);
  const int64_t blocks = packed.size(0) / 4;
  check("z", z, {batch, height, width, channels});
  check_packed(packed, 4 * blocks, channels, channels);

  Tensor out = torch::stable::clone(x), condition = torch::stable::clone(z);
  if (out.numel() == 0) return out;
  const Dpcg group{static_cast<int>(channels), static_cast<int>(blocks), doubled, data(packed), conv3x3_path(channels)};
  dpcg(group, batch, static_cast<int>(height), static_cast<int>(width), data(x), mutable_data(out),
       mutable_data(condition), threads(), in_parallel);
  return out;
}

}  // namespace
}  // namespace dan_fast::conv3x3

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("dpcg_cpp(Tensor x, Tensor z, Tensor packed, bool doubled) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) { m.impl("dpcg_cpp", TORCH_BOX(&dan_fast::conv3x3::dpcg_cpu)); }
