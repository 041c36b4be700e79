// Conditional residual blocks with channel attention, one after the other, in place: y = conv(leaky ReLU(conv(x, z))),
// x <- x + y * a, where a has one value per channel, found from the mean of y over the image.
#pragma once

#include <cmath>
#include <vector>

#include "block_image.h"

namespace dan_fast::conv3x3 {

struct CrbStack {
  int channels;      // of x
  int in_channels;   // of what is convolved: x, and behind it z where z is an image
  int hidden;        // channels between the two convolutions
  int squeezed;      // channels in the middle of the attention
  int blocks;
  int places;        // biases of the first convolution: 1, or 9 as Conv3x3 takes them
  const float* one;  // the first convolution of each block: pack_conv3x3() and a bias, which is not used
  const float* two;  // the second one: pack_conv3x3() and the bias
  // a = sigmoid(excite * leaky ReLU(squeeze * mean + squeeze_bias) + excite_bias)
  const float* squeeze;  // (blocks, squeezed, channels)
  const float* squeeze_bias;
  const float* excite;  // (blocks, channels, squeezed)
  const float* excite_bias;
  Conv3x3Path path_one;
  Conv3x3Path path_two;

  int widest() const { return std::max(in_channels, hidden); }
  int64_t workspace() const { return std::max(conv3x3_workspace(in_channels), conv3x3_workspace(hidden)); }
};

class CrbImage : public BlockImage {
 public:
  static constexpr int kPhases = 3;

  // x (height, width, in_channels): x and z; x becomes the result. bias (blocks, places, hidden).
  CrbImage(const CrbStack& stack, int height, int width, float* zero, float* x, const float* bias)
      : BlockImage(height, width, zero), stack_(stack), bias_(bias), x_(rows(x, stack.in_channels)),
        activated_(rows()), y_memory_(int64_t{height} * width * stack.channels),
        y_(rows(y_memory_.get(), stack.channels)),
        sums_{std::vector<double>(tiles_along(height) * stack.channels), sums_[0]} {}

  void place(Strip& strip) { strip.place_intermediate(activated_.get(), stack_.hidden); }

  // The attention takes the mean over the whole image.
  bool gathers(int phase) const { return phase == 2; }

  void run(int phase, Strip& strip, int block) {
    const Conv3x3 first = first_of(block);
    if (phase == 0) {
      strip.start_first(first, stack_.path_one);
    } else if (phase == 1) {
      const Conv3x3 second = convolution(stack_.two, block, stack_.hidden, stack_.channels, activated_, y_,
                                         Finish::kStore);
      strip.for_each_step([&](int64_t r, int64_t end) {
        strip.continue_first(first, stack_.path_one, end);
        strip.run(second, stack_.path_two, r, end);
        for (; r < end; ++r) add_up(strip, r, block);
      });
    } else {
      add(strip, attention(block));
    }
  }

 private:
  Conv3x3 first_of(int block) {
    Conv3x3 conv = convolution(stack_.one, block, stack_.in_channels, stack_.hidden, x_, activated_,
                               Finish::kActivate);
    conv.bias = bias_ + int64_t{block} * stack_.places * stack_.hidden;
    if (stack_.places > 1) conv.bias_step = stack_.hidden;
    return conv;
  }

  // Stores the sums of tile row r of y: always in the same order, and in double beyond `some` pixels.
  void add_up(const Strip& strip, int64_t r, int block) {
    constexpr int64_t some = 64;
    double* const sums = sums_[block % 2].data() + r * stack_.channels;
    std::fill_n(sums, stack_.channels, 0.0);
    for (int64_t y = strip.begin(r); y < strip.end(r); ++y)
      for (int64_t begin = 0; begin < width_; begin += some)
        for (int64_t c = 0; c < stack_.channels; c += kPanel) {
          float own[kPanel] = {};
          for (int64_t x = begin; x < std::min<int64_t>(begin + some, width_); ++x)
            for (int64_t i = 0; i < kPanel; ++i) own[i] += y_.get()[y][x * stack_.channels + c + i];
          for (int64_t i = 0; i < kPanel; ++i) sums[c + i] += own[i];
        }
  }

  // The attention a of each channel. Every strip computes it for itself.
  std::vector<float> attention(int block) const {
    const int64_t channels = stack_.channels, squeezed = stack_.squeezed;
    std::vector<double> mean(channels), hidden(squeezed);
    const std::vector<double>& sums = sums_[block % 2];
    for (int64_t r = 0; r < tiles_along(height_); ++r)
      for (int64_t c = 0; c < channels; ++c) mean[c] += sums[r * channels + c];
    for (double& value : mean) value /= double(height_) * width_;
    for (int64_t s = 0; s < squeezed; ++s) {
      const int64_t row = block * squeezed + s;
      double value = stack_.squeeze_bias[row];
      for (int64_t c = 0; c < channels; ++c) value += stack_.squeeze[row * channels + c] * mean[c];
      hidden[s] = value < 0 ? 0.2 * value : value;
    }
    std::vector<float> factors(channels);
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t row = block * channels + c;
      double value = stack_.excite_bias[row];
      for (int64_t s = 0; s < squeezed; ++s) value += stack_.excite[row * squeezed + s] * hidden[s];
      factors[c] = static_cast<float>(1 / (1 + std::exp(-value)));
    }
    return factors;
  }

  void add(const Strip& strip, const std::vector<float>& factors) {
    const int64_t channels = stack_.channels;
    for (int64_t y = strip.begin(); y < strip.end(); ++y) {
      float* to = x_.get()[y];
      const float* from = y_.get()[y];
      for (int64_t x = 0; x < width_; ++x, to += stack_.in_channels, from += channels)
        for (int64_t c = 0; c < channels; ++c) to[c] += from[c] * factors[c];
    }
  }

  const CrbStack& stack_;
  const float* const bias_;
  RowTable x_, activated_;
  const Floats y_memory_;
  RowTable y_;
  // The sums of two blocks: some strips begin the next block before others have read the sums of this one.
  std::vector<double> sums_[2];
};

// Changes all images x (batch, height, width, in_channels) in place; bias (batch, blocks, places, hidden).
template <typename Parallel>
void crb_stack(const CrbStack& stack, int64_t batch, int height, int width, float* x, const float* bias, int threads,
               const Parallel& parallel) {
  run_stack<CrbImage>(stack, batch, height, width, threads, parallel,
                      PerImage<float>{x, int64_t{height} * width * stack.in_channels},
                      PerImage<const float>{bias, int64_t{stack.blocks} * stack.places * stack.hidden});
}

}  // namespace dan_fast::conv3x3
