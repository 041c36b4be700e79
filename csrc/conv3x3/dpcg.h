// A group of dual-path conditional blocks whose condition z is an image too:
// f2 = conv(leaky ReLU(conv(z))), x <- x + f2 * conv(leaky ReLU(conv(x))), z <- z + f2. So f2 is the modulation image.
#pragma once

#include "block_image.h"

namespace dan_fast::conv3x3 {

struct Dpcg {
  int channels;
  int blocks;
  bool doubled;         // whether the group ends by doubling x; else by adding its input
  const float* packed;  // per block the two convolutions of x and the two of z: pack_conv3x3() and the bias
  Conv3x3Path path;

  int widest() const { return channels; }
  int64_t workspace() const { return conv3x3_workspace(channels); }
};

class DpcgImage : public BlockImage {
 public:
  static constexpr int kPhases = 2;

  // in, x, z (height, width, channels): x is a copy of `in` and becomes the result, z is overwritten.
  DpcgImage(const Dpcg& group, int height, int width, float* zero, const float* in, float* x, float* z)
      : BlockImage(height, width, zero), group_(group), x_(rows(x, group.channels)), z_(rows(z, group.channels)),
        activated_{rows(), rows()}, f2_(rows()), group_input_(rows(const_cast<float*>(in), group.channels)) {}

  void place(Strip& strip) {
    for (RowTable& table : activated_) strip.place_intermediate(table.get(), group_.channels);
    strip.place_per_step(f2_.get(), group_.channels);
  }

  void run(int phase, Strip& strip, int block) {
    const Conv3x3 first[] = {convolution_of(block, 0, x_, activated_[0], Finish::kActivate),
                             convolution_of(block, 2, z_, activated_[1], Finish::kActivate)};
    if (phase == 0) {
      for (int chain : {0, 1}) strip.start_first(first[chain], group_.path, chain);
      return;
    }
    const Conv3x3 second_x = second_of_x(block), second_z = second_of_z(block);
    strip.for_each_step([&](int64_t r, int64_t end) {
      strip.continue_first(first[1], group_.path, end, 1);
      strip.run(second_z, group_.path, r, end);
      strip.continue_first(first[0], group_.path, end, 0);
      strip.run(second_x, group_.path, r, end);
    });
  }

 private:
  Conv3x3 convolution_of(int block, int number, RowTable& in, RowTable& out, Finish finish) const {
    return convolution(group_.packed, 4 * block + number, group_.channels, group_.channels, in, out, finish);
  }

  Conv3x3 second_of_x(int block) {
    Conv3x3 conv = convolution_of(block, 1, activated_[0], x_, Finish::kModulateByPixel);
    conv.modulation_image = f2_.get();
    if (block == group_.blocks - 1) {
      if (group_.doubled) conv.residual_factor = 2;
      else conv.group_input = group_input_.get();
    }
    return conv;
  }

  // After the last block nobody reads z, so only f2 is stored.
  Conv3x3 second_of_z(int block) {
    if (block == group_.blocks - 1) return convolution_of(block, 3, activated_[1], f2_, Finish::kStore);
    Conv3x3 conv = convolution_of(block, 3, activated_[1], z_, Finish::kAdd);
    conv.addend = f2_.get();
    return conv;
  }

  const Dpcg& group_;
  RowTable x_, z_, activated_[2];
  RowTable f2_;  // the rows of one step of a strip
  RowTable group_input_;
};

// Runs the group on all images in, x, z (batch, height, width, channels); see DpcgImage.
template <typename Parallel>
void dpcg(const Dpcg& group, int64_t batch, int height, int width, const float* in, float* x, float* z, int threads,
          const Parallel& parallel) {
  const int64_t floats = int64_t{height} * width * group.channels;
  run_stack<DpcgImage>(group, batch, height, width, threads, parallel, PerImage<const float>{in, floats},
                       PerImage<float>{x, floats}, PerImage<float>{z, floats});
}

}  // namespace dan_fast::conv3x3
