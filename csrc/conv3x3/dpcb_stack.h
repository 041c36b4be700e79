// Dual-path conditional blocks, one after the other, in place: x <- x + scale * (conv(leaky ReLU(conv(x))) + bias).
#pragma once

#include <cstring>

#include "run_blocks.h"

namespace dan_fast::conv3x3 {

struct DpcbStack {
  int channels;
  int blocks;
  int group;            // blocks of a group, at whose end x is doubled, or has what it was at its start added
  bool doubled;
  const float* packed;  // for each block, twice: pack_conv3x3() and the bias
  Conv3x3Path path;
};

class DpcbImage {
 public:
  // x (height, width, channels): the image, which becomes the result. scales (blocks, channels). zero: a row of zeros.
  DpcbImage(const DpcbStack& stack, int height, int width, float* x, const float* scales, float* zero)
      : stack_(stack), height_(height), width_(width), scales_(scales), x_(height, zero, x, pitch()),
        between_(height, zero), entry_(height, zero) {
    if (stack.doubled) return;
    entry_memory_ = std::make_unique<Floats>(height * pitch());
    entry_ = Rows(height, zero, entry_memory_->get(), pitch());
  }

  void place(Strip& strip) { strip.place_between(between_.get(), stack_.channels); }

  bool gathers(int) const { return false; }

  void run(int phase, Strip& strip, int block) {
    const Conv3x3 one = first(block), two = second(block);
    if (phase == 0) {
      if (!stack_.doubled && block % stack_.group == 0)
        for (int64_t y = strip.begin(); y < strip.end(); ++y)
          std::memcpy(entry_.get()[y], x_.get()[y], sizeof(float) * pitch());
      strip.lead(one, stack_.path);
    } else {
      strip.for_each_step([&](int64_t r, int64_t end) {
        strip.reach(one, stack_.path, end);
        strip.run(two, stack_.path, r, end);
      });
    }
  }

 private:
  int64_t pitch() const { return int64_t{width_} * stack_.channels; }

  Conv3x3 first(int block) {
    Conv3x3 conv = convolution(2 * block, x_, between_);
    conv.finish = Finish::kActivate;
    return conv;
  }

  Conv3x3 second(int block) {
    Conv3x3 conv = convolution(2 * block + 1, between_, x_);
    conv.finish = Finish::kScaleAndAdd;
    conv.scale = scales_ + int64_t{block} * stack_.channels;
    if (block % stack_.group == stack_.group - 1) {
      if (stack_.doubled) conv.factor = 2;
      else conv.entry = entry_.get();
    }
    return conv;
  }

  Conv3x3 convolution(int number, Rows& in, Rows& out) const {
    const int channels = stack_.channels;
    const int64_t weights = packed_conv3x3(channels, channels);
    const float* packed = stack_.packed + number * (weights + channels);
    return {height_, width_, channels, channels, in.get(), out.get(), packed, packed + weights};
  }

  const DpcbStack& stack_;
  const int height_, width_;
  const float* const scales_;
  Rows x_, between_, entry_;
  std::unique_ptr<Floats> entry_memory_;
};

// All images x (batch, height, width, channels) in place, with scales (batch, blocks, channels).
template <typename Parallel>
void dpcb_stack(const DpcbStack& stack, int64_t batch, int height, int width, float* x, const float* scales,
                int threads, const Parallel& parallel) {
  const Floats zero(int64_t{width} * stack.channels);
  const auto make = [&](int64_t n) {
    return std::make_unique<DpcbImage>(stack, height, width, x + n * height * width * stack.channels,
                                       scales + n * stack.blocks * stack.channels, zero.get());
  };
  run_blocks(batch, height, width, stack.blocks, 2, conv3x3_workspace(stack.channels), threads, make, parallel);
}

}  // namespace dan_fast::conv3x3
