// Compares every instruction set of csrc/conv3x3 that this machine has, and the stacks that are made of its
// convolutions, with plain sums in double. For test_conv3x3_paths.py and `make asan`: prints one line per set; exits
// with 1 if one is wrong.

#include "../../csrc/conv3x3/conv3x3.cpp"
#include "../../csrc/conv3x3/conv3x3_weight_gradient.cpp"

#include <cmath>
#include <cstdio>
#include <random>
#include <thread>

#include "../../csrc/conv3x3/crb_stack.h"
#include "../../csrc/conv3x3/dpcb_stack.h"
#include "../../csrc/conv3x3/dpcg.h"

namespace dan_fast::conv3x3 {
namespace {

using Values = std::vector<float>;
using Doubles = std::vector<double>;

Values draw(int64_t count, double spread, std::mt19937& random) {
  std::normal_distribution<float> value(0, static_cast<float>(spread));
  Values values(count);
  for (float& v : values) v = value(random);
  return values;
}

// (height, width, in) to (height, width, out): the sums over the neighbours of each pixel inside the image.
Doubles convolved(const Doubles& image, int height, int width, int in, int out, const float* weights,
                  const float* bias) {
  Doubles result(int64_t{height} * width * out);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int o = 0; o < out; ++o) {
        double sum = bias[o];
        for (int v = std::max(0, 1 - y); v < std::min(3, height + 1 - y); ++v)
          for (int u = std::max(0, 1 - x); u < std::min(3, width + 1 - x); ++u)
            for (int k = 0; k < in; ++k)
              sum += image[(int64_t{y + v - 1} * width + x + u - 1) * in + k] *
                     weights[(int64_t{o} * in + k) * 9 + v * 3 + u];
        result[(int64_t{y} * width + x) * out + o] = sum;
      }
  return result;
}

// Convolutions with their packed form: weights (out, in, 3, 3), then the biases; in and out are multiples of 16.
struct Convolution {
  int in, out;
  Values weights, bias, packed;

  Convolution(int in, int out, std::mt19937& random)
      : in(in), out(out), weights(draw(int64_t{9} * in * out, std::sqrt(2.0 / (9 * in)), random)),
        bias(draw(out, 0.1, random)), packed(packed_conv3x3(in, out) + out) {
    for (int panel = 0; panel < out; panel += kPanel)
      pack_conv3x3({weights.data(), int64_t{9} * in, 9, 3, 1}, in, panel, packed.data());
    std::copy_n(bias.data(), out, packed.data() + packed_conv3x3(in, out));
  }

  Doubles of(const Doubles& image, int height, int width) const {
    return convolved(image, height, width, in, out, weights.data(), bias.data());
  }
};

Values all_packed(const std::vector<Convolution>& convolutions) {
  Values packed;
  for (const Convolution& conv : convolutions) packed.insert(packed.end(), conv.packed.begin(), conv.packed.end());
  return packed;
}

Doubles activated(Doubles image) {
  for (double& value : image) value = value > 0 ? value : 0.2 * value;
  return image;
}

// On threads of its own, or in the other order than one thread would: nobody may count on it.
struct Parallel {
  bool at_once;

  template <typename Run>
  void operator()(int64_t count, const Run& run) const {
    std::vector<std::thread> threads;
    for (int64_t n = count; n-- > 0;) {
      if (at_once) threads.emplace_back([&run, n] { run(n); });
      else run(n);
    }
    for (std::thread& thread : threads) thread.join();
  }
};

Parallel either(std::mt19937& random) { return {random() % 2 == 0}; }

struct Shape {
  int batch, height, width, threads;
  int64_t pixels() const { return int64_t{height} * width; }
};

Shape draw_shape(std::mt19937& random) {
  const auto number = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  const bool wide = number(0, 7) == 0;
  return {number(1, 3), wide ? number(5, 9) : number(1, 14), wide ? number(390, 410) : number(1, 14), number(1, 4)};
}

Doubles image_of(const Values& images, int64_t image, int64_t floats) {
  const auto first = images.begin() + image * floats;
  return Doubles(first, first + floats);
}

bool close(const char* what, const Doubles& expected, const float* found, const Shape& shape) {
  double largest = 0, error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    error = std::isfinite(found[i]) ? std::max(error, std::abs(found[i] - expected[i])) : INFINITY;
  }
  if (error <= 4e-6 * largest) return true;
  std::printf("%s, %dx%d, batch %d, %d threads: wrong by %g of %g\n", what, shape.height, shape.width, shape.batch,
              shape.threads, error, largest);
  return false;
}

using Path = Conv3x3Path (*)(int in_channels);

bool dpcb_stack_right(Path path, int channels, std::mt19937& random) {
  const Shape shape = draw_shape(random);
  const int group = 1 + random() % 2, blocks = group * (1 + random() % 2);
  const bool doubled = random() % 2;
  const int64_t floats = shape.pixels() * channels;
  std::vector<Convolution> convs;
  for (int n = 0; n < 2 * blocks; ++n) convs.emplace_back(channels, channels, random);
  const Values packed = all_packed(convs), modulation = draw(int64_t{shape.batch} * blocks * channels, 0.3, random);
  const Values in = draw(shape.batch * floats, 1, random);
  Values out = in;
  dpcb_stack({channels, blocks, group, doubled, packed.data(), path(channels)}, shape.batch, shape.height, shape.width,
             out.data(), modulation.data(), shape.threads, either(random));

  for (int image = 0; image < shape.batch; ++image) {
    Doubles x = image_of(in, image, floats), group_input = x;
    for (int n = 0; n < blocks; ++n) {
      const Doubles t = activated(convs[2 * n].of(x, shape.height, shape.width));
      const Doubles f = convs[2 * n + 1].of(t, shape.height, shape.width);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] += f[i] * modulation[(int64_t{image} * blocks + n) * channels + i % channels];
      if (n % group != group - 1) continue;
      for (size_t i = 0; i < x.size(); ++i) x[i] = doubled ? 2 * x[i] : group_input[i] + x[i];
      group_input = x;
    }
    if (!close("dpcb_stack", x, out.data() + image * floats, shape)) return false;
  }
  return true;
}

bool dpcg_right(Path path, int channels, std::mt19937& random) {
  const Shape shape = draw_shape(random);
  const int blocks = 1 + random() % 3;
  const bool doubled = random() % 2;
  const int64_t floats = shape.pixels() * channels;
  std::vector<Convolution> convs;
  for (int n = 0; n < 4 * blocks; ++n) convs.emplace_back(channels, channels, random);
  const Values packed = all_packed(convs);
  const Values in = draw(shape.batch * floats, 1, random), condition = draw(shape.batch * floats, 0.3, random);
  Values out = in, z_out = condition;
  dpcg({channels, blocks, doubled, packed.data(), path(channels)}, shape.batch, shape.height, shape.width, in.data(),
       out.data(), z_out.data(), shape.threads, either(random));

  for (int image = 0; image < shape.batch; ++image) {
    Doubles x = image_of(in, image, floats), z = image_of(condition, image, floats);
    const Doubles group_input = x;
    for (int n = 0; n < blocks; ++n) {
      const auto two = [&](const Doubles& from, int first) {
        return convs[first + 1].of(activated(convs[first].of(from, shape.height, shape.width)), shape.height,
                                   shape.width);
      };
      const Doubles f1 = two(x, 4 * n), f2 = two(z, 4 * n + 2);
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] += f1[i] * f2[i];
        z[i] += f2[i];
      }
    }
    for (size_t i = 0; i < x.size(); ++i) x[i] = doubled ? 2 * x[i] : group_input[i] + x[i];
    if (!close("dpcg", x, out.data() + image * floats, shape)) return false;
  }
  return true;
}

// With a bias for each place, as one value of the condition for all pixels makes it, or with the same.
bool crb_stack_right(Path path, int in_channels, int hidden, int channels, std::mt19937& random) {
  const Shape shape = draw_shape(random);
  const int blocks = 1 + random() % 3, squeezed = 1 + random() % 3, places = random() % 2 ? 9 : 1;
  const int64_t floats = shape.pixels() * in_channels;
  std::vector<Convolution> one, two;
  for (int n = 0; n < blocks; ++n) {
    one.emplace_back(in_channels, hidden, random);
    two.emplace_back(hidden, channels, random);
  }
  const Values packed_one = all_packed(one), packed_two = all_packed(two);
  const Values squeeze = draw(blocks * squeezed * channels, 0.5, random), s = draw(blocks * squeezed, 1, random);
  const Values excite = draw(blocks * channels * squeezed, 0.5, random), e = draw(blocks * channels, 1, random);
  const Values bias = draw(int64_t{shape.batch} * blocks * places * hidden, 0.3, random);
  const Values in = draw(shape.batch * floats, 1, random);
  Values out = in;
  crb_stack({channels, in_channels, hidden, squeezed, blocks, places, packed_one.data(), packed_two.data(),
             squeeze.data(), s.data(), excite.data(), e.data(), path(in_channels), path(hidden)},
            shape.batch, shape.height, shape.width, out.data(), bias.data(), shape.threads, either(random));

  for (int image = 0; image < shape.batch; ++image) {
    Doubles x = image_of(in, image, floats);
    for (int n = 0; n < blocks; ++n) {
      Doubles t = convolved(x, shape.height, shape.width, in_channels, hidden, one[n].weights.data(),
                            Values(hidden).data());
      const float* own = bias.data() + (int64_t{image} * blocks + n) * places * hidden;
      for (int64_t pixel = 0; pixel < shape.pixels(); ++pixel) {
        const int64_t y = pixel / shape.width, column = pixel % shape.width;
        const int down = y == 0 ? 0 : y == shape.height - 1 ? 2 : 1;
        const int along = column == 0 ? 0 : column == shape.width - 1 ? 2 : 1;
        for (int c = 0; c < hidden; ++c)
          t[pixel * hidden + c] += own[(places == 9 ? 3 * down + along : 0) * hidden + c];
      }
      const Doubles y = two[n].of(activated(t), shape.height, shape.width);
      Doubles mean(channels), inner(squeezed);
      for (size_t i = 0; i < y.size(); ++i) mean[i % channels] += y[i] / shape.pixels();
      for (int k = 0; k < squeezed; ++k) {
        inner[k] = s[n * squeezed + k];
        for (int c = 0; c < channels; ++c) inner[k] += squeeze[(n * squeezed + k) * channels + c] * mean[c];
      }
      inner = activated(inner);
      for (int c = 0; c < channels; ++c) {
        double value = e[n * channels + c];
        for (int k = 0; k < squeezed; ++k) value += excite[(n * channels + c) * squeezed + k] * inner[k];
        for (int64_t pixel = 0; pixel < shape.pixels(); ++pixel)
          x[pixel * in_channels + c] += y[pixel * channels + c] / (1 + std::exp(-value));
      }
    }
    if (!close("crb_stack", x, out.data() + image * floats, shape)) return false;
  }
  return true;
}

// The gradient of the input, with each of its epilogues.
bool input_gradient_right(Path path, int channels, std::mt19937& random) {
  const Shape shape = draw_shape(random);
  const int64_t floats = shape.pixels() * channels, pitch = int64_t{shape.width} * channels;
  const Convolution conv(channels, channels, random);
  const WeightView taps = WeightView{conv.weights.data(), int64_t{9} * channels, 9, 3, 1}.transposed();
  Values packed(packed_conv3x3(channels, channels)), turned(conv.weights.size()), none(channels), zero(pitch);
  for (int panel = 0; panel < channels; panel += kPanel) pack_conv3x3(taps, channels, panel, packed.data());
  for (int o = 0; o < channels; ++o)
    for (int i = 0; i < channels; ++i)
      for (int tap = 0; tap < 9; ++tap)
        turned[(i * channels + o) * 9 + 8 - tap] = conv.weights[(o * channels + i) * 9 + tap];

  Values grad = draw(floats, 1, random), other = draw(floats, 1, random), out(floats), workspace(
      conv3x3_workspace(channels));
  RowTable in(shape.height, zero.data(), grad.data(), pitch), by(shape.height, zero.data(), other.data(), pitch);
  RowTable to(shape.height, zero.data(), out.data(), pitch);
  const Doubles plain = convolved(Doubles(grad.begin(), grad.end()), shape.height, shape.width, channels, channels,
                                  turned.data(), none.data());
  for (const Finish finish : {Finish::kStore, Finish::kActivateGradient, Finish::kAdd}) {
    Conv3x3 own{shape.height, shape.width, channels, channels, in.get(), to.get(), packed.data(), none.data()};
    own.finish = finish;
    own.slope = 0.3f;
    own.activated = own.residual = by.get();
    path(channels)(own, 0, tiles_along(shape.height) * tiles_along(shape.width), workspace.data());
    Doubles expected = plain;
    for (int64_t i = 0; i < floats; ++i) {
      if (finish == Finish::kAdd) expected[i] += other[i];
      if (finish == Finish::kActivateGradient && other[i] <= 0) expected[i] *= 0.3;
    }
    if (!close("input gradient", expected, out.data(), shape)) return false;
  }
  return true;
}

// In parts, whose sum it is.
bool weight_gradient_right(WeightGradientPath path, int in, int out, std::mt19937& random) {
  const Shape shape = draw_shape(random);
  const int64_t in_pitch = int64_t{shape.width} * in, out_pitch = int64_t{shape.width} * out;
  Values x = draw(shape.batch * shape.pixels() * in, 1, random);
  Values grad = draw(shape.batch * shape.pixels() * out, 1, random);
  const Values zero(std::max(in_pitch, out_pitch));
  std::vector<RowTable> in_rows, grad_rows;
  std::vector<const float* const*> in_tables, grad_tables;
  for (int n = 0; n < shape.batch; ++n) {
    in_rows.emplace_back(shape.height, const_cast<float*>(zero.data()), x.data() + n * shape.pixels() * in, in_pitch);
    grad_rows.emplace_back(shape.height, const_cast<float*>(zero.data()), grad.data() + n * shape.pixels() * out,
                           out_pitch);
    in_tables.push_back(in_rows.back().get());
    grad_tables.push_back(grad_rows.back().get());
  }
  const WeightGradient sum{shape.height, shape.width, in, out, in_tables.data(), grad_tables.data()};
  const int64_t tiles = shape.batch * tiles_along(shape.height) * tiles_along(shape.width);
  const int64_t parts = std::min<int64_t>(shape.threads, tiles);
  Values workspace(weight_gradient_workspace(in, out)), part(int64_t{9} * in * out), taps(part.size());
  for (int64_t n = 0; n < parts; ++n) {
    path(sum, tiles * n / parts, tiles * (n + 1) / parts, part.data(), workspace.data());
    for (size_t i = 0; i < taps.size(); ++i) taps[i] += part[i];
  }

  Doubles expected(taps.size());
  for (int n = 0; n < shape.batch; ++n)
    for (int y = 0; y < shape.height; ++y)
      for (int column = 0; column < shape.width; ++column)
        for (int v = std::max(0, 1 - y); v < std::min(3, shape.height + 1 - y); ++v)
          for (int u = std::max(0, 1 - column); u < std::min(3, shape.width + 1 - column); ++u)
            for (int o = 0; o < out; ++o)
              for (int i = 0; i < in; ++i)
                expected[((int64_t{o} * 3 + v) * 3 + u) * in + i] +=
                    double{grad[(n * shape.pixels() + int64_t{y} * shape.width + column) * out + o]} *
                    x[(n * shape.pixels() + int64_t{y + v - 1} * shape.width + column + u - 1) * in + i];
  return close("weight gradient", expected, taps.data(), shape);
}

template <template <int> class Set>
bool check(const char* name, WeightGradientPath weight_gradient) {
  const Path path = [](int channels) {
    return channels == 16 ? Set<16>::path : channels == 32 ? Set<32>::path : channels == 48 ? Set<48>::path
         : channels == 64 ? Set<64>::path : Set<80>::path;
  };
  std::mt19937 random(0);
  bool ok = true;
  for (int i = 0; i < 20 && ok; ++i) ok = dpcb_stack_right(path, 16, random) && dpcg_right(path, 16, random);
  for (int i = 0; i < 6 && ok; ++i) ok = dpcb_stack_right(path, 32, random) && dpcg_right(path, 32, random);
  for (int i = 0; i < 3 && ok; ++i) ok = dpcb_stack_right(path, 64, random) && dpcg_right(path, 64, random);
  for (int i = 0; i < 10 && ok; ++i)
    ok = crb_stack_right(path, 32, 32, 16, random) && crb_stack_right(path, 32, 48, 32, random);
  for (int i = 0; i < 3 && ok; ++i) ok = crb_stack_right(path, 64, 80, 64, random);
  for (int i = 0; i < 6 && ok; ++i)
    ok = input_gradient_right(path, 16, random) && input_gradient_right(path, 48, random) &&
         weight_gradient_right(weight_gradient, 16, 16, random) &&
         weight_gradient_right(weight_gradient, 32, 48, random) &&
         weight_gradient_right(weight_gradient, 48, 32, random);
  std::printf(ok ? "%s\n" : "%s is wrong\n", name);
  return ok;
}

template <int C> struct Default { static constexpr Conv3x3Path path = conv3x3_default<C>; };
#ifdef DAN_FAST_X86
template <int C> struct Avx2 { static constexpr Conv3x3Path path = conv3x3_avx2<C>; };
template <int C> struct Avx512 { static constexpr Conv3x3Path path = conv3x3_avx512<C>; };
#endif

}  // namespace
}  // namespace dan_fast::conv3x3

int main() {
  using namespace dan_fast::conv3x3;
  bool ok = check<Default>("default", weight_gradient_default);
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    ok = check<Avx2>("avx2", weight_gradient_avx2) && ok;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
    ok = check<Avx512>("avx512", weight_gradient_avx512) && ok;
#endif
  return ok ? 0 : 1;
}
