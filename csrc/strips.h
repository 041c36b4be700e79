// Blocks of convolutions, one after the other, on images that are cut into strips of tile rows, one for each thread.
//
// For every block a strip does a few things, and between them all strips wait for each other. Of two convolutions the
// first leads where a neighbour needs it or where the second begins, while the block's input is still everywhere what
// it was. Then both go down the strip, the first some rows before the second, which may change what the first has read.
// So the rows between the two are few and stay in a cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "conv3x3.h"

namespace dan_fast {

// Floats on a cache line's boundary, all zero.
class Floats {
 public:
  explicit Floats(int64_t count)
      : count_(count), data_(static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{64}))) {
    std::fill_n(data_.get(), count, 0.0f);
  }
  float* get() const { return data_.get(); }
  int64_t count() const { return count_; }

 private:
  struct Delete {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t{64}); }
  };
  int64_t count_;
  std::unique_ptr<float, Delete> data_;
};

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
  explicit StripMemory(int64_t workspace) : workspace(workspace) {}

  void restart() { taken_ = 0; }

  // Of at least so many floats.
  float* take(int64_t count) {
    if (taken_ == parts_.size()) parts_.push_back(nullptr);
    std::unique_ptr<Floats>& part = parts_[taken_++];
    if (!part || part->count() < count) part = std::make_unique<Floats>(count);
    return part->get();
  }

  const Floats workspace;

 private:
  size_t taken_ = 0;
  std::vector<std::unique_ptr<Floats>> parts_;
};

// Tile rows first <= r < last of an image.
class Strip {
 public:
  Strip(int64_t first, int64_t last, int height, int width, StripMemory& memory)
      : first_(first), last_(last), height_(height), width_(width), memory_(memory),
        step_(std::max<int64_t>(1, kTilesAStep / tiles_along(width))) {
    memory.restart();
  }

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
    path(conv, first * along, last * along, memory_.workspace.get());
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
  StripMemory& memory_;
  int64_t step_;
  int64_t done_[2] = {};
};

// `make(n)` makes image n: a pointer to what has place(strip), which gives a new strip its memory, and run(phase, strip,
// block) for phase < phases. `parallel(count, run)` calls run(n) for every n < count, in any order or at once, on
// `threads` threads. Each has `workspace` floats.
template <typename Make, typename Parallel>
void run_blocks(int64_t batch, int height, int width, int blocks, int phases, int64_t workspace, int threads,
                const Make& make, const Parallel& parallel) {
  const int64_t rows = tiles_along(height), most = std::min<int64_t>(threads, batch * rows);
  std::vector<std::unique_ptr<StripMemory>> memories;
  for (int64_t n = 0; n < most; ++n) memories.push_back(std::make_unique<StripMemory>(workspace));

  // As many images at once as there are threads: each has one strip, or with fewer images several.
  for (int64_t done = 0, count; done < batch; done += count) {
    count = std::min(batch - done, most);
    std::vector<decltype(make(0))> images;
    std::vector<Strip> strips;
    std::vector<int64_t> image_of;
    for (int64_t n = 0; n < count; ++n) {
      images.push_back(make(done + n));
      const int64_t first = most * n / count, own = std::min(most * (n + 1) / count - first, rows);
      for (int64_t m = 0; m < own; ++m) {
        strips.emplace_back(rows * m / own, rows * (m + 1) / own, height, width, *memories[first + m]);
        images.back()->place(strips.back());
        image_of.push_back(n);
      }
    }
    for (int block = 0; block < blocks; ++block)
      for (int phase = 0; phase < phases; ++phase)
        parallel(strips.size(), [&](int64_t n) { images[image_of[n]]->run(phase, strips[n], block); });
  }
}

}  // namespace dan_fast
