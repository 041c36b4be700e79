// Winograd's F(4x4, 3x3): 4 x 4 outputs of a 3x3 convolution from 36 multiplications instead of 144 (Lavin and Gray,
// arXiv 1509.09308). Inputs and taps are evaluated as polynomials at six points, multiplied there, and interpolated.
// The points are 0, +-5/8, +-3/2 and infinity: the textbook's 0, +-1, +-2 lose twice as many digits. So that nothing is
// lost to the constants themselves, all of them are float32 numbers.
#pragma once

#include "../common/compiler.h"

namespace dan_fast::conv3x3 {
namespace winograd {

constexpr int kOut = 4;
constexpr int kIn = 6;
constexpr int kPositions = kIn * kIn;
constexpr float kNear = 0.625f, kNear2 = kNear * kNear, kNear3 = kNear2 * kNear;
constexpr float kFar = 1.5f, kFar2 = kFar * kFar, kFar3 = kFar2 * kFar;

// Evaluates six neighbouring inputs along one side at the points.
template <typename V>
DAN_FAST_INLINE void input(const V (&d)[kIn], V (&out)[kIn]) {
  constexpr float product = kNear2 * kFar2, sum = kNear2 + kFar2;
  out[0] = product * d[0] + (d[4] - sum * d[2]);
  const V even_near = d[4] - kFar2 * d[2], odd_near = d[3] - kFar2 * d[1];
  out[1] = even_near + kNear * odd_near;
  out[2] = even_near - kNear * odd_near;
  const V even_far = d[4] - kNear2 * d[2], odd_far = d[3] - kNear2 * d[1];
  out[3] = even_far + kFar * odd_far;
  out[4] = even_far - kFar * odd_far;
  out[5] = product * d[1] + (d[5] - sum * d[3]);
}

// Interpolates four outputs along one side from the products at the points.
template <typename V>
DAN_FAST_INLINE void output(const V (&m)[kIn], V (&out)[kOut]) {
  const V even_near = m[1] + m[2], odd_near = m[1] - m[2];
  const V even_far = m[3] + m[4], odd_far = m[3] - m[4];
  out[0] = m[0] + even_near + even_far;
  out[1] = kNear * odd_near + kFar * odd_far;
  out[2] = kNear2 * even_near + kFar2 * even_far;
  out[3] = m[5] + kNear3 * odd_near + kFar3 * odd_far;
}

// The transpose of output(): the gradients of the products from those of four outputs.
template <typename V>
DAN_FAST_INLINE void output_gradient(const V (&g)[kOut], V (&out)[kIn]) {
  out[0] = g[0];
  const V even_near = g[0] + kNear2 * g[2], odd_near = kNear * (g[1] + kNear2 * g[3]);
  out[1] = even_near + odd_near;
  out[2] = even_near - odd_near;
  const V even_far = g[0] + kFar2 * g[2], odd_far = kFar * (g[1] + kFar2 * g[3]);
  out[3] = even_far + odd_far;
  out[4] = even_far - odd_far;
  out[5] = g[3];
}

// What a tap, the coefficient of power 0, 1 or 2, contributes to the value at each point, divided by the divisors of
// the interpolation.
struct Powers {
  double at[kIn][3];
};

constexpr Powers make_powers() {
  const double points[kIn - 1] = {0, kNear, -kNear, kFar, -kFar};
  Powers powers{};
  for (int i = 0; i < kIn - 1; ++i) {
    double others = 1;
    for (int j = 0; j < kIn - 1; ++j)
      if (j != i) others *= points[i] - points[j];
    double value = 1;
    for (int power = 0; power < 3; ++power, value *= points[i]) powers.at[i][power] = value / others;
  }
  powers.at[kIn - 1][2] = 1;
  return powers;
}

constexpr Powers kPowers = make_powers();

// Evaluates 3 x 3 taps at the points of both sides.
template <typename V>
DAN_FAST_INLINE void filter(const V (&taps)[9], V (&out)[kPositions]) {
  for (int i = 0; i < kIn; ++i) {
    const auto& down = kPowers.at[i];
    V across[3];
    for (int u = 0; u < 3; ++u) across[u] = down[0] * taps[u] + down[1] * taps[3 + u] + down[2] * taps[6 + u];
    for (int j = 0; j < kIn; ++j) {
      const auto& along = kPowers.at[j];
      out[i * kIn + j] = along[0] * across[0] + along[1] * across[1] + along[2] * across[2];
    }
  }
}

// The transpose of filter() along one side: the gradients of three taps from those of the values at the points.
template <typename V>
DAN_FAST_INLINE void filter_gradient(const V (&g)[kIn], V (&out)[3]) {
  for (int u = 0; u < 3; ++u) {
    out[u] = static_cast<float>(kPowers.at[0][u]) * g[0];
    for (int i = 1; i < kIn; ++i) out[u] += static_cast<float>(kPowers.at[i][u]) * g[i];
  }
}

}  // namespace winograd
}  // namespace dan_fast::conv3x3
