// One source compiled for several instruction sets, and the choice among them on the machine that runs it.
#pragma once

#include "compiler.h"

#ifdef DAN_FAST_X86

#define DAN_FAST_AVX2 __attribute__((target("avx2,fma")))
#define DAN_FAST_AVX512 __attribute__((target("avx512f,avx512vl,fma")))
// The one of three functions with the widest vectors that this machine has.
#define DAN_FAST_WIDEST(avx512, avx2, other) dan_fast::widest(avx512, avx2, other)

namespace dan_fast {

template <typename Function>
Function widest(Function avx512, Function avx2, Function other) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
  return other;
}

}  // namespace dan_fast

#else
#define DAN_FAST_WIDEST(avx512, avx2, other) other  // the first two are not compiled here
#endif
