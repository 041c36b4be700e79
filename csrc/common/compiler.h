// Names for what each compiler spells differently. Everything compiles without them, but runs slower.
#pragma once

#if defined(__GNUC__)
#define DAN_FAST_INLINE inline __attribute__((always_inline))
#define DAN_FAST_INLINE_LAMBDA __attribute__((always_inline))
// Into the first cache, and into the second.
#define DAN_FAST_PREFETCH(address) __builtin_prefetch(address)
#define DAN_FAST_PREFETCH_2(address) __builtin_prefetch(address, 0, 2)
#else
#define DAN_FAST_INLINE inline
#define DAN_FAST_INLINE_LAMBDA
#define DAN_FAST_PREFETCH(address)
#define DAN_FAST_PREFETCH_2(address)
#endif

// Functions that the CPU and the GPU call.
#ifdef __CUDACC__
#define DAN_FAST_HOST_DEVICE __host__ __device__
#else
#define DAN_FAST_HOST_DEVICE
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define DAN_FAST_X86
// GCC 12 would load a vector again for every use: this keeps it in its register.
#define DAN_FAST_IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define DAN_FAST_IN_REGISTER(vector)
#endif

// Tells the machine that this thread waits in a loop.
#if defined(DAN_FAST_X86)
#define DAN_FAST_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && defined(__GNUC__)
#define DAN_FAST_PAUSE() __asm__ volatile("yield")
#else
#define DAN_FAST_PAUSE()
#endif

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define DAN_FAST_SHUFFLE
#endif
#endif

// One build for every x86-64 machine: the loader picks the widest vectors that the machine has. Not under the thread
// sanitizer, which the loader's choice would call before it has begun.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define DAN_FAST_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#endif
#endif
#ifndef DAN_FAST_CLONES
#define DAN_FAST_CLONES
#endif
