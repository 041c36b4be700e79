// correlate() for every instruction set: one register-blocked kernel, compiled several times.
//
// A block of R output rows and C vectors stays in registers while the input rows pass by once: a vector
// that was loaded serves all R rows, a tap all C vectors, so that arithmetic and not loading limits it.

#include "correlate.h"

#include <algorithm>
#include <cstring>

#include "compiler.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define DAN_FAST_X86
// GCC 12 would load a vector again for every row that it serves: this keeps it in its register.
#define DAN_FAST_IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define DAN_FAST_IN_REGISTER(vector)
#endif

namespace dan_fast {
namespace {

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

// R rows and C vectors of `Bytes` bytes.
template <typename T, int Bytes, int R, int C>
struct Block {
  using Vector = typename VectorOf<T, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(T);
  static constexpr int64_t width = C * lanes;

  // Adds the input rows `begin` to `end` to the output rows Low to High.
  template <int Low, int High>
  static DAN_FAST_INLINE void add(const Filter<T>& filter, const T* const* rows, int step, int begin, int end,
                                  int64_t x, Vector (&sums)[R][C]) {
    // From the taps of an output row to those of the next, at the same input row.
    const int64_t next = (step > 0 ? -int64_t{step} : filter.height) * filter.width;
    for (int v = begin; v < end; ++v) {
      const T* in = rows[v] + x;
      const T* taps = filter.taps + int64_t{v} * filter.width;
      // What the next block reads here: a filter of one column would wait for the memory otherwise.
      for (int64_t ahead = 0; ahead < width; ahead += 64 / sizeof(T)) DAN_FAST_PREFETCH(in + width + ahead);
      for (int u = 0; u < filter.width; ++u) {
        Vector values[C];
        DAN_FAST_UNROLL
        for (int c = 0; c < C; ++c) {
          std::memcpy(&values[c], in + filter.offsets[u] + c * lanes, sizeof(Vector));
          DAN_FAST_IN_REGISTER(values[c]);
        }
        DAN_FAST_UNROLL
        for (int r = Low; r < High; ++r) {
          Vector tap = taps[u + r * next] - Vector{};
          DAN_FAST_IN_REGISTER(tap);
          DAN_FAST_UNROLL
          for (int c = 0; c < C; ++c) sums[r][c] += tap * values[c];
        }
      }
    }
  }

  // Row r reads the input rows from r * step on: first only row 0 reads, then 0 and 1, ... up to all ...
  template <int Reading>
  static DAN_FAST_INLINE void grow(const Filter<T>& filter, const T* const* rows, int step, int64_t x,
                                   Vector (&sums)[R][C]) {
    if constexpr (Reading < R) {
      add<0, Reading>(filter, rows, step, (Reading - 1) * step, Reading * step, x, sums);
      grow<Reading + 1>(filter, rows, step, x, sums);
    }
  }

  // ... and at the end row 0 is done, then row 1, ...
  template <int Done>
  static DAN_FAST_INLINE void shrink(const Filter<T>& filter, const T* const* rows, int step, int64_t x,
                                     Vector (&sums)[R][C]) {
    if constexpr (Done < R) {
      const int begin = filter.height + (Done - 1) * step;
      add<Done, R>(filter, rows, step, begin, begin + step, x, sums);
      shrink<Done + 1>(filter, rows, step, x, sums);
    }
  }

  static DAN_FAST_INLINE void run(const Filter<T>& filter, const T* const* rows, int step, int64_t x, T* out,
                                  int64_t pitch) {
    Vector sums[R][C] = {};
    grow<1>(filter, rows, step, x, sums);
    add<0, R>(filter, rows, step, (R - 1) * step, filter.height, x, sums);
    shrink<1>(filter, rows, step, x, sums);
    DAN_FAST_UNROLL
    for (int r = 0; r < R; ++r) {
      DAN_FAST_UNROLL
      for (int c = 0; c < C; ++c) std::memcpy(out + r * pitch + x + c * lanes, &sums[r][c], sizeof(Vector));
    }
  }

  // All of `width`, which must be at least this block's.
  static DAN_FAST_INLINE void run_across(const Filter<T>& filter, const T* const* rows, int step, int64_t columns,
                                         T* out, int64_t pitch) {
    for (int64_t x = 0; x < columns; x += width)
      run(filter, rows, step, std::min(x, columns - width), out, pitch);  // the last overlaps the one before
  }
};

// Any number of rows, at least Block<T, Bytes, R, C>::width values wide.
template <typename T, int Bytes, int R, int C>
DAN_FAST_INLINE void correlate_rows(const Filter<T>& filter, const T* const* rows, int step, int count, int64_t width,
                                    T* out, int64_t pitch) {
  if (count >= R && filter.height >= (R - 1) * step) {
    for (int row = 0; row < count; row += R) {
      const int64_t r = std::min(row, count - R);  // the last block overlaps the one before
      const Filter<T> own{filter.taps + (step > 0 ? 0 : r * filter.height * filter.width), filter.height,
                          filter.width, filter.offsets};
      if constexpr (R <= 2) {  // more columns instead, to have enough sums under way
        using Wide = Block<T, Bytes, R, 4>;
        if (width >= Wide::width) {
          Wide::run_across(own, rows + r * step, step, width, out + r * pitch, pitch);
          continue;
        }
      }
      Block<T, Bytes, R, C>::run_across(own, rows + r * step, step, width, out + r * pitch, pitch);
    }
  } else if constexpr (R > 1) {
    constexpr int fewer = R > 4 ? 4 : R / 2;
    correlate_rows<T, Bytes, fewer, C>(filter, rows, step, count, width, out, pitch);
  }
}

template <typename T, int Bytes, int R, int C>
DAN_FAST_INLINE void correlate_in_blocks(const Filter<T>& filter, const T* const* rows, int step, int count,
                                         int64_t width, T* out, int64_t pitch) {
  if (width >= Block<T, Bytes, R, C>::width)
    correlate_rows<T, Bytes, R, C>(filter, rows, step, count, width, out, pitch);
  else if (width >= Block<T, Bytes, 1, 1>::width)
    correlate_rows<T, Bytes, 4, 1>(filter, rows, step, count, width, out, pitch);
  else if (width >= Block<T, 16, 1, 1>::width)
    correlate_rows<T, 16, 4, 1>(filter, rows, step, count, width, out, pitch);
  else
    correlate_rows<T, sizeof(T), 1, 1>(filter, rows, step, count, width, out, pitch);
}

template <typename T>
using Correlate = void (*)(const Filter<T>&, const T* const*, int, int, int64_t, T*, int64_t);

template <typename T>
void correlate_default(const Filter<T>& filter, const T* const* rows, int step, int count, int64_t width, T* out,
                       int64_t pitch) {
  correlate_in_blocks<T, 16, 4, 2>(filter, rows, step, count, width, out, pitch);
}

#ifdef DAN_FAST_X86
template <typename T>
__attribute__((target("avx2,fma"))) void correlate_avx2(const Filter<T>& filter, const T* const* rows, int step,
                                                        int count, int64_t width, T* out, int64_t pitch) {
  correlate_in_blocks<T, 32, 6, 2>(filter, rows, step, count, width, out, pitch);
}

template <typename T>
__attribute__((target("avx512f,avx512vl,fma"))) void correlate_avx512(const Filter<T>& filter, const T* const* rows,
                                                                      int step, int count, int64_t width, T* out,
                                                                      int64_t pitch) {
  correlate_in_blocks<T, 64, 10, 2>(filter, rows, step, count, width, out, pitch);
}
#endif

template <typename T>
Correlate<T> best() {
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return correlate_avx512<T>;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return correlate_avx2<T>;
#endif
  return correlate_default<T>;
}

}  // namespace

void correlate(const Filter<float>& filter, const float* const* rows, int step, int count, int64_t width, float* out,
               int64_t pitch) {
  static const Correlate<float> chosen = best<float>();
  chosen(filter, rows, step, count, width, out, pitch);
}

void correlate(const Filter<double>& filter, const double* const* rows, int step, int count, int64_t width,
               double* out, int64_t pitch) {
  static const Correlate<double> chosen = best<double>();
  chosen(filter, rows, step, count, width, out, pitch);
}

}  // namespace dan_fast
