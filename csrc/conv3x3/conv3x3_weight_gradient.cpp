// conv3x3_weight_gradient for every instruction set: one source, compiled several times.
//
// The gradient is 36 products (out * tiles) * (tiles * in), summed over blocks of tiles. During a block a small part of
// a product, some output channels times one panel of inputs, stays in registers.

#include "conv3x3_weight_gradient.h"

#include <algorithm>

#include "../common/compiler.h"
#include "../common/instruction_sets.h"
#include "../common/vectors.h"
#include "tiles.h"
#include "winograd.h"

namespace dan_fast::conv3x3 {
namespace {

using winograd::kIn;
using winograd::kOut;
using winograd::kPositions;

// Tiles per block: few enough that a block and the sums stay in the second cache, many enough that the sums are seldom
// loaded.
constexpr int64_t kTilesPerBlock = 32;

// Vectors of `Bytes` bytes, `Most` output channels and `Panels` panels of inputs in registers.
template <int Bytes, int Most, int Panels>
struct Sums {
  using Vector = typename VectorOf<float, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(float);

  // sums[r][c] += sum over tiles of grad[tile][r] * in[tile][c], for `Rows` of r and some panels of c.
  template <int Rows, int Across>
  static DAN_FAST_INLINE void add(const WeightGradient& sum, const float* grad, const float* in, int64_t tiles,
                                  float* sums) {
    constexpr int columns = Across * kPanel / lanes;
    const int64_t grad_step = sum.out_channels, in_step = sum.in_channels;
    Vector own[Rows][columns];
    repeat<Rows>([&](auto r) DAN_FAST_INLINE_LAMBDA {
      repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA { load(own[r][n], sums + r * in_step + n * lanes); });
    });
    for (int64_t tile = 0; tile < tiles; ++tile, grad += grad_step, in += in_step) {
      Vector inputs[columns];
      repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA {
        load(inputs[n], in + n * lanes);
        DAN_FAST_IN_REGISTER(inputs[n]);
      });
      repeat<Rows>([&](auto r) DAN_FAST_INLINE_LAMBDA {
        Vector value;
        broadcast(value, grad + r);
        repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA { own[r][n] += value * inputs[n]; });
      });
    }
    repeat<Rows>([&](auto r) DAN_FAST_INLINE_LAMBDA {
      repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA { store(sums + r * in_step + n * lanes, own[r][n]); });
    });
  }

  template <int Rows, int Across>
  static DAN_FAST_INLINE void add_some(int64_t rows, const WeightGradient& sum, const float* grad, const float* in,
                                       int64_t tiles, float* sums) {
    if (rows == Rows) add<Rows, Across>(sum, grad, in, tiles, sums);
    else if constexpr (Rows > 1) add_some<Rows - 1, Across>(rows, sum, grad, in, tiles, sums);
  }

  // Splits the output channels into parts of about the same size, so that none is small and slow.
  template <int Across>
  static DAN_FAST_INLINE void add_panels(const WeightGradient& sum, const float* grad, const float* in, int64_t tiles,
                                         float* sums) {
    const int64_t parts = (sum.out_channels + Most - 1) / Most;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t first = sum.out_channels * part / parts, last = sum.out_channels * (part + 1) / parts;
      add_some<Most, Across>(last - first, sum, grad + first, in, tiles, sums + first * sum.in_channels);
    }
  }

  static DAN_FAST_INLINE void add_all(const WeightGradient& sum, const float* grad, int64_t grad_pitch, const float* in,
                                      int64_t in_pitch, int64_t tiles, float* sums) {
    for (int position = 0; position < kPositions; ++position) {
      int panel = 0;
      for (; (panel + Panels) * kPanel <= sum.in_channels; panel += Panels)
        add_panels<Panels>(sum, grad, in + panel * kPanel, tiles, sums + panel * kPanel);
      if (Panels > 1 && panel * kPanel < sum.in_channels)
        add_panels<1>(sum, grad, in + panel * kPanel, tiles, sums + panel * kPanel);
      grad += grad_pitch;
      in += in_pitch;
      sums += int64_t{sum.out_channels} * sum.in_channels;
    }
  }

  static DAN_FAST_INLINE void to_taps(const WeightGradient& sum, const float* sums, float* taps) {
    const int64_t in = sum.in_channels, pitch = in * sum.out_channels;
    for (int64_t out = 0; out < sum.out_channels; ++out, sums += in, taps += 9 * in)
      for (int64_t c = 0; c < in; c += lanes) {
        Vector down[3][kIn];
        repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA {
          Vector column[kIn], values[3];
          repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { load(column[i], sums + (i * kIn + j) * pitch + c); });
          winograd::filter_gradient(column, values);
          repeat<3>([&](auto v) DAN_FAST_INLINE_LAMBDA { down[v][j] = values[v]; });
        });
        repeat<3>([&](auto v) DAN_FAST_INLINE_LAMBDA {
          Vector values[3];
          winograd::filter_gradient(down[v], values);
          repeat<3>([&](auto u) DAN_FAST_INLINE_LAMBDA { store(taps + (v * 3 + u) * in + c, values[u]); });
        });
      }
  }

  static DAN_FAST_INLINE void run(const WeightGradient& sum, int64_t begin, int64_t end, float* taps, float* sums) {
    const int64_t along = tiles_along(sum.width), tiles_an_image = tiles_along(sum.height) * along;
    const int64_t in_pitch = kTilesPerBlock * sum.in_channels + kCacheSetPadding;
    const int64_t grad_pitch = kTilesPerBlock * sum.out_channels + kCacheSetPadding;
    const int64_t count = int64_t{kPositions} * sum.in_channels * sum.out_channels;
    float *const in = sums + count, *const grad = in + kPositions * in_pitch;
    std::fill_n(sums, count, 0.0f);
    for (int64_t from = begin; from < end; from += kTilesPerBlock) {
      const int64_t tiles = std::min(kTilesPerBlock, end - from);
      for (int64_t n = 0; n < tiles; ++n) {
        const int64_t image = (from + n) / tiles_an_image, tile = (from + n) % tiles_an_image;
        const int64_t y = tile / along * kOut, x = tile % along * kOut;
        transform_inputs<Vector>(sum.in[image] + y - 1, x - 1, sum.width, sum.in_channels, in + n * sum.in_channels,
                                 in_pitch);
        transform_gradients<Vector>(sum.grad[image] + y, x, sum.width, sum.out_channels, grad + n * sum.out_channels,
                                    grad_pitch);
      }
      add_all(sum, grad, grad_pitch, in, in_pitch, tiles, sums);
    }
    to_taps(sum, sums, taps);
  }
};

#if defined(__aarch64__)
constexpr int kDefaultRows = 6;  // as many as 32 registers hold
#else
constexpr int kDefaultRows = 2;
#endif

void weight_gradient_default(const WeightGradient& sum, int64_t begin, int64_t end, float* taps, float* workspace) {
  Sums<16, kDefaultRows, 1>::run(sum, begin, end, taps, workspace);
}

#ifdef DAN_FAST_X86
DAN_FAST_AVX2 void weight_gradient_avx2(const WeightGradient& sum, int64_t begin, int64_t end, float* taps,
                                        float* workspace) {
  Sums<32, 6, 1>::run(sum, begin, end, taps, workspace);
}

DAN_FAST_AVX512 void weight_gradient_avx512(const WeightGradient& sum, int64_t begin, int64_t end, float* taps,
                                            float* workspace) {
  Sums<64, 12, 2>::run(sum, begin, end, taps, workspace);
}
#endif

}  // namespace

int64_t weight_gradient_workspace(int in_channels, int out_channels) {
  const int64_t in = in_channels, out = out_channels;
  return kPositions * (in * out + kTilesPerBlock * (in + out) + 2 * kCacheSetPadding);
}

WeightGradientPath weight_gradient_path() {
  static const WeightGradientPath path =
      DAN_FAST_WIDEST(weight_gradient_avx512, weight_gradient_avx2, weight_gradient_default);
  return path;
}

}  // namespace dan_fast::conv3x3
