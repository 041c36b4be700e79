// dan_fast::blur_downsample: every image correlated with its own kernel (reflected border), then shrunk
// by an antialiased bicubic filter (mirrored border). This file: the schema and the CPU implementation.

#include "checks.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <torch/csrc/stable/library.h>

#include "axis.h"
#include "direct.h"
#include "separable.h"

namespace dan_fast::blur_downsample {
namespace {

// The filters of one image: separable ones if its kernel allows that, else direct ones.
template <typename T>
struct Filters {
  std::optional<SeparableFilters<T>> separable;
  std::optional<DirectFilters<T>> direct;

  void compose(const T* kernel, int k, const Axis& down, const Axis& across) {
    const Factors factors = factorise(kernel, k);
    if (!factors.down.empty()) {
      separable.emplace(factors, down, across);
      return;
    }
    Matrix<T> matrix(k, k);
    std::copy_n(kernel, k * k, matrix.row(0));
    direct.emplace(matrix, down, across);
  }
};

// An output plane is computed in parts that any thread may take: blocks of rows inside, and the outputs at the borders.
// The parts do not depend on the number of threads, so neither do the results.
template <typename T>
class Parts {
 public:
  Parts(const Axis& down, const Axis& across, int64_t planes)
      : down_(down), across_(across), units_((down.end - down.begin + kUnit - 1) / kUnit),
        blocks_((units_ + most_units(planes) - 1) / most_units(planes)), separable_(down, across),
        direct_(down, across) {}

  int count() const { return blocks_ + 4; }

  void compute(const Filters<T>& filters, const Plane<T>& plane, int part, T* out) {
    if (part < blocks_) {
      const int begin = down_.begin + units_ * part / blocks_ * kUnit;
      const int end = std::min(down_.begin + units_ * (part + 1) / blocks_ * kUnit, down_.end);
      if (filters.separable) separable_.inside(*filters.separable, plane, begin, end, out);
      else direct_.inside(*filters.direct, plane, begin, end, out);
    } else if (filters.separable) {
      const auto& f = *filters.separable;
      if (part == blocks_) separable_.border_rows(f, f.down.low, plane, down_.low, out);
      if (part == blocks_ + 1) separable_.border_rows(f, f.down.high, plane, down_.high, out);
    } else {
      const auto& f = *filters.direct;
      if (part == blocks_) top_or_bottom(f.top, f.k, plane, down_.low, out);
      if (part == blocks_ + 1) top_or_bottom(f.bottom, f.k, plane, down_.high, out);
      if (part == blocks_ + 2) direct_.border_columns(f.left, f.k, plane, across_.low, out);
      if (part == blocks_ + 3) direct_.border_columns(f.right, f.k, plane, across_.high, out);
    }
  }

 private:
  static constexpr int kUnit = 12;  // rows

  // The most units per block. Blocks overlap in what they read, so they are small only where there are few planes.
  static int most_units(int64_t planes) { return planes < 8 ? 3 : 6; }

  void top_or_bottom(const BorderFilters<T>& filters, int k, const Plane<T>& plane, const Border& border, T* out) {
    direct_.border_rows(filters, k, plane, border, out);
    direct_.corner(filters, k, plane, border, across_.low, out);
    direct_.corner(filters, k, plane, border, across_.high, out);
  }

  const Axis& down_;
  const Axis& across_;
  int units_;
  int blocks_;
  Separable<T> separable_;
  Direct<T> direct_;
};

// images (B, C, H, W), kernels (B, k, k) -> out (B, C, H / scale, W / scale), all contiguous.
template <typename T>
void blur_downsample(const Tensor& images, const Tensor& kernels, int scale, Tensor& out) {
  const int64_t batch = images.size(0), channels = images.size(1);
  const int height = images.size(2), width = images.size(3), k = kernels.size(1);
  const Axis down = make_axis(height, scale), across = make_axis(width, scale);
  const T* in = static_cast<const T*>(images.const_data_ptr());
  const T* kernel = static_cast<const T*>(kernels.const_data_ptr());
  T* to = static_cast<T*>(out.mutable_data_ptr());

  std::vector<Filters<T>> filters(batch);
  torch::stable::parallel_for(0, batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) filters[b].compose(kernel + b * k * k, k, down, across);
  });

  const int parts = Parts<T>(down, across, batch * channels).count();
  torch::stable::parallel_for(0, batch * channels * parts, 1, [&](int64_t begin, int64_t end) {
    Parts<T> worker(down, across, batch * channels);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t plane = i / parts;
      worker.compute(filters[plane / channels], {in + plane * height * width, height, width},
                     static_cast<int>(i % parts), to + plane * down.outputs() * across.outputs());
    }
  });
}

Tensor blur_downsample_cpu(const Tensor& hr, const Tensor& kernel, int64_t scale) {
  STD_TORCH_CHECK(hr.is_cpu() && kernel.is_cpu(), "blur_downsample: expected hr and kernel on the CPU");
  return with_checked(hr, kernel, scale, [](auto zero, const Tensor& images, const Tensor& kernels, int s,
                                                    Tensor& out) {
    blur_downsample<decltype(zero)>(images, kernels, s, out);
  });
}

}  // namespace
}  // namespace dan_fast::blur_downsample

STABLE_TORCH_LIBRARY(dan_fast, m) {
  m.def("blur_downsample_cpp(Tensor hr, Tensor kernel, int scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(dan_fast, CPU, m) {
  m.impl("blur_downsample_cpp", TORCH_BOX(&dan_fast::blur_downsample::blur_downsample_cpu));
}
