// Every instruction set of csrc/conv3x3.cpp that this machine has, under csrc/dpcb_stack.h, against plain sums in
// double. For test_dpcb_stack.py: prints a line a set; exits with 1 where one is wrong. The sanitizer that it is
// compiled with watches the borders of every buffer.

#include "../csrc/conv3x3.cpp"
#include "../csrc/dpcb_stack.h"

#include <cmath>
#include <cstdio>
#include <random>

namespace {

using Values = std::vector<float>;

Values draw(int64_t count, double spread, std::mt19937& random) {
  std::normal_distribution<float> value(0, static_cast<float>(spread));
  Values values(count);
  for (float& v : values) v = value(random);
  return values;
}

// (height, width, channels), of each pixel the sums over its neighbours inside the image.
std::vector<double> convolved(const std::vector<double>& in, int height, int width, int channels, const float* weights,
                              const float* bias) {
  std::vector<double> out(in.size());
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int o = 0; o < channels; ++o) {
        double sum = bias[o];
        for (int v = std::max(0, 1 - y); v < std::min(3, height + 1 - y); ++v)
          for (int u = std::max(0, 1 - x); u < std::min(3, width + 1 - x); ++u)
            for (int k = 0; k < channels; ++k)
              sum += in[(int64_t{y + v - 1} * width + x + u - 1) * channels + k] *
                     weights[(int64_t{o} * channels + k) * 9 + v * 3 + u];
        out[(int64_t{y} * width + x) * channels + o] = sum;
      }
  return out;
}

bool right(dan_fast::Conv3x3Path path, int channels, std::mt19937& random) {
  const auto number = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  const int group = number(1, 2), blocks = group * number(1, 2), threads = number(1, 4), batch = number(1, 3);
  const bool wide = number(0, 7) == 0;
  const int height = wide ? number(5, 9) : number(1, 14), width = wide ? number(390, 410) : number(1, 14);
  const bool doubled = number(0, 1) == 1;
  const int64_t square = int64_t{channels} * channels, pixels = int64_t{height} * width;
  const double spread = std::sqrt(2.0 / (9 * channels));
  const Values weights = draw(2 * blocks * square * 9, spread, random), bias = draw(2 * blocks * channels, 0.1, random);
  const Values scales = draw(int64_t{batch} * blocks * channels, 0.3, random);
  const Values in = draw(batch * pixels * channels, 1, random);

  const dan_fast::DpcbStack shape{channels, blocks, group, doubled, nullptr};
  Values packed(2 * blocks * shape.convolution());
  for (int n = 0; n < 2 * blocks; ++n) {
    float* to = packed.data() + n * shape.convolution();
    for (int panel = 0; panel < channels; panel += dan_fast::kPanel)
      dan_fast::pack_conv3x3(weights.data() + n * square * 9, channels, panel, to);
    std::copy_n(bias.data() + n * channels, channels, to + dan_fast::packed_conv3x3(channels));
  }
  const dan_fast::DpcbStack stack{channels, blocks, group, doubled, packed.data()};
  Values out = in;
  dan_fast::dpcb_stack(stack, batch, height, width, out.data(), scales.data(), threads, path,
                       [](int64_t count, const auto& run) { for (int64_t n = count; n-- > 0;) run(n); });

  for (int image = 0; image < batch; ++image) {
    const auto first = in.begin() + image * pixels * channels;
    std::vector<double> x(first, first + pixels * channels), entry = x;
    for (int n = 0; n < blocks; ++n) {
      const float *w = weights.data() + 2 * n * square * 9, *b = bias.data() + 2 * n * channels;
      std::vector<double> t = convolved(x, height, width, channels, w, b);
      for (double& value : t) value = value > 0 ? value : 0.2 * value;
      const std::vector<double> f = convolved(t, height, width, channels, w + square * 9, b + channels);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] += f[i] * scales[(int64_t{image} * blocks + n) * channels + i % channels];
      if (n % group != group - 1) continue;
      for (size_t i = 0; i < x.size(); ++i) x[i] = doubled ? 2 * x[i] : entry[i] + x[i];
      entry = x;
    }
    double largest = 0, error = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double found = out[image * pixels * channels + i];
      largest = std::max(largest, std::abs(x[i]));
      error = std::isfinite(found) ? std::max(error, std::abs(found - x[i])) : INFINITY;
    }
    if (!(error <= 4e-6 * largest)) {
      std::printf("%d channels, %dx%d, batch %d, %d blocks in groups of %d, %d threads: wrong by %g of %g\n", channels,
                  height, width, batch, blocks, group, threads, error, largest);
      return false;
    }
  }
  return true;
}

bool check(const char* name, dan_fast::Conv3x3Path path16, dan_fast::Conv3x3Path path32, dan_fast::Conv3x3Path path64) {
  std::mt19937 random(0);
  bool ok = true;
  for (int i = 0; i < 30 && ok; ++i) ok = right(path16, 16, random);
  for (int i = 0; i < 12 && ok; ++i) ok = right(path32, 32, random);
  for (int i = 0; i < 6 && ok; ++i) ok = right(path64, 64, random);
  std::printf(ok ? "%s\n" : "%s is wrong\n", name);
  return ok;
}

}  // namespace

int main() {
  using namespace dan_fast;
  bool ok = check("default", conv3x3_default<16>, conv3x3_default<32>, conv3x3_default<64>);
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    ok = check("avx2", conv3x3_avx2<16>, conv3x3_avx2<32>, conv3x3_avx2<64>) && ok;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
    ok = check("avx512", conv3x3_avx512<16>, conv3x3_avx512<32>, conv3x3_avx512<64>) && ok;
#endif
  return ok ? 0 : 1;
}
