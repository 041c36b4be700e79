// The steps of a FastFir besides correlate(), for every instruction set.

#include "fast_fir.h"

#include <algorithm>

#include "../common/compiler.h"
#include "../common/vectors.h"

namespace dan_fast::blur_downsample {
namespace {

template <typename T>
DAN_FAST_INLINE void fours(const T* in, int64_t groups, T* out, int64_t pitch) {
#ifdef DAN_FAST_SHUFFLE
  if constexpr (sizeof(T) == 4) {
    if (groups >= 8) {
      for (int64_t group = 0; group < groups; group += 8) {
        const int64_t i = std::min(group, groups - 8);  // the last overlaps the one before
        for (int p = 0; p < kPhases; ++p) split_8_by_4(in + (i * kPhases + p) * 4, 16, out + p * pitch + i, groups);
      }
      return;
    }
  }
#endif
  for (int64_t i = 0; i < groups; ++i)
    for (int p = 0; p < kPhases; ++p)
      for (int q = 0; q < 4; ++q) out[p * pitch + q * groups + i] = in[(i * kPhases + p) * 4 + q];
}

// `count` is a multiple of a vector's values. Compilers do not vectorise this by themselves: too many pointers.
template <typename T>
DAN_FAST_INLINE void inputs(const T* in, int64_t count, T* const* out) {
  using Vector = typename VectorOf<T, 32>::Type;
  const T *in1 = in + count, *in2 = in1 + count, *in3 = in2 + count;
  T *p0 = out[0], *p1 = out[1], *p2 = out[2], *p3 = out[3], *p4 = out[4], *p5 = out[5], *p6 = out[6], *p7 = out[7],
    *p8 = out[8];
  for (int64_t i = 0; i < count; i += sizeof(Vector) / sizeof(T)) {
    Vector x0, x1, x2, x3, x4, x5, x6;
    load(x0, in + i);
    load(x1, in1 + i);
    load(x2, in2 + i);
    load(x3, in3 + i);
    load(x4, in + i + 1);
    load(x5, in1 + i + 1);
    load(x6, in2 + i + 1);
    // B of the matrix, A - B and C - B, each a matrix of two by two again.
    store(p0 + i, x3);
    store(p1 + i, x2 - x3);
    store(p2 + i, x4 - x3);
    const Vector a = x1 - x3, middle = x2 - x4, c = x5 - x3;
    store(p3 + i, a);
    store(p4 + i, x0 - x2 - a);
    store(p5 + i, middle - a);
    store(p6 + i, c);
    store(p7 + i, -middle - c);
    store(p8 + i, x6 - x4 - c);
  }
}

template <typename T>
DAN_FAST_INLINE void outputs(const T* const* in, int64_t count, T* __restrict out) {
  const T *p0 = in[0], *p1 = in[1], *p2 = in[2], *p3 = in[3], *p4 = in[4], *p5 = in[5], *p6 = in[6], *p7 = in[7],
          *p8 = in[8];
  for (int64_t i = 0; i < count; ++i) {
    const T even = p0[i] + p1[i], odd = p0[i] + p2[i];
    out[4 * i] = even + (p3[i] + p4[i]);
    out[4 * i + 1] = odd + (p3[i] + p5[i]);
    out[4 * i + 2] = even + (p6[i] + p7[i]);
    out[4 * i + 3] = odd + (p6[i] + p8[i]);
  }
}

}  // namespace

// Templates cannot be cloned, hence one function per type.
DAN_FAST_CLONES void split_fours(const float* in, int64_t groups, float* out, int64_t pitch) {
  fours(in, groups, out, pitch);
}
DAN_FAST_CLONES void split_fours(const double* in, int64_t groups, double* out, int64_t pitch) {
  fours(in, groups, out, pitch);
}
DAN_FAST_CLONES void combine_inputs(const float* in, int64_t count, float* const* out) { inputs(in, count, out); }
DAN_FAST_CLONES void combine_inputs(const double* in, int64_t count, double* const* out) { inputs(in, count, out); }
DAN_FAST_CLONES void combine_outputs(const float* const* in, int64_t count, float* out) { outputs(in, count, out); }
DAN_FAST_CLONES void combine_outputs(const double* const* in, int64_t count, double* out) { outputs(in, count, out); }

}  // namespace dan_fast::blur_downsample
