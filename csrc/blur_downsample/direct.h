// Any kernel: blur and downsampling composed to one filter of (k + 4 * scale - 1)^2 taps.
//
// At a border the two steps continue the image differently, so the outputs whose downsampling taps leave it
// (two on each side) have filters of their own, with the mirrored taps folded in.
#pragma once

#include <algorithm>
#include <vector>

#include "axis.h"
#include "correlate.h"
#include "matrix.h"
#include "workspace.h"

namespace dan_fast::blur_downsample {

// The filter that does the work of two: `in`, then a column of `count` weights. It has count - 1 rows more than `in`.
template <typename T>
Matrix<T> compose_down(const Matrix<T>& in, const double* weights, int count) {
  const std::vector<T> zeros(in.width);
  std::vector<const T*> rows(in.height + 2 * (count - 1), zeros.data());
  for (int y = 0; y < in.height; ++y) rows[count - 1 + y] = in.row(y);
  std::vector<T> taps(count);
  for (int t = 0; t < count; ++t) taps[t] = static_cast<T>(weights[count - 1 - t]);
  const int64_t offset = 0;
  Matrix<T> out(in.height + count - 1, in.width);
  correlate({taps.data(), count, 1, &offset}, rows.data(), 1, out.height, out.width, out.row(0), out.width);
  return out;
}

// The same for each output of a border: their filters below one another.
template <typename T>
Matrix<T> compose_down(const Matrix<T>& in, const Border& border) {
  Matrix<T> out(0, in.width);
  for (int j = 0; j < border.count(); ++j) {
    const Matrix<T> one = compose_down(in, border.weights.data() + j * border.size, border.size);
    out.height += one.height;
    out.values.insert(out.values.end(), one.values.begin(), one.values.end());
  }
  return out;
}

template <typename T>
Matrix<T> compose_across(const Matrix<T>& in, const std::vector<double>& weights) {
  return transposed(compose_down(transposed(in), weights.data(), static_cast<int>(weights.size())));
}

// The filters of one border: one of size + k - 1 rows per output, below one another.
template <typename T>
struct BorderFilters {
  Matrix<T> down;  // composed with the downsampling across the border only: k wide
  Matrix<T> both;  // composed with the downsampling along the border too
};

template <typename T>
struct DirectFilters {
  int k;
  FastFilters<T> inside;
  BorderFilters<T> top, bottom, left, right;  // left and right: transposed

  DirectFilters(const Matrix<T>& kernel, const Axis& down, const Axis& across) : k(kernel.height) {
    const Matrix<T> turned = transposed(kernel);
    const auto at_border = [](const Matrix<T>& in, const Border& border, const Axis& along) {
      BorderFilters<T> out{compose_down(in, border), {}};
      out.both = compose_across(out.down, along.weights);
      return out;
    };
    const Matrix<T> both = compose_across(
        compose_down(kernel, down.weights.data(), static_cast<int>(down.weights.size())), across.weights);
    inside = FastFilters<T>(both, down.scale, across.scale);
    top = at_border(kernel, down.low, across);
    bottom = at_border(kernel, down.high, across);
    left = at_border(turned, across.low, down);
    right = at_border(turned, across.high, down);
  }
};

// Computes parts of an output plane.
template <typename T>
class Direct {
 public:
  Direct(const Axis& down, const Axis& across) : down_(down), across_(across) {}

  // Computes the output rows `begin` to `end`, none of them at a border, without the columns at a border.
  void inside(const DirectFilters<T>& filters, const Plane<T>& plane, int begin, int end, T* out) {
    for_tiles(across_, [&](int x, int columns) {
      fast_.run(filters.inside, plane, begin * down_.scale + down_.first - filters.k / 2, end - begin, down_.scale,
                x * across_.scale + across_.first - filters.k / 2, columns, across_.scale,
                out + int64_t{begin} * across_.outputs() + x, across_.outputs());
    });
  }

  // Computes the output rows of a border, without the columns at a border.
  void border_rows(const BorderFilters<T>& filters, int k, const Plane<T>& plane, const Border& border, T* out) {
    if (border.count() == 0) return;
    const int height = border.size + k - 1, width = filters.both.width;
    for_tiles(across_, [&](int x, int columns) {
      rows_.load(plane, border.first - k / 2, height, x * across_.scale + across_.first - k / 2,
                 (columns - 1) * across_.scale + width, across_.scale);
      correlate({filters.both.row(0), height, width, rows_.offsets()}, rows_.pointers(), 0, border.count(), columns,
                out + int64_t{border.begin} * across_.outputs() + x, across_.outputs());
    });
  }

  // Computes the output columns of a border, without the rows at a border.
  void border_columns(const BorderFilters<T>& filters, int k, const Plane<T>& plane, const Border& border, T* out) {
    if (border.count() == 0) return;
    const int height = border.size + k - 1, width = filters.both.width;
    for_tiles(down_, [&](int y, int rows) {
      rows_.load_transposed(plane, border.first - k / 2, height, y * down_.scale + down_.first - k / 2,
                            (rows - 1) * down_.scale + width, down_.scale);
      border_.resize(std::max<size_t>(border_.size(), border.count() * rows));
      correlate({filters.both.row(0), height, width, rows_.offsets()}, rows_.pointers(), 0, border.count(), rows,
                border_.data(), rows);
      for (int i = 0; i < border.count(); ++i)
        for (int j = 0; j < rows; ++j)
          out[int64_t{y + j} * across_.outputs() + border.begin + i] = border_[i * rows + j];
    });
  }

  // Computes the pixels where two borders meet.
  void corner(const BorderFilters<T>& filters, int k, const Plane<T>& plane, const Border& rows, const Border& columns,
              T* out) {
    if (rows.count() == 0 || columns.count() == 0) return;
    // Blurred columns that the corner reads, or a few more, so that they fill a vector.
    const int first = std::max(0, std::min(columns.first, plane.width - 16));
    const int size = std::min(plane.width, std::max(columns.first + columns.size, first + 16)) - first;
    const int height = rows.size + k - 1;
    rows_.load(plane, rows.first - k / 2, height, first - k / 2, size + k - 1, 1);
    border_.resize(std::max<size_t>(border_.size(), rows.count() * size));
    correlate({filters.down.row(0), height, k, rows_.offsets()}, rows_.pointers(), 0, rows.count(), size,
              border_.data(), size);
    for (int j = 0; j < rows.count(); ++j)
      for (int i = 0; i < columns.count(); ++i) {
        double sum = 0;
        for (int t = 0; t < columns.size; ++t)
          sum += columns.weights[i * columns.size + t] * border_[j * size + columns.first - first + t];
        out[int64_t{rows.begin + j} * across_.outputs() + columns.begin + i] = static_cast<T>(sum);
      }
  }

 private:
  // Calls run(start, count) for equal parts of the outputs inside, so narrow that their input stays in the cache.
  template <typename Run>
  static void for_tiles(const Axis& axis, const Run& run) {
    const int64_t count = axis.end - axis.begin, tiles = (count + 127) / 128;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int begin = static_cast<int>(count * tile / tiles), end = static_cast<int>(count * (tile + 1) / tiles);
      run(axis.begin + begin, end - begin);
    }
  }

  const Axis& down_;
  const Axis& across_;
  FastFir<T>& fast_ = Workspace<T>::of_this_thread().fast;
  Rows<T>& rows_ = Workspace<T>::of_this_thread().rows;
  std::vector<T>& border_ = Workspace<T>::of_this_thread().border;
};

}  // namespace dan_fast::blur_downsample
