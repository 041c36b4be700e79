// Tensors in operators of the CPU: their checks, their data, and loops on torch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>

namespace dan_fast {

using torch::stable::Tensor;

// Refuses what is not contiguous float32 of this shape on the CPU.
inline void check(const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(tensor.is_cpu() && tensor.scalar_type() == torch::headeronly::ScalarType::Float &&
                      tensor.is_contiguous(),
                  "expected ", name, " contiguous, float32, on the CPU");
  bool right = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t dimension = 0;
  for (const int64_t size : shape) right = right && tensor.size(dimension++) == size;
  STD_TORCH_CHECK(right, name, " has a wrong shape");
}

inline const float* data(const Tensor& tensor) { return static_cast<const float*>(tensor.const_data_ptr()); }
inline float* mutable_data(const Tensor& tensor) { return static_cast<float*>(tensor.mutable_data_ptr()); }

inline int threads() { return static_cast<int>(torch::stable::get_num_threads()); }

// Calls run(n) for every n < count on torch's threads: each takes the next n as soon as it has finished one.
inline constexpr auto in_parallel = [](int64_t count, const auto& run) {
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, std::min<int64_t>(count, threads()), 1, [&](int64_t, int64_t) {
    for (int64_t n; (n = next.fetch_add(1)) < count;) run(n);
  });
};

}  // namespace dan_fast
