// A group of dual-path conditional blocks whose condition z is an image too:
// f2 = conv(leaky ReLU(conv(z))), x <- x + f2 * conv(leaky ReLU(conv(x))), z <- z + f2.
#pragma once

#include "run_blocks.h"

namespace dan_fast::conv3x3 {

struct Dpcg {
  int channels;
  int blocks;
  bool doubled;         // x at the end; otherwise what it was at the start is added
  const float* packed;  // for each block the convolutions of x and those of z: pack_conv3x3() and the bias
  Conv3x3Path path;
};

class DpcgImage {
 public:
  // in, x, z (height, width, channels): x is a copy of `in` and becomes the result, z is lost. zero: a row of zeros.
  DpcgImage(const Dpcg& group, int height, int width, const float* in, float* x, float* z, float* zero)
      : group_(group), height_(height), width_(width), x_(height, zero, x, pitch()), z_(height, zero, z, pitch()),
        between_{Rows(height, zero), Rows(height, zero)}, f2_(height, zero),
        entry_(height, zero, const_cast<float*>(in), pitch()) {}

  void place(Strip& strip) {
    for (Rows& rows : between_) strip.place_between(rows.get(), group_.channels);
    strip.place_step(f2_.get(), group_.channels);
  }

  bool gathers(int) const { return false; }

  void run(int phase, Strip& strip, int block) {
    const Conv3x3 one[] = {convolution(4 * block, x_, between_[0], Finish::kActivate),
                           convolution(4 * block + 2, z_, between_[1], Finish::kActivate)};
    if (phase == 0) {
      for (int chain : {0, 1}) strip.lead(one[chain], group_.path, chain);
      return;
    }
    const Conv3x3 x = of_x(block), z = of_z(block);
    strip.for_each_step([&](int64_t r, int64_t end) {
      strip.reach(one[1], group_.path, end, 1);
      strip.run(z, group_.path, r, end);
      strip.reach(one[0], group_.path, end, 0);
      strip.run(x, group_.path, r, end);
    });
  }

 private:
  int64_t pitch() const { return int64_t{width_} * group_.channels; }

  Conv3x3 of_x(int block) {
    Conv3x3 conv = convolution(4 * block + 1, between_[0], x_, Finish::kMultiplyAndAdd);
    conv.by = f2_.get();
    if (block == group_.blocks - 1) {
      if (group_.doubled) conv.factor = 2;
      else conv.entry = entry_.get();
    }
    return conv;
  }

  // Nobody reads z after the last block.
  Conv3x3 of_z(int block) {
    if (block == group_.blocks - 1) return convolution(4 * block + 3, between_[1], f2_, Finish::kStore);
    Conv3x3 conv = convolution(4 * block + 3, between_[1], z_, Finish::kAdd);
    conv.kept = f2_.get();
    return conv;
  }

  Conv3x3 convolution(int number, Rows& in, Rows& out, Finish finish) const {
    const int channels = group_.channels;
    const int64_t weights = packed_conv3x3(channels, channels);
    const float* packed = group_.packed + number * (weights + channels);
    Conv3x3 conv{height_, width_, channels, channels, in.get(), out.get(), packed, packed + weights};
    conv.finish = finish;
    return conv;
  }

  const Dpcg& group_;
  const int height_, width_;
  Rows x_, z_, between_[2], f2_, entry_;  // f2: of one step of a strip
};

// All images in, x, z (batch, height, width, channels); see DpcgImage.
template <typename Parallel>
void dpcg(const Dpcg& group, int64_t batch, int height, int width, const float* in, float* x, float* z, int threads,
          const Parallel& parallel) {
  const int64_t pixels = int64_t{height} * width * group.channels;
  const Floats zero(int64_t{width} * group.channels);
  const auto make = [&](int64_t n) {
    return std::make_unique<DpcgImage>(group, height, width, in + n * pixels, x + n * pixels, z + n * pixels,
                                       zero.get());
  };
  run_blocks(batch, height, width, group.blocks, 2, conv3x3_workspace(group.channels), threads, make, parallel);
}

}  // namespace dan_fast::conv3x3
