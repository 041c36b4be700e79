// A filter of two dimensions, row after row.
#pragma once

#include <cstdint>
#include <vector>

namespace dan_fast::blur_downsample {

template <typename T>
struct Matrix {
  int height = 0;
  int width = 0;
  std::vector<T> values;

  Matrix() = default;
  Matrix(int rows, int columns) : height(rows), width(columns), values(int64_t{rows} * columns) {}
  T* row(int y) { return values.data() + int64_t{y} * width; }
  const T* row(int y) const { return values.data() + int64_t{y} * width; }
};

template <typename T>
Matrix<T> transposed(const Matrix<T>& in) {
  Matrix<T> out(in.width, in.height);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < in.width; ++x) out.row(x)[y] = in.row(y)[x];
  return out;
}

}  // namespace dan_fast::blur_downsample
