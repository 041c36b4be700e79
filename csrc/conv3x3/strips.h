// Strips of an image: some of its tile rows, on which a thread runs the convolutions of a block.
//
// A block has two convolutions, or two pairs of them. First, while the block's input is unchanged everywhere, the first
// convolution computes the rows that neighbouring strips need and those where the second one begins. Then both go down
// the strip, the first a few rows ahead of the second, which may overwrite what the first has read already. So only few
// rows of the intermediate image exist at a time, and they stay in a cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../common/floats.h"
#include "conv3x3.h"

namespace dan_fast::conv3x3 {

// The rows of an image from number -1 on, as convolutions read them. Those outside the image are `zero`.
class RowTable {
 public:
  RowTable(int height, float* zero) : rows_(4 * tiles_along(height) + 2, zero) {}
  // The rows of an image that lies in one piece, `pitch` floats per row.
  RowTable(int height, float* zero, float* image, int64_t pitch) : RowTable(height, zero) {
    for (int64_t y = 0; y < height; ++y) rows_[1 + y] = image + y * pitch;
  }
  float** get() { return rows_.data() + 1; }

 private:
  std::vector<float*> rows_;
};

// The memory of one strip; the next image's strip uses it again.
class StripMemory {
 public:
  void restart() { taken_ = 0; }

  // Returns at least `count` floats.
  float* take(int64_t count) {
    if (taken_ == parts_.size()) parts_.push_back(nullptr);
    std::unique_ptr<Floats>& part = parts_[taken_++];
    if (!part || part->count() < count) part = std::make_unique<Floats>(count);
    return part->get();
  }

 private:
  size_t taken_ = 0;
  std::vector<std::unique_ptr<Floats>> parts_;
};

// Tile rows first <= r < last of an image.
class Strip {
 public:
  // workspace: the floats that a thread needs for any of the convolutions, conv3x3_workspace().
  Strip(int64_t first, int64_t last, int height, int width, int64_t workspace, StripMemory& memory)
      : first_(first), last_(last), height_(height), width_(width), workspace_(workspace), memory_(memory) {
    const int64_t steps = (last - first + most_rows_per_step(width) - 1) / most_rows_per_step(width);
    step_ = (last - first + steps - 1) / steps;
    memory.restart();
  }

  // The most tile rows that the two convolutions compute before they take turns.
  static int64_t most_rows_per_step(int width) { return std::max<int64_t>(1, kTilesPerStep / tiles_along(width)); }

  // Gives the strip's rows of the intermediate image memory: a ring of rows, entered into the image's table `rows`.
  void place_intermediate(float** rows, int channels) {
    const int64_t ring = std::max<int64_t>(1, std::min(last_ - first_ - 2, step_ + 2));
    // Neighbours may read the first and the last row at any time, so these have memory of their own.
    place(rows, channels, 2 + ring, [&](int64_t r) {
      return r == first_ ? 0 : r == last_ - 1 ? 1 : 2 + (r - first_ - 1) % ring;
    });
  }

  // The same for an image of which each step of for_each_step() only reads what it wrote itself.
  void place_per_step(float** rows, int channels) {
    place(rows, channels, std::min(step_, last_ - first_), [&](int64_t r) { return (r - first_) % step_; });
  }

  // Runs the part of the first convolution that neighbouring strips, or the start of the second convolution, will read.
  // `chain`: which of two independent pairs of convolutions.
  void start_first(const Conv3x3& conv, Conv3x3Path path, int chain = 0) {
    done_[chain] = std::min(first_ + step_ + 1, last_);
    run(conv, path, first_, done_[chain]);
    if (done_[chain] < last_) run(conv, path, last_ - 1, last_);
  }

  // Runs the part of the first convolution that the second one needs for the tile rows before `end`.
  void continue_first(const Conv3x3& conv, Conv3x3Path path, int64_t end, int chain = 0) {
    const int64_t needed = std::min(end + 1, last_ - 1);
    if (needed <= done_[chain]) return;
    run(conv, path, done_[chain], needed);
    done_[chain] = needed;
  }

  // Calls call(r, end) for some tile rows at a time, down the strip.
  template <typename Call>
  void for_each_step(const Call& call) const {
    for (int64_t r = first_; r < last_; r += step_) call(r, std::min(r + step_, last_));
  }

  void run(const Conv3x3& conv, Conv3x3Path path, int64_t first, int64_t last) const {
    const int64_t along = tiles_along(conv.width);
    path(conv, first * along, last * along, memory_of_this_thread(workspace_));
  }

  // The pixel rows of tile row r, and of the strip.
  int64_t begin(int64_t r) const { return 4 * r; }
  int64_t end(int64_t r) const { return std::min<int64_t>(4 * r + 4, height_); }
  int64_t begin() const { return begin(first_); }
  int64_t end() const { return end(last_ - 1); }

 private:
  static constexpr int64_t kTilesPerStep = 96;

  template <typename Slot>
  void place(float** rows, int channels, int64_t slots, const Slot& slot) {
    const int64_t row = int64_t{width_} * channels, tile_row = 4 * row;
    float* const memory = memory_.take(slots * tile_row);
    for (int64_t r = first_; r < last_; ++r)
      for (int64_t y = begin(r); y < end(r); ++y) rows[y] = memory + slot(r) * tile_row + (y - begin(r)) * row;
  }

  int64_t first_, last_;
  int height_, width_;
  int64_t workspace_;
  StripMemory& memory_;
  int64_t step_;
  int64_t done_[2] = {};
};

}  // namespace dan_fast::conv3x3
