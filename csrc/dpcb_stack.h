// Dual-path conditional blocks, one after the other, in place: x <- x + scale * (conv(leaky ReLU(conv(x))) + bias).
//
// An image is cut into strips of tile rows, one for each thread. For every block a strip does two things, and between
// them all strips wait for each other. lead(): the first convolution where a neighbour needs it or where the second
// begins, while x is still everywhere the block's input. follow(): down the strip, the second convolution, which
// changes x, and some rows before it the first. So the rows between the two convolutions are few and stay in a cache.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "conv3x3.h"

namespace dan_fast {

// Floats on a cache line's boundary, all zero.
class Floats {
 public:
  explicit Floats(int64_t count)
      : data_(static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{64}))) {
    std::fill_n(data_.get(), count, 0.0f);
  }
  float* get() const { return data_.get(); }

 private:
  struct Delete {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t{64}); }
  };
  std::unique_ptr<float, Delete> data_;
};

struct DpcbStack {
  int channels;
  int blocks;
  int group;              // blocks of a group, at whose end x is doubled, or has what it was at its start added
  bool doubled;
  const float* packed;    // for each block, twice: pack_conv3x3() and the bias

  int64_t convolution() const { return packed_conv3x3(channels) + channels; }
};

// Memory of one strip; used again for the next image.
class StripMemory {
 public:
  explicit StripMemory(int channels) : size(conv3x3_workspace(channels)), workspace(size.floats) {}

  // Of at least so many floats; what was there is lost.
  float* between(int64_t count) {
    if (count > count_) between_ = std::make_unique<Floats>(count_ = count);
    return between_->get();
  }

  const Workspace size;
  const Floats workspace;

 private:
  int64_t count_ = 0;
  std::unique_ptr<Floats> between_;
};

// Tile rows first <= r < last of an image.
class Strip {
 public:
  Strip(int64_t first, int64_t last, StripMemory& memory) : first_(first), last_(last), memory_(memory) {}

  // Hangs the memory of its rows between the convolutions into `between`, the row table of the image.
  void place(int channels, int height, int width, float** between) {
    const int64_t row = int64_t{width} * channels, tile_row = 4 * row, inner = last_ - first_ - 2;
    step_ = std::max<int64_t>(1, kTilesAStep / tiles_along(width));
    const int64_t ring = std::max<int64_t>(1, std::min(inner, step_ + 2));
    float* memory = memory_.between((2 + ring) * tile_row);
    for (int64_t r = first_; r < last_; ++r) {
      // Neighbours read the first and the last row any time.
      const int64_t slot = r == first_ ? 0 : r == last_ - 1 ? 1 : 2 + (r - first_ - 1) % ring;
      for (int64_t y = 4 * r; y < std::min<int64_t>(4 * r + 4, height); ++y)
        between[y] = memory + slot * tile_row + (y - 4 * r) * row;
    }
  }

  void lead(const Conv3x3& conv, Conv3x3Path path) {
    done_ = std::min(first_ + step_ + 1, last_);
    run(conv, path, first_, done_);
    if (done_ < last_) run(conv, path, last_ - 1, last_);
  }

  void follow(const Conv3x3& one, const Conv3x3& two, Conv3x3Path path) {
    for (int64_t r = first_; r < last_; r += step_) {
      const int64_t end = std::min(r + step_, last_), needed = std::min(end + 1, last_ - 1);
      if (needed > done_) {
        run(one, path, done_, needed);
        done_ = needed;
      }
      run(two, path, r, end);
    }
  }

  // Pixel rows.
  int64_t begin() const { return 4 * first_; }
  int64_t end(int height) const { return std::min<int64_t>(4 * last_, height); }

 private:
  static constexpr int64_t kTilesAStep = 96;

  void run(const Conv3x3& conv, Conv3x3Path path, int64_t first, int64_t last) {
    const int64_t along = tiles_along(conv.width);
    path(conv, first * along, last * along, memory_.size, memory_.workspace.get());
  }

  int64_t first_, last_;
  StripMemory& memory_;
  int64_t step_ = 1;
  int64_t done_ = 0;
};

// One image and its strips.
class DpcbImage {
 public:
  // x (height, width, channels): the image, which becomes the result. scales (blocks, channels). zero: a row of zeros.
  DpcbImage(const DpcbStack& stack, int height, int width, float* x, const float* scales, float* zero)
      : stack_(stack), height_(height), width_(width), scales_(scales), x_(table(zero)), between_(table(zero)) {
    for (int64_t y = 0; y < height; ++y) x_[1 + y] = x + y * width * stack.channels;
    if (!stack.doubled) {
      entry_memory_ = std::make_unique<Floats>(int64_t{height} * width * stack.channels);
      entry_ = table(zero);
      for (int64_t y = 0; y < height; ++y) entry_[1 + y] = entry_memory_->get() + y * width * stack.channels;
    }
  }

  // One for each memory, or as many as there are tile rows.
  void cut(const std::vector<StripMemory*>& memories) {
    const int64_t rows = tiles_along(height_), count = std::min<int64_t>(memories.size(), rows);
    for (int64_t n = 0; n < count; ++n) {
      strips_.emplace_back(rows * n / count, rows * (n + 1) / count, *memories[n]);
      strips_.back().place(stack_.channels, height_, width_, between_.data() + 1);
    }
  }

  std::vector<Strip>& strips() { return strips_; }

  void lead(Strip& strip, int block, Conv3x3Path path) {
    if (!stack_.doubled && block % stack_.group == 0)
      for (int64_t y = strip.begin(); y < strip.end(height_); ++y)
        std::memcpy(entry_[1 + y], x_[1 + y], sizeof(float) * width_ * stack_.channels);
    strip.lead(first(block), path);
  }

  void follow(Strip& strip, int block, Conv3x3Path path) { strip.follow(first(block), second(block), path); }

 private:
  std::vector<float*> table(float* zero) const { return std::vector<float*>(4 * tiles_along(height_) + 2, zero); }

  Conv3x3 first(int block) const { return convolution(2 * block, x_, between_); }

  Conv3x3 second(int block) const {
    Conv3x3 conv = convolution(2 * block + 1, between_, x_);
    conv.scale = scales_ + int64_t{block} * stack_.channels;
    if (block % stack_.group == stack_.group - 1) {
      if (stack_.doubled) conv.factor = 2;
      else conv.entry = entry_.data() + 1;
    }
    return conv;
  }

  Conv3x3 convolution(int number, const std::vector<float*>& in, const std::vector<float*>& out) const {
    const float* weights = stack_.packed + number * stack_.convolution();
    return {height_, width_, in.data() + 1, out.data() + 1, weights, weights + packed_conv3x3(stack_.channels),
            nullptr, 1, nullptr};
  }

  const DpcbStack& stack_;
  const int height_, width_;
  const float* const scales_;
  // Row y is at 1 + y.
  std::vector<float*> x_, between_, entry_;
  std::unique_ptr<Floats> entry_memory_;
  std::vector<Strip> strips_;
};

// All images x (batch, height, width, channels) in place, with scales (batch, blocks, channels). `parallel(count, run)`
// calls run(n) for every n < count, in any order or at once, on `threads` threads.
template <typename Parallel>
void dpcb_stack(const DpcbStack& stack, int64_t batch, int height, int width, float* x, const float* scales,
                int threads, Conv3x3Path path, const Parallel& parallel) {
  const int64_t most = std::min<int64_t>(threads, batch * tiles_along(height));
  std::vector<std::unique_ptr<StripMemory>> memories;
  for (int64_t n = 0; n < most; ++n) memories.push_back(std::make_unique<StripMemory>(stack.channels));
  const Floats zero(int64_t{width} * stack.channels);

  // As many images at once as there are threads: each has one strip, or with fewer images several.
  for (int64_t done = 0, count; done < batch; done += count) {
    count = std::min(batch - done, most);
    std::vector<std::unique_ptr<DpcbImage>> images;
    std::vector<std::pair<DpcbImage*, Strip*>> strips;
    for (int64_t n = 0; n < count; ++n) {
      const int64_t image = done + n;
      images.push_back(std::make_unique<DpcbImage>(stack, height, width,
                                                   x + image * height * width * stack.channels,
                                                   scales + image * stack.blocks * stack.channels, zero.get()));
      std::vector<StripMemory*> own;
      for (int64_t m = most * n / count; m < most * (n + 1) / count; ++m) own.push_back(memories[m].get());
      images.back()->cut(own);
      for (Strip& strip : images.back()->strips()) strips.emplace_back(images.back().get(), &strip);
    }
    for (int block = 0; block < stack.blocks; ++block) {
      parallel(strips.size(), [&](int64_t n) { strips[n].first->lead(*strips[n].second, block, path); });
      parallel(strips.size(), [&](int64_t n) { strips[n].first->follow(*strips[n].second, block, path); });
    }
  }
}

}  // namespace dan_fast
