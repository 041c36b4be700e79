// conv3x3 for every instruction set: one source, compiled several times.
//
// Winograd's transform turns the convolution into 36 products (tiles x in) * (in x out), one for each position in a
// tile. They run in blocks of tiles that stay in the second cache, for 16 or 32 output channels at a time; a small part
// of the product, some tiles times one or two panels of channels, stays in registers.

#include "conv3x3.h"

#include <algorithm>
#include <iterator>
#if defined(__linux__)
#include <unistd.h>
#endif

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

int64_t second_cache() {
  int64_t bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : 512 << 10;
}

// As many tiles as stay in one half of the second cache; the weights pass through the other half.
int64_t tiles_at_once(int64_t in_channels) {
  static const int64_t cache = second_cache();
  return std::clamp<int64_t>(cache / 2 / (sizeof(float) * kPositions * (in_channels + kPanel)), 12, 96);
}

// C input channels, vectors of `Bytes` bytes, `Most` tiles and `Panels` panels of output channels in registers.
template <int C, int Bytes, int Most, int Panels>
struct Products {
  using Vector = typename VectorOf<float, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(float);
  static constexpr int across = Panels * kPanel;  // output channels at once
  static constexpr int columns = across / lanes;
  static constexpr int kRun = C > 32 ? C / 2 : C;  // input channels that are summed up in one go

  static DAN_FAST_INLINE void transform_all(const Conv3x3& conv, int64_t begin, int64_t tiles, float* to,
                                            int64_t pitch) {
    const int64_t along = tiles_along(conv.width);
    for (int64_t n = 0; n < tiles; ++n) {
      const int64_t y = (begin + n) / along * kOut - 1, x = (begin + n) % along * kOut - 1;
      transform_inputs<Vector>(conv.in + y, x, conv.width, C, to + n * C, pitch);
    }
  }

  // `Rows` tiles times the panels: out[r][n] = sum over k of in[r][k] * weights[k][n]. `next`: later weights, which are
  // prefetched meanwhile. kRun products at a time are summed, and these sums added: each addition rounds in proportion
  // to the sum so far, so one long sum would err more (tests/support/winograd.py has the figures).
  template <int Rows>
  static DAN_FAST_INLINE void multiply(const float* in, const float* weights, const float* next, float* out) {
    constexpr int unrolled = 4;
    for (int begin = 0; begin < C; begin += kRun) {
      Vector sums[Rows][columns] = {};
      for (int k = begin; k < begin + kRun; k += unrolled) {
        DAN_FAST_PREFETCH(next + k * (kLine / unrolled));
        repeat<unrolled>([&](auto u) DAN_FAST_INLINE_LAMBDA {
          Vector taps[columns];
          repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA {
            constexpr int panel = n * lanes / kPanel, channel = n * lanes % kPanel;
            load(taps[n], weights + panel * kPositions * C * kPanel + (k + u) * kPanel + channel);
            DAN_FAST_IN_REGISTER(taps[n]);
          });
          repeat<Rows>([&](auto r) DAN_FAST_INLINE_LAMBDA {
            Vector value;
            broadcast(value, in + r * C + k + u);
            repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA { sums[r][n] += value * taps[n]; });
          });
        });
      }
      repeat<Rows>([&](auto r) DAN_FAST_INLINE_LAMBDA {
        repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA {
          float* const to = out + r * across + n * lanes;
          if (begin > 0) {
            Vector before;
            load(before, to);
            sums[r][n] += before;
          }
          store(to, sums[r][n]);
        });
      });
    }
  }

  template <int Rows>
  static DAN_FAST_INLINE void multiply_some(int64_t rows, const float* in, const float* weights, const float* next,
                                            float* out) {
    if (rows == Rows) multiply<Rows>(in, weights, next, out);
    else if constexpr (Rows > 1) multiply_some<Rows - 1>(rows, in, weights, next, out);
  }

  // Splits the tiles into parts of about the same size, so that none is small and slow.
  static DAN_FAST_INLINE void multiply_all(int64_t tiles, const float* in, const float* weights, float* out) {
    const int64_t parts = (tiles + Most - 1) / Most, fewer = tiles / parts, larger = tiles % parts;
    const float* next = weights + C * kPanel;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t rows = fewer + (part < larger ? 1 : 0);
      multiply_some<Most>(rows, in, weights, next, out);
      in += rows * C;
      out += rows * across;
      next += C / 4 * kLine;  // one product prefetches a quarter of a panel
    }
  }

  static DAN_FAST_INLINE void run(const float* in, int64_t in_pitch, const float* weights, float* out,
                                  int64_t out_pitch, int64_t tiles) {
    for (int64_t position = 0; position < kPositions; ++position)
      multiply_all(tiles, in + position * in_pitch, weights + position * C * kPanel, out + position * out_pitch);
  }
};

// Vectors of `Bytes` bytes, `Panels` panels of output channels.
template <int Bytes, int Panels>
struct Output {
  using Vector = typename VectorOf<float, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(float);
  static constexpr int across = Panels * kPanel;  // channels at once

  // Whether the tile at row y and column x lies inside the image and all its pixels have the same bias.
  static DAN_FAST_INLINE bool is_whole(const Conv3x3& conv, int64_t y, int64_t x) {
    const int64_t border = conv.bias_step ? 1 : 0;
    return y >= border && x >= border && y + kOut + border <= conv.height && x + kOut + border <= conv.width;
  }

  static DAN_FAST_INLINE const float* bias_at(const Conv3x3& conv, int64_t y, int64_t x) {
    const int64_t down = y == 0 ? 0 : y == conv.height - 1 ? 2 : 1, along = x == 0 ? 0 : x == conv.width - 1 ? 2 : 1;
    return conv.bias + (3 * down + along) * conv.bias_step;
  }

  // Turns sums into values and stores them at float `at` of row y.
  template <Finish F>
  static DAN_FAST_INLINE void put(const Conv3x3& conv, Vector& v, const Vector& bias, const Vector& modulation,
                                  int64_t y, int64_t at) {
    constexpr bool modulated = F == Finish::kModulate || F == Finish::kModulateByPixel;
    if (modulated && conv.f1) store(conv.f1[y] + at, v);
    v += bias;
    Vector other;
    if constexpr (F == Finish::kActivate) {
      const Vector small = conv.slope * v;
      v = v > Vector{} ? v : small;
    } else if constexpr (F == Finish::kActivateGradient) {
      const Vector small = conv.slope * v;
      load(other, conv.activated[y] + at);
      v = other > Vector{} ? v : small;
    } else if constexpr (F == Finish::kAdd) {
      if (conv.addend) store(conv.addend[y] + at, v);
      load(other, conv.residual[y] + at);
      v += other;
    } else if constexpr (modulated) {
      if constexpr (F == Finish::kModulateByPixel) {
        load(other, conv.modulation_image[y] + at);
        v *= other;
      } else {
        v *= modulation;
      }
      load(other, conv.residual[y] + at);
      v = conv.residual_factor * (other + v);
      if (conv.group_input) {
        load(other, conv.group_input[y] + at);
        v += other;
      }
    }
    store(conv.out[y] + at, v);
  }

  // Transforms the sums of one tile back to pixels, `across` channels from `channel` on, and stores these.
  template <Finish F, bool Whole>
  static DAN_FAST_INLINE void finish(const Conv3x3& conv, const float* sums, int64_t pitch, int64_t channel, int64_t y,
                                     int64_t x) {
    const int64_t height = std::min<int64_t>(kOut, conv.height - y), width = std::min<int64_t>(kOut, conv.width - x);
    const float* const inside = bias_at(conv, 1, 1);
    for (int c = 0; c < across; c += lanes) {
      Vector bias, modulation = {};
      load(bias, inside + channel + c);
      if constexpr (F == Finish::kModulate) load(modulation, conv.modulation + channel + c);
      Vector down[kOut][kIn];
      repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA {
        Vector column[kIn], values[kOut];
        repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { load(column[i], sums + (i * kIn + j) * pitch + c); });
        winograd::output(column, values);
        repeat<kOut>([&](auto i) DAN_FAST_INLINE_LAMBDA { down[i][j] = values[i]; });
      });
      repeat<kOut>([&](auto i) DAN_FAST_INLINE_LAMBDA {
        if (!Whole && i >= height) return;
        Vector values[kOut];
        winograd::output(down[i], values);
        const int64_t step = conv.out_channels, at = x * step + channel + c;
        if (c % kLine == 0)  // the pixels of the next tile
          repeat<kOut>([&](auto j) DAN_FAST_INLINE_LAMBDA {
            DAN_FAST_PREFETCH(conv.out[y + i] + at + (j + kOut) * step);
          });
        repeat<kOut>([&](auto j) DAN_FAST_INLINE_LAMBDA {
          if (!Whole && j >= width) return;
          if (!Whole) load(bias, bias_at(conv, y + i, x + j) + channel + c);
          put<F>(conv, values[j], bias, modulation, y + i, at + j * step);
        });
      });
    }
  }

  template <Finish F>
  static DAN_FAST_INLINE void finish_all(const Conv3x3& asked, const float* sums, int64_t pitch, int64_t channel,
                                         int64_t begin, int64_t tiles) {
    Conv3x3 conv = asked;  // a copy, so that the compiler knows that no store changes it
    if (!conv.residual) conv.residual = conv.out;
    const int64_t along = tiles_along(conv.width);
    for (int64_t n = 0; n < tiles; ++n) {
      const int64_t y = (begin + n) / along * kOut, x = (begin + n) % along * kOut;
      if (is_whole(conv, y, x)) finish<F, true>(conv, sums + n * across, pitch, channel, y, x);
      else finish<F, false>(conv, sums + n * across, pitch, channel, y, x);
    }
  }

  static DAN_FAST_INLINE void run(const Conv3x3& conv, const float* sums, int64_t pitch, int64_t channel, int64_t begin,
                                  int64_t tiles) {
    switch (conv.finish) {
      case Finish::kStore: return finish_all<Finish::kStore>(conv, sums, pitch, channel, begin, tiles);
      case Finish::kActivate: return finish_all<Finish::kActivate>(conv, sums, pitch, channel, begin, tiles);
      case Finish::kModulate: return finish_all<Finish::kModulate>(conv, sums, pitch, channel, begin, tiles);
      case Finish::kModulateByPixel:
        return finish_all<Finish::kModulateByPixel>(conv, sums, pitch, channel, begin, tiles);
      case Finish::kAdd: return finish_all<Finish::kAdd>(conv, sums, pitch, channel, begin, tiles);
      case Finish::kActivateGradient:
        return finish_all<Finish::kActivateGradient>(conv, sums, pitch, channel, begin, tiles);
    }
  }
};

// `Wide`: panels of output channels at once; fewer panels than that are computed one by one.
template <int C, int Bytes, int Most, int Wide, const auto& Finish1, const auto& FinishWide>
DAN_FAST_INLINE void convolve(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace) {
  const int64_t most = tiles_at_once(C), blocks = (end - begin + most - 1) / most;
  const int64_t pitch = most * C + kCacheSetPadding;
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t from = begin + (end - begin) * n / blocks, to = begin + (end - begin) * (n + 1) / blocks;
    const int64_t tiles = to - from;
    float* const sums = workspace + kPositions * pitch;
    Products<C, Bytes, Most, Wide>::transform_all(conv, from, tiles, workspace, pitch);
    const auto panels = [&](auto count, const auto& finish, int64_t channel) DAN_FAST_INLINE_LAMBDA {
      const int64_t sums_pitch = most * count * kPanel + kCacheSetPadding;
      const float* weights = conv.weights + channel * kPositions * C;
      Products<C, Bytes, Most, count>::run(workspace, pitch, weights, sums, sums_pitch, tiles);
      finish(conv, sums, sums_pitch, channel, from, tiles);
    };
    int64_t channel = 0;
    for (; channel + Wide * kPanel <= conv.out_channels; channel += Wide * kPanel)
      panels(std::integral_constant<int, Wide>{}, FinishWide, channel);
    if (Wide > 1 && channel < conv.out_channels) panels(std::integral_constant<int, 1>{}, Finish1, channel);
  }
}

#if defined(__aarch64__)
constexpr int kDefaultTiles = 6;  // as many as 32 registers hold
#else
constexpr int kDefaultTiles = 2;
#endif

void finish_default(const Conv3x3& conv, const float* sums, int64_t pitch, int64_t channel, int64_t begin,
                    int64_t tiles) {
  Output<16, 1>::run(conv, sums, pitch, channel, begin, tiles);
}

template <int C>
void conv3x3_default(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace) {
  convolve<C, 16, kDefaultTiles, 1, finish_default, finish_default>(conv, begin, end, workspace);
}

#ifdef DAN_FAST_X86
DAN_FAST_AVX2 void finish_avx2(const Conv3x3& conv, const float* sums, int64_t pitch, int64_t channel, int64_t begin,
                               int64_t tiles) {
  Output<32, 1>::run(conv, sums, pitch, channel, begin, tiles);
}

template <int C>
DAN_FAST_AVX2 void conv3x3_avx2(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace) {
  convolve<C, 32, 6, 1, finish_avx2, finish_avx2>(conv, begin, end, workspace);
}

template <int Panels>
DAN_FAST_AVX512 void finish_avx512(const Conv3x3& conv, const float* sums, int64_t pitch, int64_t channel,
                                   int64_t begin, int64_t tiles) {
  Output<64, Panels>::run(conv, sums, pitch, channel, begin, tiles);
}

template <int C>
DAN_FAST_AVX512 void conv3x3_avx512(const Conv3x3& conv, int64_t begin, int64_t end, float* workspace) {
  convolve<C, 64, 12, 2, finish_avx512<1>, finish_avx512<2>>(conv, begin, end, workspace);
}
#endif

template <int C>
Conv3x3Path widest_path() {
  return DAN_FAST_WIDEST(conv3x3_avx512<C>, conv3x3_avx2<C>, conv3x3_default<C>);
}

}  // namespace

int64_t conv3x3_workspace(int in_channels) {
  const int64_t tiles = tiles_at_once(in_channels);
  return kPositions * (tiles * (in_channels + 2 * kPanel) + 2 * kCacheSetPadding);
}

Conv3x3Path conv3x3_path(int64_t in_channels) {
  static const Conv3x3Path paths[] = {widest_path<16>(), widest_path<32>(), widest_path<48>(), widest_path<64>(),
                                      widest_path<80>()};
  static_assert(std::size(paths) * kPanel == kMostChannels);
  if (in_channels < 1 || in_channels > kMostChannels || in_channels % kPanel) return nullptr;
  return paths[in_channels / kPanel - 1];
}

DAN_FAST_CLONES void pack_conv3x3(const WeightView& weights, int in_channels, int begin, float* packed) {
  using Vector = VectorOf<double, 64>::Type;
  constexpr int lanes = sizeof(Vector) / sizeof(double);
  float* const panel = packed + int64_t{begin} * kPositions * in_channels;
  for (int in = 0; in < in_channels; ++in) {
    const float* const first = weights.data + begin * weights.out + in * weights.in;
    for (int out = 0; out < kPanel; out += lanes) {
      double gathered[9][lanes];  // first, as a vector load that follows its scalar stores at once waits for them
      for (int n = 0; n < lanes; ++n)
        for (int tap = 0; tap < 9; ++tap)
          gathered[tap][n] = first[(out + n) * weights.out + tap / 3 * weights.row + tap % 3 * weights.column];
      Vector own[9], values[kPositions];
      for (int tap = 0; tap < 9; ++tap) load(own[tap], gathered[tap]);
      winograd::filter(own, values);
      for (int64_t position = 0; position < kPositions; ++position) {
        double value[lanes];
        store(value, values[position]);
        for (int n = 0; n < lanes; ++n)
          panel[(position * in_channels + in) * kPanel + out + n] = static_cast<float>(value[n]);
      }
    }
  }
}

}  // namespace dan_fast::conv3x3
