// The base of the images of all stacks of blocks (zeros around them, packed convolutions), and run_stack(), which runs
// such a stack on a batch.
#pragma once

#include <memory>

#include "../common/floats.h"
#include "run_blocks.h"

namespace dan_fast::conv3x3 {

// An image that blocks change in place. Derived classes have kPhases, and place() and run() for run_blocks().
class BlockImage {
 public:
  // Whether a phase needs what all strips did before.
  bool gathers(int) const { return false; }

 protected:
  // zero: a row of zeros, wide enough for every image that is convolved.
  BlockImage(int height, int width, float* zero) : height_(height), width_(width), zero_(zero) {}

  // The rows of an image that lies in one piece.
  RowTable rows(float* image, int channels) const { return {height_, zero_, image, int64_t{width_} * channels}; }

  // Rows that the strips give memory.
  RowTable rows() const { return {height_, zero_}; }

  // Convolution `number` of several of one shape, packed one after the other by pack_conv3x3(), each with its bias.
  Conv3x3 convolution(const float* packed, int number, int in_channels, int out_channels, RowTable& in, RowTable& out,
                      Finish finish) const {
    const int64_t weights = packed_conv3x3(in_channels, out_channels);
    const float* const own = packed + number * (weights + out_channels);
    Conv3x3 conv{height_, width_, in_channels, out_channels, in.get(), out.get(), own, own + weights};
    conv.finish = finish;
    return conv;
  }

  const int height_, width_;

 private:
  float* const zero_;
};

// An argument of a batch: `floats` floats per image.
template <typename T>
struct PerImage {
  T* first;
  int64_t floats;

  T* of(int64_t image) const { return first + image * floats; }
};

// Runs all blocks of `stack` on a batch: on Image(stack, height, width, zero, argument of the image...) for each image.
// stack: blocks; widest(), the most channels of an image; workspace(), the floats that a thread needs.
template <typename Image, typename Stack, typename Parallel, typename... Arguments>
void run_stack(const Stack& stack, int64_t batch, int height, int width, int threads, const Parallel& parallel,
               const PerImage<Arguments>&... arguments) {
  const Floats zero(int64_t{width} * stack.widest());
  const auto make = [&](int64_t n) {
    return std::make_unique<Image>(stack, height, width, zero.get(), arguments.of(n)...);
  };
  run_blocks(batch, height, width, stack.blocks, Image::kPhases, stack.workspace(), threads, make, parallel);
}

}  // namespace dan_fast::conv3x3
