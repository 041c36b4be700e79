// Strips of an image: some of its tile rows, on which a thread runs the convolutions of a block.
//
// A block has two convolutions, or two pairs of them. The first one leads where a neighbour needs it or where the second
// begins, while the block's input is still everywhere what it was. Then both go down the strip, the first some rows
// before the second, which may change what the first has read. So the rows between the two are few and stay in a cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "../common/floats.h"
#include "conv3x3.h"

namespace dan_fast::conv3x3 {

// The rows of an image from number -1 on, as convolutions read them. Those outside the image are `zero`.
class Rows {
 public:
  Rows(int height, float* zero) : rows_(4 * tiles_along(height) + 2, zero) {}
  // Of an image that lies in one piece, `pitch` floats a row.
  Rows(int height, float* zero, float* image, int64_t pitch) : Rows(height, zero) {
    for (int64_t y = 0; y < height; ++y) rows_[1 + y] = image + y * pitch;
  }
  float** get() { return rows_.data() + 1; }

 private:
  std::vector<float*> rows_;
};

// Memory of one strip; used again for the next image.
class StripMemory {
 public:
  void restart() { taken_ = 0; }

  // At least `count` floats.
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
  // workspace: floats that a thread needs for any of the convolutions, conv3x3_workspace().
  Strip(int64_t first, int64_t last, int height, int width, int64_t workspace, StripMemory& memory)
      : first_(first), last_(last), height_(height), width_(width), workspace_(workspace), memory_(memory) {
    const int64_t steps = (last - first + most_rows_a_step(width) - 1) / most_rows_a_step(width);
    step_ = (last - first + steps - 1) / steps;
    memory.restart();
  }

  // Tile rows that both convolutions run on in turn, at most.
  static int64_t most_rows_a_step(int width) { return std::max<int64_t>(1, kTilesAStep / tiles_along(width)); }

  // Hangs memory for the rows between two convolutions into `rows`, the table of the image.
  void place_between(float** rows, int channels) {
    const int64_t ring = std::max<int64_t>(1, std::min(last_ - first_ - 2, step_ + 2));
    // Neighbours read the first and the last row any time.
    place(rows, channels, 2 + ring, [&](int64_t r) {
      return r == first_ ? 0 : r == last_ - 1 ? 1 : 2 + (r - first_ - 1) % ring;
    });
  }

  // The same for what the steps of for_each_step() do not read of each other.
  void place_step(float** rows, int channels) {
    place(rows, channels, std::min(step_, last_ - first_), [&](int64_t r) { return (r - first_) % step_; });
  }

  // Of the first of two convolutions what must be there before the second begins anywhere. `chain`: there may be two
  // such pairs.
  void lead(const Conv3x3& conv, Conv3x3Path path, int chain = 0) {
    done_[chain] = std::min(first_ + step_ + 1, last_);
    run(conv, path, first_, done_[chain]);
    if (done_[chain] < last_) run(conv, path, last_ - 1, last_);
  }

  // And what the second needs for the tile rows before `end`.
  void reach(const Conv3x3& conv, Conv3x3Path path, int64_t end, int chain = 0) {
    const int64_t needed = std::min(end + 1, last_ - 1);
    if (needed <= done_[chain]) return;
    run(conv, path, done_[chain], needed);
    done_[chain] = needed;
  }

  // call(r, end): down the strip, some tile rows at a time.
  template <typename Call>
  void for_each_step(const Call& call) const {
    for (int64_t r = first_; r < last_; r += step_) call(r, std::min(r + step_, last_));
  }

  void run(const Conv3x3& conv, Conv3x3Path path, int64_t first, int64_t last) const {
    const int64_t along = tiles_along(conv.width);
    path(conv, first * along, last * along, memory_of_this_thread(workspace_));
  }

  // Pixel rows of tile row r, and of all.
  int64_t begin(int64_t r) const { return 4 * r; }
  int64_t end(int64_t r) const { return std::min<int64_t>(4 * r + 4, height_); }
  int64_t begin() const { return begin(first_); }
  int64_t end() const { return end(last_ - 1); }

 private:
  static constexpr int64_t kTilesAStep = 96;

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
