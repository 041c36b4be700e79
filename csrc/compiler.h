// What compilers call differently. Everything compiles without any of it, slower.
#pragma once

#if defined(__GNUC__)
#define DAN_FAST_INLINE inline __attribute__((always_inline))
#define DAN_FAST_UNROLL _Pragma("GCC unroll 16")
// Into the first cache, and into the second.
#define DAN_FAST_PREFETCH(address) __builtin_prefetch(address)
#define DAN_FAST_PREFETCH_2(address) __builtin_prefetch(address, 0, 2)
#else
#define DAN_FAST_INLINE inline
#define DAN_FAST_UNROLL
#define DAN_FAST_PREFETCH(address)
#define DAN_FAST_PREFETCH_2(address)
#endif

// One build for every x86-64 machine: the loader picks the widest vectors that the machine has.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12
#define DAN_FAST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
#endif
#ifndef DAN_FAST_CLONES
#define DAN_FAST_CLONES
#endif
