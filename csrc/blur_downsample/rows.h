// Input of correlate(): rows of a plane with the blur's border, and with every scale-th pixel side by side,
// so that the inputs of neighbouring outputs are neighbours too.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "../common/compiler.h"
#include "../common/vectors.h"
#include "borders.h"
#include "correlate.h"

namespace dan_fast::blur_downsample {

template <typename T>
struct Plane {
  const T* pixels;
  int height;
  int width;
};

// out[phase * pitch + i] = in[i * scale + phase] for i < count.
void split(int scale, const float* in, int64_t count, float* out, int64_t pitch);
void split(int scale, const double* in, int64_t count, double* out, int64_t pitch);

// Each thread keeps one, and with it its memory.
template <typename T>
class Rows {
 public:
  // Loads the columns x to x + columns of `rows` rows from row y on; pixels outside the plane are reflected ones.
  void load(const Plane<T>& plane, int y, int rows, int x, int columns, int scale) {
    shape(rows, columns, scale);
    // The whole groups of `scale` columns inside the plane.
    const int low = std::min(x < 0 ? (scale - 1 - x) / scale : 0, columns / scale);
    const int high = std::max(std::min((plane.width - x) / scale, columns / scale), low);
    for (int r = 0; r < rows; ++r) {
      const T* in = plane.pixels + int64_t{reflected(y + r, plane.height)} * plane.width;
      T* out = data_.data() + r * pitch_;
      const auto copy = [&](int from, int to) {
        for (int c = from; c < to; ++c) out[offsets_[c]] = in[reflected(x + c, plane.width)];
      };
      copy(0, low * scale);
      split(scale, in + x + low * scale, high - low, out + low, quotient_);
      copy(high * scale, columns);
    }
  }

  // The same for the transposed plane: y and rows count across, x and columns down.
  void load_transposed(const Plane<T>& plane, int y, int rows, int x, int columns, int scale) {
    shape(rows, columns, scale);
    from_.resize(rows);
    for (int r = 0; r < rows; ++r) from_[r] = reflected(y + r, plane.width);
    const auto row = [&](int c) { return plane.pixels + int64_t{reflected(x + c, plane.height)} * plane.width; };
    for (int phase = 0; phase < std::min(scale, columns); ++phase) {
      T* out = data_.data() + offsets_[phase];
      const int count = (columns - phase + scale - 1) / scale;
      int i = 0;
      for (; i + 4 <= count; i += 4) {  // four at a time write one piece of memory
        const int c = i * scale + phase;
        const T* in[] = {row(c), row(c + scale), row(c + 2 * scale), row(c + 3 * scale)};
        int r = 0;
        for (; r + 4 <= rows; r += 4) {
          if (from_[r + 3] - from_[r] == 3) {
            const T* corner[] = {in[0] + from_[r], in[1] + from_[r], in[2] + from_[r], in[3] + from_[r]};
            transpose_4x4(corner, out + r * pitch_ + i, pitch_);
          } else {
            for (int s = r; s < r + 4; ++s)
              for (int n = 0; n < 4; ++n) out[s * pitch_ + i + n] = in[n][from_[s]];
          }
        }
        for (; r < rows; ++r)
          for (int n = 0; n < 4; ++n) out[r * pitch_ + i + n] = in[n][from_[r]];
      }
      for (; i < count; ++i)
        for (int r = 0; r < rows; ++r) out[r * pitch_ + i] = row(i * scale + phase)[from_[r]];
    }
  }

  // Uses rows where they lie, without copying them.
  void point_at(const Plane<T>& plane, int y, int rows) {
    pointers_.resize(rows);
    for (int r = 0; r < rows; ++r)
      pointers_[r] = plane.pixels + int64_t{reflected(y + r, plane.height)} * plane.width;
    offsets_.assign(1, 0);
    // correlate() goes down many rows at once, which no processor prefetches by itself.
    for (const T* row : pointers_)
      for (int64_t x = 0; x < plane.width; x += 64 / sizeof(T)) DAN_FAST_PREFETCH_2(row + x);
  }

  // For correlate(): the rows, and where tap u of a filter is in them.
  const T* const* pointers() const { return pointers_.data(); }
  const int64_t* offsets() const { return offsets_.data(); }

 private:
  void shape(int rows, int columns, int scale) {
    quotient_ = (columns + scale - 1) / scale;
    pitch_ = int64_t{quotient_} * scale;
    data_.resize(std::max<size_t>(data_.size(), rows * pitch_));
    pointers_.resize(rows);
    for (int r = 0; r < rows; ++r) pointers_[r] = data_.data() + r * pitch_;
    offsets_.resize(columns);
    for (int c = 0; c < columns; ++c) offsets_[c] = int64_t{c % scale} * quotient_ + c / scale;
  }

  int quotient_ = 0;
  int64_t pitch_ = 0;
  std::vector<T> data_;
  std::vector<const T*> pointers_;
  std::vector<int64_t> offsets_;
  std::vector<int> from_;
};

}  // namespace dan_fast::blur_downsample
