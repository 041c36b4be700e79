// Vectors as compilers offer them on every machine: arithmetic by element; wide ones become several instructions.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "compiler.h"

namespace dan_fast {

#if defined(__GNUC__)
template <typename T, int Bytes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(Bytes)));
};
#else
template <typename T, int Bytes>
struct VectorOf {
  using Type = T;
};
#endif
template <typename T>
struct VectorOf<T, sizeof(T)> {
  using Type = T;
};

// Load from and store to any address. Vectors are passed by reference, as one that is wider than the machine's has no
// register to be passed in.
template <typename Vector, typename T>
DAN_FAST_INLINE void load(Vector& vector, const T* from) {
  std::memcpy(&vector, from, sizeof(Vector));
}

template <typename Vector, typename T>
DAN_FAST_INLINE void store(T* to, const Vector& vector) {
  std::memcpy(to, &vector, sizeof(Vector));
}

// Sets all elements to *from. Spelled out for x86: GCC would keep the numbers of one loop in registers for the next one
// and assemble vectors from them, at many instructions each.
template <typename Vector, typename T>
DAN_FAST_INLINE void broadcast(Vector& vector, const T* from) {
#ifdef DAN_FAST_X86
  if constexpr (sizeof(Vector) >= 32) {
    if constexpr (sizeof(T) == 4) __asm__ volatile("vbroadcastss %1, %0" : "=v"(vector) : "m"(*from));
    else __asm__ volatile("vbroadcastsd %1, %0" : "=v"(vector) : "m"(*from));
    return;
  }
#endif
  vector = *from - Vector{};
}

// out[n * pitch + m] = in[m][n] for m, n < 4.
template <typename T>
DAN_FAST_INLINE void transpose_4x4(const T* const* in, T* out, int64_t pitch) {
#ifdef DAN_FAST_SHUFFLE
  if constexpr (sizeof(T) == 4) {
    typename VectorOf<T, 16>::Type a, b, c, d;
    load(a, in[0]);
    load(b, in[1]);
    load(c, in[2]);
    load(d, in[3]);
    const auto ab_01 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_23 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const auto cd_01 = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store(out, __builtin_shufflevector(ab_01, cd_01, 0, 1, 4, 5));
    store(out + pitch, __builtin_shufflevector(ab_01, cd_01, 2, 3, 6, 7));
    store(out + 2 * pitch, __builtin_shufflevector(ab_23, cd_23, 0, 1, 4, 5));
    store(out + 3 * pitch, __builtin_shufflevector(ab_23, cd_23, 2, 3, 6, 7));
    return;
  }
#endif
  for (int n = 0; n < 4; ++n)
    for (int m = 0; m < 4; ++m) out[n * pitch + m] = in[m][n];
}

#ifdef DAN_FAST_SHUFFLE
using Four = VectorOf<float, 16>::Type;
using Eight = VectorOf<float, 32>::Type;

// Loads four values from each of two addresses.
DAN_FAST_INLINE void load_halves(Eight& vector, const float* low, const float* high) {
  Four a, b;
  load(a, low);
  load(b, high);
  vector = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}

// out[n * pitch + m] = in[m * step + n] for m < 8, n < 4. Shuffles only within halves: those across take longer.
DAN_FAST_INLINE void split_8_by_4(const float* in, int64_t step, float* out, int64_t pitch) {
  Eight a, b, c, d;
  load_halves(a, in, in + 4 * step);
  load_halves(b, in + step, in + 5 * step);
  load_halves(c, in + 2 * step, in + 6 * step);
  load_halves(d, in + 3 * step, in + 7 * step);
  const Eight ab_01 = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
  const Eight ab_23 = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
  const Eight cd_01 = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
  const Eight cd_23 = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
  store(out, __builtin_shufflevector(ab_01, cd_01, 0, 1, 8, 9, 4, 5, 12, 13));
  store(out + pitch, __builtin_shufflevector(ab_01, cd_01, 2, 3, 10, 11, 6, 7, 14, 15));
  store(out + 2 * pitch, __builtin_shufflevector(ab_23, cd_23, 0, 1, 8, 9, 4, 5, 12, 13));
  store(out + 3 * pitch, __builtin_shufflevector(ab_23, cd_23, 2, 3, 10, 11, 6, 7, 14, 15));
}
#endif

// Calls run(0), run(1), ... run(Count - 1) with constant numbers: arrays indexed only by these stay in registers.
template <typename Run, int... Number>
DAN_FAST_INLINE void repeat(std::integer_sequence<int, Number...>, const Run& run) {
  (run(std::integral_constant<int, Number>{}), ...);
}

template <int Count, typename Run>
DAN_FAST_INLINE void repeat(const Run& run) {
  repeat(std::make_integer_sequence<int, Count>{}, run);
}

}  // namespace dan_fast
