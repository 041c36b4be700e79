// Dual-path conditional blocks, one after the other, in place: x <- x + f1 * modulation, where
// f1 = conv(leaky ReLU(conv(x))), with the biases, and modulation is one value per block and channel.
#pragma once

#include <cstring>
#include <memory>

#include "block_image.h"

namespace dan_fast::conv3x3 {

struct DpcbStack {
  int channels;
  int blocks;
  int group;            // blocks per group
  bool doubled;         // whether a group ends by doubling x; else by adding the group's input
  const float* packed;  // two convolutions per block: pack_conv3x3() and the bias
  Conv3x3Path path;

  int widest() const { return channels; }
  int64_t workspace() const { return conv3x3_workspace(channels); }
};

class DpcbImage : public BlockImage {
 public:
  static constexpr int kPhases = 2;

  // x (height, width, channels): the image, which becomes the result. modulation (blocks, channels).
  DpcbImage(const DpcbStack& stack, int height, int width, float* zero, float* x, const float* modulation)
      : BlockImage(height, width, zero), stack_(stack), modulation_(modulation), x_(rows(x, stack.channels)),
        activated_(rows()), group_input_(rows()) {
    if (stack.doubled) return;
    group_input_memory_ = std::make_unique<Floats>(height * pitch());
    group_input_ = rows(group_input_memory_->get(), stack.channels);
  }

  void place(Strip& strip) { strip.place_intermediate(activated_.get(), stack_.channels); }

  void run(int phase, Strip& strip, int block) {
    const Conv3x3 first = convolution_of(block, 0, x_, activated_, Finish::kActivate);
    if (phase == 0) {
      if (!stack_.doubled && block % stack_.group == 0)
        for (int64_t y = strip.begin(); y < strip.end(); ++y)
          std::memcpy(group_input_.get()[y], x_.get()[y], sizeof(float) * pitch());
      strip.start_first(first, stack_.path);
      return;
    }
    const Conv3x3 second = second_of(block);
    strip.for_each_step([&](int64_t r, int64_t end) {
      strip.continue_first(first, stack_.path, end);
      strip.run(second, stack_.path, r, end);
    });
  }

 private:
  int64_t pitch() const { return int64_t{width_} * stack_.channels; }

  Conv3x3 convolution_of(int block, int number, RowTable& in, RowTable& out, Finish finish) const {
    return convolution(stack_.packed, 2 * block + number, stack_.channels, stack_.channels, in, out, finish);
  }

  Conv3x3 second_of(int block) {
    Conv3x3 conv = convolution_of(block, 1, activated_, x_, Finish::kModulate);
    conv.modulation = modulation_ + int64_t{block} * stack_.channels;
    if (block % stack_.group == stack_.group - 1) {
      if (stack_.doubled) conv.residual_factor = 2;
      else conv.group_input = group_input_.get();
    }
    return conv;
  }

  const DpcbStack& stack_;
  const float* const modulation_;
  RowTable x_, activated_, group_input_;
  std::unique_ptr<Floats> group_input_memory_;
};

// Changes all images x (batch, height, width, channels) in place; modulation (batch, blocks, channels).
template <typename Parallel>
void dpcb_stack(const DpcbStack& stack, int64_t batch, int height, int width, float* x, const float* modulation,
                int threads, const Parallel& parallel) {
  run_stack<DpcbImage>(stack, batch, height, width, threads, parallel,
                       PerImage<float>{x, int64_t{height} * width * stack.channels},
                       PerImage<const float>{modulation, int64_t{stack.blocks} * stack.channels});
}

}  // namespace dan_fast::conv3x3
