// One convolution of all images of a batch, on torch's threads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "checks.h"
#include "strips.h"

namespace dan_fast::conv3x3 {

// The tables of rows of a batch of images (B, H, W, C), with zeros around them.
class ImageRows {
 public:
  explicit ImageRows(const Tensor& images)
      : pitch_(images.size(2) * images.size(3)), zero_(pitch_) {
    const int64_t height = images.size(1);
    float* const first = const_cast<float*>(data(images));
    for (int64_t n = 0; n < images.size(0); ++n)
      rows_.emplace_back(static_cast<int>(height), zero_.get(), first + n * height * pitch_, pitch_);
  }

  float** of(int64_t image) { return rows_[image].get(); }

 private:
  int64_t pitch_;
  Floats zero_;
  std::vector<RowTable> rows_;
};

// Runs the convolutions make(n) of all images n, all of one shape. Tiles are divided evenly among threads; one thread
// may get tiles of several images.
template <typename Make>
void convolve_batch(int64_t batch, const Make& make) {
  const Conv3x3 any = make(0);
  const Conv3x3Path path = conv3x3_path(any.in_channels);
  const int64_t tiles = tiles_along(any.height) * tiles_along(any.width);
  const int64_t parts = std::min<int64_t>(threads(), batch * tiles);
  in_parallel(parts, [&](int64_t part) {
    float* const workspace = memory_of_this_thread(conv3x3_workspace(any.in_channels));
    const int64_t begin = batch * tiles * part / parts, end = batch * tiles * (part + 1) / parts;
    for (int64_t n = begin / tiles; n * tiles < end; ++n)
      path(make(n), std::max<int64_t>(begin - n * tiles, 0), std::min(end - n * tiles, tiles), workspace);
  });
}

}  // namespace dan_fast::conv3x3
