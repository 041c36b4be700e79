// One source compiled for several instruction sets, and the choice among them on the machine that runs it.
#pragma once

#include "compiler.h"

#ifdef DAN_FAST_X86
#define DAN_FAST_AVX2 __attribute__((target("avx2,fma")))
#define DAN_FAST_AVX512 __attribute__((target("avx512f,avx512vl,fma")))
#endif

namespace dan_fast {

#ifdef DAN_FAST_X86
// The function for the widest vectors that this machine has.
template <typename Function>
Function widest(Function avx512, Function avx2, Function other) {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
  return other;
}
#endif

}  // namespace dan_fast
