// correlate() for every instruction set: one source, blocked for registers and compiled several times.
//
// A block of R output rows and C vectors stays in registers while the input rows pass by once: a vector
// that was loaded serves all R rows, a tap all C vectors, so that arithmetic and not loading limits it.

#include "correlate.h"

#include <algorithm>

#include "../common/compiler.h"
#include "../common/instruction_sets.h"
#include "../common/vectors.h"

namespace dan_fast::blur_downsample {
namespace {

// R rows and C vectors of `Bytes` bytes.
template <typename T, int Bytes, int R, int C>
struct Block {
  using Vector = typename VectorOf<T, Bytes>::Type;
  static constexpr int lanes = sizeof(Vector) / sizeof(T);
  static constexpr int64_t width = C * lanes;

  // Adds C vectors of one input row, each times a tap, to the output rows Low to High; output row r multiplies with
  // taps[-r * before].
  template <int Low, int High>
  static DAN_FAST_INLINE void add(const T* in, const T* taps, int64_t before, Vector (&sums)[R][C]) {
    Vector values[C];
    repeat<C>([&](auto c) DAN_FAST_INLINE_LAMBDA {
      load(values[c], in + c * lanes);
      DAN_FAST_IN_REGISTER(values[c]);
    });
    repeat<High - Low>([&](auto row) DAN_FAST_INLINE_LAMBDA {
      constexpr int r = Low + row;
      Vector tap;
      broadcast(tap, taps - r * before);
      repeat<C>([&](auto c) DAN_FAST_INLINE_LAMBDA { sums[r][c] += tap * values[c]; });
    });
  }

  static DAN_FAST_INLINE void prefetch_next(const T* in) {
    for (int64_t ahead = 0; ahead < width; ahead += 64 / sizeof(T)) DAN_FAST_PREFETCH(in + width + ahead);
  }

  // Among the input rows `step` apart, output row r reads those from number r on: at first only row 0 reads, then 0
  // and 1, ... up to all ...
  template <int Reading>
  static DAN_FAST_INLINE void grow(const T* const* rows, int step, int64_t at, const T* taps, Vector (&sums)[R][C]) {
    if constexpr (Reading < R) {
      add<0, Reading>(rows[int64_t{Reading - 1} * step] + at, taps + Reading - 1, 1, sums);
      grow<Reading + 1>(rows, step, at, taps, sums);
    }
  }

  // ... and at the end row 0 is done, then row 1, ... `rows` and `taps` are at the last input row that row 0 reads.
  template <int Done>
  static DAN_FAST_INLINE void shrink(const T* const* rows, int step, int64_t at, const T* taps, Vector (&sums)[R][C]) {
    if constexpr (Done < R) {
      add<Done, R>(rows[int64_t{Done} * step] + at, taps + Done, 1, sums);
      shrink<Done + 1>(rows, step, at, taps, sums);
    }
  }

  // Output rows that share input rows. One column of taps after the other: at the end of one the first rows are
  // idle, and the processor goes on with the next.
  static DAN_FAST_INLINE void shared(const Filter<T>& filter, const T* const* rows, int step, int64_t x,
                                     Vector (&sums)[R][C]) {
    const int most = (filter.height + step - 1) / step;
    for (int phase = 0; phase < std::min(step, filter.height); ++phase) {
      const int count = (filter.height - phase + step - 1) / step;
      const T* const* in = rows + phase;
      // Prefetch for the next block: a filter of one column would wait for the memory otherwise.
      if (filter.width == 1)
        for (int n = 0; n < count + R - 1; ++n) prefetch_next(in[int64_t{n} * step] + x);
      for (int u = 0; u < filter.width; ++u) {
        const T* taps = filter.taps + (int64_t{phase} * filter.width + u) * most;
        const int64_t at = x + filter.offsets[u];
        grow<1>(in, step, at, taps, sums);
        for (int n = R - 1; n < count; ++n) add<0, R>(in[int64_t{n} * step] + at, taps + n, 1, sums);
        shrink<1>(in + int64_t{count - 1} * step, step, at, taps + count - 1, sums);
      }
    }
  }

  // Output rows with a filter each, which read the same input rows.
  static DAN_FAST_INLINE void own_filters(const Filter<T>& filter, const T* const* rows, int64_t x,
                                          Vector (&sums)[R][C]) {
    const int64_t size = int64_t{filter.height} * filter.width;
    for (int v = 0; v < filter.height; ++v)
      for (int u = 0; u < filter.width; ++u)
        add<0, R>(rows[v] + x + filter.offsets[u], filter.taps + int64_t{v} * filter.width + u, -size, sums);
  }

  // Output rows that share little or nothing.
  static DAN_FAST_INLINE void own_rows(const Filter<T>& filter, const T* const* rows, int step, int64_t x,
                                       Vector (&sums)[R][C]) {
    const int most = (filter.height + step - 1) / step;
    for (int phase = 0; phase < std::min(step, filter.height); ++phase)
      for (int u = 0; u < filter.width; ++u)
        for (int n = 0, v = phase; v < filter.height; ++n, v += step)
          repeat<R>([&](auto r) DAN_FAST_INLINE_LAMBDA {
            add<r, r + 1>(rows[v + int64_t{r} * step] + x + filter.offsets[u],
                          filter.taps + (int64_t{phase} * filter.width + u) * most + n, 0, sums);
          });
  }

  static DAN_FAST_INLINE void run(const Filter<T>& filter, const T* const* rows, int step, int64_t x, T* out,
                                  int64_t pitch) {
    Vector sums[R][C] = {};
    if (step == 0) {
      own_filters(filter, rows, x, sums);
    } else if (filter.height >= R * step) {
      shared(filter, rows, step, x, sums);
    } else {
      own_rows(filter, rows, step, x, sums);
    }
    repeat<R>([&](auto r) DAN_FAST_INLINE_LAMBDA {
      repeat<C>([&](auto c) DAN_FAST_INLINE_LAMBDA { store(out + r * pitch + x + c * lanes, sums[r][c]); });
    });
  }

  // Runs across `columns` columns, which must be at least this block's width.
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
  // Rows that share nothing may as well be two.
  if (count >= R && (R <= 2 || filter.height >= R * step)) {
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
    correlate_rows<T, Bytes, R, 1>(filter, rows, step, count, width, out, pitch);
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
DAN_FAST_AVX2 void correlate_avx2(const Filter<T>& filter, const T* const* rows, int step, int count, int64_t width,
                                  T* out, int64_t pitch) {
  correlate_in_blocks<T, 32, 6, 2>(filter, rows, step, count, width, out, pitch);
}

template <typename T>
DAN_FAST_AVX512 void correlate_avx512(const Filter<T>& filter, const T* const* rows, int step, int count,
                                      int64_t width, T* out, int64_t pitch) {
  correlate_in_blocks<T, 64, 8, 2>(filter, rows, step, count, width, out, pitch);
}
#endif

template <typename T>
Correlate<T> widest_path() {
  return DAN_FAST_WIDEST(correlate_avx512<T>, correlate_avx2<T>, correlate_default<T>);
}

}  // namespace

void correlate(const Filter<float>& filter, const float* const* rows, int step, int count, int64_t width, float* out,
               int64_t pitch) {
  static const Correlate<float> chosen = widest_path<float>();
  chosen(filter, rows, step, count, width, out, pitch);
}

void correlate(const Filter<double>& filter, const double* const* rows, int step, int count, int64_t width,
               double* out, int64_t pitch) {
  static const Correlate<double> chosen = widest_path<double>();
  chosen(filter, rows, step, count, width, out, pitch);
}

}  // namespace dan_fast::blur_downsample
