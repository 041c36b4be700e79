// Vectors as compilers offer them for every machine: arithmetic by element, in as many instructions as it takes.
#pragma once

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

// From and to any address. By reference: a vector wider than the machine's has no registers to be passed in.
template <typename Vector, typename T>
DAN_FAST_INLINE void load(Vector& vector, const T* from) {
  std::memcpy(&vector, from, sizeof(Vector));
}

template <typename Vector, typename T>
DAN_FAST_INLINE void store(T* to, const Vector& vector) {
  std::memcpy(to, &vector, sizeof(Vector));
}

// All elements *from. Spelled out for x86, where GCC would keep the numbers of one loop in registers for the next one
// and put vectors together from them, many instructions each.
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

// run(0), run(1), ... run(Count - 1), each number a constant: arrays that only such numbers index stay in registers.
template <typename Run, int... Number>
DAN_FAST_INLINE void repeat(std::integer_sequence<int, Number...>, const Run& run) {
  (run(std::integral_constant<int, Number>{}), ...);
}

template <int Count, typename Run>
DAN_FAST_INLINE void repeat(const Run& run) {
  repeat(std::make_integer_sequence<int, Count>{}, run);
}

}  // namespace dan_fast
