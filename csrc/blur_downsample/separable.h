// Kernels of rank 1, isotropic Gaussians for example: one composed filter down, one across.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "axis.h"
#include "correlate.h"
#include "workspace.h"

namespace dan_fast::blur_downsample {

// kernel[y][x] = down[y] * across[x].
struct Factors {
  std::vector<double> down;
  std::vector<double> across;
};

// How far the factors may be from a kernel of T: the sum of all differences over the sum of all taps, both
// absolute. A few roundings of T and far from visible: it changes an output by at most 1.5 times this (the
// downsampling's weights have an absolute sum of at most 1.19 per axis) times that sum of taps, 1 for a
// blur, times the brightest pixel: 6e-7 of it in float.
template <typename T>
constexpr double kRank1Tolerance = sizeof(T) == 4 ? 4e-7 : 1e-15;

// The factors of a kernel of rank 1; empty if it has none. The sums of its rows and of its columns are its
// factors up to a constant, more precisely than any one row or column.
template <typename T>
Factors factorise(const T* kernel, int k) {
  Factors factors{std::vector<double>(k), std::vector<double>(k)};
  double sum = 0, size = 0, difference = 0;
  for (int y = 0; y < k; ++y)
    for (int x = 0; x < k; ++x) {
      factors.down[y] += kernel[y * k + x];
      factors.across[x] += kernel[y * k + x];
      sum += kernel[y * k + x];
      size += std::abs(kernel[y * k + x]);
    }
  for (double& factor : factors.across) factor /= sum;
  for (int y = 0; y < k; ++y)
    for (int x = 0; x < k; ++x) difference += std::abs(kernel[y * k + x] - factors.down[y] * factors.across[x]);
  // False for NaN too, and for a sum of 0.
  if (difference <= kRank1Tolerance<T> * size) return factors;
  return {};
}

template <typename T>
struct SeparableFilters {
  // The filters of one axis: for the outputs inside, and for those at either border, one after the other.
  struct OneAxis {
    std::vector<T> inside, low, high;

    OneAxis(const std::vector<double>& kernel, const Axis& axis) {
      compose(kernel, axis.weights.data(), static_cast<int>(axis.weights.size()), inside);
      for (const auto& [border, out] : {std::pair{&axis.low, &low}, std::pair{&axis.high, &high}})
        for (int j = 0; j < border->count(); ++j)
          compose(kernel, border->weights.data() + j * border->size, border->size, *out);
    }

    static void compose(const std::vector<double>& kernel, const double* weights, int count, std::vector<T>& out) {
      std::vector<double> taps(kernel.size() + count - 1);
      for (int t = 0; t < count; ++t)
        for (size_t i = 0; i < kernel.size(); ++i) taps[t + i] += weights[t] * kernel[i];
      out.insert(out.end(), taps.begin(), taps.end());
    }
  };

  int k;
  OneAxis down, across;
  std::vector<T> down_by_phase;  // down.inside in the order of by_phase()

  SeparableFilters(const Factors& factors, const Axis& down_axis, const Axis& across_axis)
      : k(static_cast<int>(factors.down.size())), down(factors.down, down_axis), across(factors.across, across_axis),
        down_by_phase(by_phase(down.inside.data(), static_cast<int>(down.inside.size()), 1, down_axis.scale)) {}
};

// Computes parts of an output plane.
template <typename T>
class Separable {
 public:
  Separable(const Axis& down, const Axis& across) : down_(down), across_(across) {}

  // Computes the output rows `begin` to `end`, none of them at a border.
  void inside(const SeparableFilters<T>& filters, const Plane<T>& plane, int begin, int end, T* out) {
    const int taps = static_cast<int>(filters.down.inside.size());
    for (int row = begin; row < end; row += kRows) {
      const int count = std::min(kRows, end - row);
      rows_.point_at(plane, row * down_.scale + down_.first - filters.k / 2, (count - 1) * down_.scale + taps);
      shrink_down(filters.down_by_phase, taps, down_.scale, count, plane.width);
      shrink_across(filters, count, plane.width, out + int64_t{row} * across_.outputs());
    }
  }

  // Computes the output rows of a border.
  void border_rows(const SeparableFilters<T>& filters, const std::vector<T>& taps, const Plane<T>& plane,
                   const Border& border, T* out) {
    if (border.count() == 0) return;
    rows_.point_at(plane, border.first - filters.k / 2, border.size + filters.k - 1);
    shrink_down(taps, border.size + filters.k - 1, 0, border.count(), plane.width);
    shrink_across(filters, border.count(), plane.width, out + int64_t{border.begin} * across_.outputs());
  }

 private:
  static constexpr int kRows = 36;  // output rows at a time: few enough for their input to stay in the cache

  void shrink_down(const std::vector<T>& filter, int taps, int step, int count, int width) {
    shrunk_.resize(std::max<size_t>(shrunk_.size(), int64_t{count} * width));
    correlate({filter.data(), taps, 1, rows_.offsets()}, rows_.pointers(), step, count, width, shrunk_.data(), width);
  }

  void shrink_across(const SeparableFilters<T>& filters, int count, int width, T* out) {
    const Plane<T> plane{shrunk_.data(), count, width};
    if (across_.end > across_.begin) {
      const int taps = static_cast<int>(filters.across.inside.size()), columns = across_.end - across_.begin;
      rows_.load(plane, 0, count, across_.begin * across_.scale + across_.first - filters.k / 2,
                 (columns - 1) * across_.scale + taps, across_.scale);
      correlate({filters.across.inside.data(), 1, taps, rows_.offsets()}, rows_.pointers(), 1, count, columns,
                out + across_.begin, across_.outputs());
    }
    border_columns(filters.across.low, filters.k, plane, across_.low, out);
    border_columns(filters.across.high, filters.k, plane, across_.high, out);
  }

  void border_columns(const std::vector<T>& filter, int k, const Plane<T>& plane, const Border& border, T* out) {
    if (border.count() == 0) return;
    const int taps = border.size + k - 1;
    rows_.load_transposed(plane, border.first - k / 2, taps, 0, plane.height, 1);
    border_.resize(std::max<size_t>(border_.size(), border.count() * plane.height));
    correlate({filter.data(), taps, 1, rows_.offsets()}, rows_.pointers(), 0, border.count(), plane.height,
              border_.data(), plane.height);
    for (int i = 0; i < border.count(); ++i)
      for (int j = 0; j < plane.height; ++j)
        out[int64_t{j} * across_.outputs() + border.begin + i] = border_[i * plane.height + j];
  }

  const Axis& down_;
  const Axis& across_;
  Rows<T>& rows_ = Workspace<T>::of_this_thread().rows;
  std::vector<T>& shrunk_ = Workspace<T>::of_this_thread().shrunk;
  std::vector<T>& border_ = Workspace<T>::of_this_thread().border;
};

}  // namespace dan_fast::blur_downsample
