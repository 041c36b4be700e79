#include "rows.h"

#include <algorithm>

// One build for every x86-64 machine: the loader picks the widest vectors that the machine has.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define DAN_FAST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
#endif
#ifndef DAN_FAST_CLONES
#define DAN_FAST_CLONES
#endif

#if defined(__GNUC__)
#define DAN_FAST_INLINE inline __attribute__((always_inline))
#else
#define DAN_FAST_INLINE inline
#endif

namespace dan_fast {
namespace {

// The compiler knows the scale, and shuffles whole vectors.
template <int Scale, typename T>
DAN_FAST_INLINE void split_by(const T* __restrict in, int64_t count, T* __restrict out, int64_t pitch) {
  for (int64_t i = 0; i < count; ++i)
    for (int phase = 0; phase < Scale; ++phase) out[phase * pitch + i] = in[i * Scale + phase];
}

template <typename T>
DAN_FAST_INLINE void split_any(int scale, const T* in, int64_t count, T* out, int64_t pitch) {
  if (scale == 1) std::copy_n(in, count, out);
  else if (scale == 2) split_by<2>(in, count, out, pitch);
  else if (scale == 3) split_by<3>(in, count, out, pitch);
  else split_by<4>(in, count, out, pitch);
}

}  // namespace

// Templates cannot be cloned, hence one function a type.
DAN_FAST_CLONES void split(int scale, const float* in, int64_t count, float* out, int64_t pitch) {
  split_any(scale, in, count, out, pitch);
}

DAN_FAST_CLONES void split(int scale, const double* in, int64_t count, double* out, int64_t pitch) {
  split_any(scale, in, count, out, pitch);
}

}  // namespace dan_fast
