// The antialiased bicubic filter of the downsampling. Plain arithmetic, for the CPU and for CUDA.
#pragma once

#include <cmath>

namespace dan_fast::blur_downsample {

constexpr int kMaxScale = 4;

// The antialiased bicubic filter. Scales are whole numbers, so every output pixel j has the same
// weights, on the input pixels j * scale + first, ..., j * scale + first + count - 1.
template <typename T>
struct Taps {
  int first;
  int count;
  T weights[4 * kMaxScale];
};

// Keys' cubic convolution kernel with a = -0.5.
inline double cubic(double x) {
  x = std::abs(x);
  if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x <= 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

template <typename T>
Taps<T> downsample_taps(int scale) {
  // Output pixel j sits at (j + 0.5) * scale - 0.5; the stretched cubic reaches 2 * scale to each side.
  const double centre = (scale - 1) / 2.0;
  Taps<T> taps{static_cast<int>(std::floor(centre - 2 * scale)) + 1, 4 * scale, {}};
  double sum = 0;
  for (int t = 0; t < taps.count; ++t) sum += cubic((taps.first + t - centre) / scale);
  for (int t = 0; t < taps.count; ++t)
    taps.weights[t] = static_cast<T>(cubic((taps.first + t - centre) / scale) / sum);
  return taps;
}

}  // namespace dan_fast::blur_downsample
