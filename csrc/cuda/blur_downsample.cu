// dan_fast::blur_downsample on CUDA: the two steps of ../blur_downsample.cpp, one thread a pixel, float or
// double. The tests compile it for sm_80, sm_90a and PTX (tests/test_cuda_compiles.py) wherever there is
// nvcc; they run it only on a machine with a GPU.

#include "../blur_downsample.h"

#include <algorithm>

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>

namespace dan_fast {
namespace {

// A block is a tile of one plane; blockIdx.z strides over the planes (B * C, image by image).
const dim3 kTile(32, 8);

dim3 grid_of(int64_t planes, int height, int width) {
  return dim3((width + kTile.x - 1) / kTile.x, (height + kTile.y - 1) / kTile.y,
              static_cast<unsigned>(std::min<int64_t>(planes, 65535)));
}

// in (planes, height, width), kernels (planes / channels, k, k) -> out, of the shape of in.
template <typename T>
__global__ void blur(const T* __restrict__ in, const T* __restrict__ kernels, T* __restrict__ out, int64_t planes,
                     int channels, int height, int width, int k) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  for (int64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
    const T* image = in + plane * height * width;
    const T* weights = kernels + plane / channels * k * k;
    T sum = 0;
    for (int i = 0; i < k; ++i) {
      const T* row = image + int64_t{reflected(y + i - k / 2, height)} * width;
      for (int j = 0; j < k; ++j) sum += weights[i * k + j] * row[reflected(x + j - k / 2, width)];
    }
    out[(plane * height + y) * width + x] = sum;
  }
}

// in (planes, height * scale, width * scale) -> out (planes, height, width).
template <typename T>
__global__ void downsample(const T* __restrict__ in, T* __restrict__ out, int64_t planes, int height, int width,
                           int scale, Taps<T> taps) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  if (x >= width || y >= height) return;
  const int in_height = height * scale, in_width = width * scale;
  for (int64_t plane = blockIdx.z; plane < planes; plane += gridDim.z) {
    T sum = 0;
    for (int i = 0; i < taps.count; ++i) {
      const T* row = in + (plane * in_height + mirrored(y * scale + taps.first + i, in_height)) * in_width;
      T row_sum = 0;
      for (int j = 0; j < taps.count; ++j)
        row_sum += taps.weights[j] * row[mirrored(x * scale + taps.first + j, in_width)];
      sum += taps.weights[i] * row_sum;
    }
    out[(plane * height + y) * width + x] = sum;
  }
}

cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

Tensor blur_downsample_cuda(const Tensor& hr, const Tensor& kernel, int64_t scale) {
  STD_TORCH_CHECK(hr.is_cuda() && kernel.is_cuda() && hr.get_device_index() == kernel.get_device_index(),
                  "blur_downsample: expected hr and kernel on the same GPU");
  const torch::stable::accelerator::DeviceGuard guard(hr.get_device_index());
  return with_checked(hr, kernel, scale, [](auto zero, const Tensor& images, const Tensor& kernels, int s, Tensor& out) {
    using T = decltype(zero);
    const int64_t planes = images.size(0) * images.size(1);
    const int height = images.size(2), width = images.size(3);
    const cudaStream_t stream = current_stream(images);
    Tensor blurred = torch::stable::new_empty(images, images.sizes());
    T* middle = static_cast<T*>(blurred.mutable_data_ptr());
    blur<T><<<grid_of(planes, height, width), kTile, 0, stream>>>(
        static_cast<const T*>(images.const_data_ptr()), static_cast<const T*>(kernels.const_data_ptr()), middle, planes,
        static_cast<int>(images.size(1)), height, width, static_cast<int>(kernels.size(1)));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    downsample<T><<<grid_of(planes, height / s, width / s), kTile, 0, stream>>>(
        middle, static_cast<T*>(out.mutable_data_ptr()), planes, height / s, width / s, s, downsample_taps<T>(s));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
}

}  // namespace
}  // namespace dan_fast

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CUDA, m) {
  m.impl("blur_downsample", TORCH_BOX(&dan_fast::blur_downsample_cuda));
}
