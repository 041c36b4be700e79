// conv3x3 for every instruction set: one kernel, compiled several times.
//
// Winograd's transform turns the convolution into 36 products (tiles x C) * (C x C), one for each position in a tile.
// They run in blocks of tiles that stay in the second cache, 16 output channels (or 32) after the other; a small part
// of the product, some tiles times one panel of channels, stays in registers.

#include "conv3x3.h"

#include <algorithm>
#if defined(__linux__)
#include <unistd.h>
#endif

#include "compiler.h"
#include "vectors.h"
#include "winograd.h"

namespace dan_fast {
namespace {

using winograd::kIn;
using winograd::kOut;
using winograd::kPositions;

constexpr int kLine = 16;           // floats of a cache line
constexpr int64_t kApart = kLine;  // floats between positions, whose addresses would share cache sets otherwise

// C channels, vectors of `Bytes` bytes, `Most` tiles and `Panels` panels of output channels in registers.
template <int C, int Bytes, int Most, int Panels>
struct Kernel {
  using Vector = typename VectorOf<float, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(float);
  static constexpr int across = Panels * kPanel;  // output channels at once
  static constexpr int columns = across / lanes;

  // Six by six inputs, of which the first is at column x, to one tile of each position.
  static DAN_FAST_INLINE void transform(const float* const* rows, int64_t x, int64_t width, float* to, int64_t pitch) {
    for (int c = 0; c < C; c += lanes) {
      Vector down[kIn][kIn];  // [row][column]
      repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA {
        Vector column[kIn] = {}, values[kIn];
        if (j >= kIn - kOut && c * sizeof(float) % 64 == 0)  // of the next tile, what this one does not share
          repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { DAN_FAST_PREFETCH(rows[i] + (x + j + kOut) * C + c); });
        if (x + j >= 0 && x + j < width)
          repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { load(column[i], rows[i] + (x + j) * C + c); });
        winograd::input(column, values);
        repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA { down[i][j] = values[i]; });
      });
      repeat<kIn>([&](auto i) DAN_FAST_INLINE_LAMBDA {
        Vector values[kIn];
        winograd::input(down[i], values);
        repeat<kIn>([&](auto j) DAN_FAST_INLINE_LAMBDA { store(to + (i * kIn + j) * pitch + c, values[j]); });
      });
    }
  }

  // `Rows` tiles times the panels: out[r][n] = sum over k of in[r][k] * weights[k][n]. `next`: of the weights that come
  // after these, what to ask the memory for meanwhile.
  template <int Rows>
  static DAN_FAST_INLINE void multiply(const float* in, const float* weights, const float* next, float* out) {
    Vector sums[Rows][columns] = {};
    constexpr int unrolled = 4;
    for (int k = 0; k < C; k += unrolled) {
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
      repeat<columns>([&](auto n) DAN_FAST_INLINE_LAMBDA { store(out + r * across + n * lanes, sums[r][n]); });
    });
  }

  template <int Rows>
  static DAN_FAST_INLINE void multiply_some(int64_t rows, const float* in, const float* weights, const float* next,
                                            float* out) {
    if (rows == Rows) multiply<Rows>(in, weights, next, out);
    else if constexpr (Rows > 1) multiply_some<Rows - 1>(rows, in, weights, next, out);
  }

  // In parts of about the same number of tiles, so that none is small and slow.
  static DAN_FAST_INLINE void multiply_all(int64_t tiles, const float* in, const float* weights, float* out) {
    const int64_t parts = (tiles + Most - 1) / Most, fewer = tiles / parts, larger = tiles % parts;
    const float* next = weights + C * kPanel;
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t rows = fewer + (part < larger ? 1 : 0);
      multiply_some<Most>(rows, in, weights, next, out);
      in += rows * C;
      out += rows * across;
      next += C / 4 * kLine;  // as much as one product asks for: four have a whole panel
    }
  }

  // One tile of each position, `across` channels from `channel` on, to pixels.
  template <bool Residual, bool Whole>
  static DAN_FAST_INLINE void finish(const Conv3x3& conv, const float* sums, int64_t pitch, int channel, int64_t y,
                                     int64_t x) {
    const int64_t height = std::min<int64_t>(kOut, conv.height - y), width = std::min<int64_t>(kOut, conv.width - x);
    for (int c = 0; c < across; c += lanes) {
      Vector bias, scale = {};
      load(bias, conv.bias + channel + c);
      if constexpr (Residual) load(scale, conv.scale + channel + c);
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
        const int64_t at = x * C + channel + c;
        float* out = conv.out[y + i] + at;
        if (c * sizeof(float) % 64 == 0)  // the next tile
          repeat<kOut>([&](auto j) DAN_FAST_INLINE_LAMBDA { DAN_FAST_PREFETCH(out + (j + kOut) * C); });
        repeat<kOut>([&](auto j) DAN_FAST_INLINE_LAMBDA {
          if (!Whole && j >= width) return;
          Vector value = values[j] + bias;
          if constexpr (Residual) {
            Vector before;
            load(before, out + j * C);
            value = conv.factor * (before + scale * value);
            if (conv.entry) {
              load(before, conv.entry[y + i] + at + j * C);
              value += before;
            }
          } else {
            const Vector small = 0.2f * value;
            value = value > small ? value : small;
          }
          store(out + j * C, value);
        });
      });
    }
  }

  template <bool Residual>
  static DAN_FAST_INLINE void block(const Conv3x3& conv, int64_t begin, int64_t tiles, const Workspace& size,
                                    float* workspace) {
    const int64_t along = tiles_along(conv.width);
    const int64_t in_pitch = size.tiles * C + kApart, out_pitch = size.tiles * across + kApart;
    float* const sums = workspace + size.transformed;
    for (int64_t n = 0; n < tiles; ++n) {
      const int64_t y = (begin + n) / along * kOut - 1, x = (begin + n) % along * kOut - 1;
      transform(conv.in + y, x, conv.width, workspace + n * C, in_pitch);
    }
    for (int channel = 0; channel < C; channel += across) {
      const float* weights = conv.weights + int64_t{channel} * kPositions * C;
      for (int64_t position = 0; position < kPositions; ++position)
        multiply_all(tiles, workspace + position * in_pitch, weights + position * C * kPanel,
                     sums + position * out_pitch);
      for (int64_t n = 0; n < tiles; ++n) {
        const int64_t y = (begin + n) / along * kOut, x = (begin + n) % along * kOut;
        if (y + kOut <= conv.height && x + kOut <= conv.width)
          finish<Residual, true>(conv, sums + n * across, out_pitch, channel, y, x);
        else
          finish<Residual, false>(conv, sums + n * across, out_pitch, channel, y, x);
      }
    }
  }

  static DAN_FAST_INLINE void run(const Conv3x3& conv, int64_t begin, int64_t end, const Workspace& size,
                                  float* workspace) {
    const int64_t blocks = (end - begin + size.tiles - 1) / size.tiles;
    for (int64_t n = 0; n < blocks; ++n) {
      const int64_t from = begin + (end - begin) * n / blocks, to = begin + (end - begin) * (n + 1) / blocks;
      if (conv.scale) block<true>(conv, from, to - from, size, workspace);
      else block<false>(conv, from, to - from, size, workspace);
    }
  }
};

#if defined(__aarch64__)
constexpr int kDefaultTiles = 6;  // of 32 registers
#else
constexpr int kDefaultTiles = 2;
#endif

template <int C>
void conv3x3_default(const Conv3x3& conv, int64_t begin, int64_t end, const Workspace& size, float* workspace) {
  Kernel<C, 16, kDefaultTiles, 1>::run(conv, begin, end, size, workspace);
}

#ifdef DAN_FAST_X86
template <int C>
__attribute__((target("avx2,fma"))) void conv3x3_avx2(const Conv3x3& conv, int64_t begin, int64_t end,
                                                      const Workspace& size, float* workspace) {
  Kernel<C, 32, 6, 1>::run(conv, begin, end, size, workspace);
}

template <int C>
__attribute__((target("avx512f,avx512vl,fma"))) void conv3x3_avx512(const Conv3x3& conv, int64_t begin, int64_t end,
                                                                    const Workspace& size, float* workspace) {
  Kernel<C, 64, 12, C == kPanel ? 1 : 2>::run(conv, begin, end, size, workspace);
}
#endif

template <int C>
Conv3x3Path best() {
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return conv3x3_avx512<C>;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return conv3x3_avx2<C>;
#endif
  return conv3x3_default<C>;
}

int64_t second_cache() {
  int64_t bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  return bytes > 0 ? bytes : 512 << 10;
}

}  // namespace

Workspace conv3x3_workspace(int channels) {
  static const int64_t cache = second_cache();
  // The other half is for the weights, which pass by.
  const int64_t tiles = cache / 2 / (sizeof(float) * kPositions * (channels + kPanel));
  Workspace size{std::clamp<int64_t>(tiles, 12, 96), 0, 0};
  size.transformed = kPositions * (size.tiles * channels + kApart);
  size.floats = size.transformed + kPositions * (size.tiles * std::min(channels, 2 * kPanel) + kApart);
  return size;
}

Conv3x3Path conv3x3_path(int channels) {
  static const Conv3x3Path paths[] = {best<16>(), best<32>(), best<64>()};
  return channels == 16 ? paths[0] : channels == 32 ? paths[1] : channels == 64 ? paths[2] : nullptr;
}

void pack_conv3x3(const float* weights, int channels, int begin, float* packed) {
  float* panel = packed + int64_t{begin} * kPositions * channels;
  for (int in = 0; in < channels; ++in)
    for (int out = 0; out < kPanel; ++out) {
      double values[kPositions];
      winograd::filter(weights + (int64_t{begin + out} * channels + in) * 9, values);
      for (int64_t position = 0; position < kPositions; ++position)
        panel[(position * channels + in) * kPanel + out] = static_cast<float>(values[position]);
    }
}

}  // namespace dan_fast
