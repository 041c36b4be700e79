// The arithmetic of every CPU path: a block of output rows from a block of input rows.
#pragma once

#include <cstdint>

namespace dan_fast {

// A filter of `height` x `width` taps, row after row. Tap u reads `offsets[u]` values to the right of
// the output's position: 0, 1, 2, ... on plain rows, something else on rows that were split into phases.
template <typename T>
struct Filter {
  const T* taps;
  int height;
  int width;
  const int64_t* offsets;
};

// out[r * pitch + x] = sum over v, u of taps[v][u] * rows[r * step + v][offsets[u] + x], for r < count and
// x < width. With step 0, every output row r has a filter of its own instead, one after the other in taps.
// Reads exactly that; every sum runs in the same order, whatever r, x, count and width are. Runs the widest
// vectors that the machine has.
void correlate(const Filter<float>& filter, const float* const* rows, int step, int count, int64_t width, float* out,
               int64_t pitch);
void correlate(const Filter<double>& filter, const double* const* rows, int step, int count, int64_t width,
               double* out, int64_t pitch);

}  // namespace dan_fast
