// split() for every instruction set.

#include "rows.h"

#include <algorithm>

#include "../common/compiler.h"
#include "../common/vectors.h"

namespace dan_fast::blur_downsample {
namespace {

// With a constant scale the compiler shuffles whole vectors.
template <int Scale, typename T>
DAN_FAST_INLINE void split_by(const T* __restrict in, int64_t count, T* __restrict out, int64_t pitch) {
  for (int64_t i = 0; i < count; ++i)
    for (int phase = 0; phase < Scale; ++phase) out[phase * pitch + i] = in[i * Scale + phase];
}

#ifdef DAN_FAST_SHUFFLE
// Compilers need twice as many shuffles for these.
template <>
DAN_FAST_INLINE void split_by<2, float>(const float* __restrict in, int64_t count, float* __restrict out,
                                        int64_t pitch) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8, in += 16) {
    Eight a, b;
    load_halves(a, in, in + 8);
    load_halves(b, in + 4, in + 12);
    store(out + i, __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14));
    store(out + pitch + i, __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15));
  }
  for (; i < count; ++i, in += 2)
    for (int phase = 0; phase < 2; ++phase) out[phase * pitch + i] = in[phase];
}

template <>
DAN_FAST_INLINE void split_by<4, float>(const float* __restrict in, int64_t count, float* __restrict out,
                                        int64_t pitch) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8, in += 32) split_8_by_4(in, 4, out + i, pitch);
  for (; i < count; ++i, in += 4)
    for (int phase = 0; phase < 4; ++phase) out[phase * pitch + i] = in[phase];
}
#endif

template <typename T>
DAN_FAST_INLINE void split_any(int scale, const T* in, int64_t count, T* out, int64_t pitch) {
  if (scale == 1) std::copy_n(in, count, out);
  else if (scale == 2) split_by<2>(in, count, out, pitch);
  else if (scale == 3) split_by<3>(in, count, out, pitch);
  else split_by<4>(in, count, out, pitch);
}

}  // namespace

// Templates cannot be cloned, hence one function per type.
DAN_FAST_CLONES void split(int scale, const float* in, int64_t count, float* out, int64_t pitch) {
  split_any(scale, in, count, out, pitch);
}

DAN_FAST_CLONES void split(int scale, const double* in, int64_t count, double* out, int64_t pitch) {
  split_any(scale, in, count, out, pitch);
}

}  // namespace dan_fast::blur_downsample
