// dan_fast::blur_downsample on CUDA, and its gradient of hr: checks, memory and launches around the GPU kernels of
// kernels.cuh. Everything runs on the current stream; nothing waits, and all memory is torch's, so both can be captured
// into a CUDA graph.

#include "../checks.h"
#include "kernels.cuh"

#include <limits>

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>

namespace dan_fast::blur_downsample {
namespace {

struct Launch {
  cudaStream_t stream;

  explicit Launch(const Tensor& tensor) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }

  template <typename Kernel, typename... Args>
  void operator()(Kernel kernel, int64_t blocks, int threads, int shared, Args... args) const {
    STD_TORCH_CHECK(blocks <= std::numeric_limits<int>::max(), "blur_downsample: too many images for one call");
    if (shared > 48 * 1024)  // more must be asked for
      STD_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared));
    kernel<<<static_cast<unsigned>(blocks), threads, shared, stream>>>(args...);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

// in: the images or, backward, the gradients of the result; contiguous, as are kernels and out.
template <typename T>
void run(bool backward, const Tensor& in, const Tensor& kernels, int scale, int64_t height, int64_t width,
         Tensor& out) {
  const Taps<T> taps = downsample_taps<T>(scale);
  const device::Task<T> task(in.size(0), static_cast<int>(in.size(1)), static_cast<int>(height),
                             static_cast<int>(width), static_cast<int>(kernels.size(1)), scale, taps.first, taps.count,
                             taps.weights);
  const int64_t room[] = {task.problem.filters()};
  Tensor filters = torch::stable::new_empty(in, {room, 1});
  device::run(Launch(in), backward, static_cast<const T*>(in.const_data_ptr()),
              static_cast<const T*>(kernels.const_data_ptr()), static_cast<T*>(filters.mutable_data_ptr()),
              static_cast<T*>(out.mutable_data_ptr()), task);
}

Tensor blur_downsample_cuda(const Tensor& hr, const Tensor& kernel, int64_t scale) {
  STD_TORCH_CHECK(hr.is_cuda() && kernel.is_cuda() && hr.get_device_index() == kernel.get_device_index(),
                  "blur_downsample: expected hr and kernel on the same GPU");
  const torch::stable::accelerator::DeviceGuard guard(hr.get_device_index());
  const auto forward = [](auto zero, const Tensor& images, const Tensor& kernels, int s, Tensor& out) {
    run<decltype(zero)>(false, images, kernels, s, images.size(2), images.size(3), out);
  };
  return with_checked(hr, kernel, scale, forward);
}

// The gradient of hr (B, C, height, width) from that of the result (B, C, height / scale, width / scale).
Tensor backward_hr_cuda(const Tensor& grad, const Tensor& kernel, int64_t scale, int64_t height, int64_t width) {
  STD_TORCH_CHECK(grad.is_cuda() && kernel.is_cuda() && grad.get_device_index() == kernel.get_device_index(),
                  "blur_downsample_backward_hr: expected grad and kernel on the same GPU");
  STD_TORCH_CHECK(grad.dim() == 4, "blur_downsample_backward_hr: grad has ", grad.dim(), " dimensions, expected 4");
  const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
  const ScalarType dtype = grad.scalar_type();
  const ScalarType compute = dtype == ScalarType::Double ? dtype : ScalarType::Float;
  const int64_t shape[] = {grad.size(0), grad.size(1), height, width};
  Tensor grad_hr = torch::stable::new_empty(grad, {shape, 4}, compute);
  check_blur_downsample(grad_hr, torch::stable::to(kernel, compute), scale);
  STD_TORCH_CHECK(grad.size(2) * scale == height && grad.size(3) * scale == width,
                  "blur_downsample_backward_hr: a gradient of ", grad.size(2), "x", grad.size(3), " is not that of ",
                  height, "x", width, " at scale ", scale);
  const Tensor from = torch::stable::contiguous(torch::stable::to(grad, compute));
  const Tensor kernels = torch::stable::contiguous(torch::stable::to(kernel, compute));
  if (grad_hr.numel() > 0) {
    if (compute == ScalarType::Float) run<float>(true, from, kernels, static_cast<int>(scale), height, width, grad_hr);
    else run<double>(true, from, kernels, static_cast<int>(scale), height, width, grad_hr);
  }
  return compute == dtype ? grad_hr : torch::stable::to(grad_hr, dtype);
}

}  // namespace
}  // namespace dan_fast::blur_downsample

STABLE_TORCH_LIBRARY_FRAGMENT(dan_fast, m) {
  m.def("blur_downsample_backward_hr(Tensor grad, Tensor kernel, int scale, int height, int width) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CUDA, m) {
  m.impl("blur_downsample_cpp", TORCH_BOX(&dan_fast::blur_downsample::blur_downsample_cuda));
  m.impl("blur_downsample_backward_hr", TORCH_BOX(&dan_fast::blur_downsample::backward_hr_cuda));
}
