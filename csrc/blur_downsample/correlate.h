// The arithmetic of every CPU path: a block of output rows from a block of input rows.
#pragma once

#include <cstdint>
#include <vector>

namespace dan_fast::blur_downsample {

// A filter of `height` x `width` taps. Tap u reads `offsets[u]` values to the right of the output's position: 0, 1,
// 2, ... on plain rows, something else on rows that were split into phases. For the order of taps see by_phase().
template <typename T>
struct Filter {
  const T* taps;
  int height;
  int width;
  const int64_t* offsets;
};

// The taps of a filter whose outputs lie `step` input rows apart, reordered: first those of the rows 0, step, 2 * step,
// ..., one column after the other; then those of the rows 1, 1 + step, ... All columns have the length of the longest.
// A filter of one column with step 1, or of one row, stays as it is.
template <typename T>
std::vector<T> by_phase(const T* taps, int height, int width, int step) {
  const int most = (height + step - 1) / step;
  std::vector<T> out(int64_t{step} * width * most);
  for (int v = 0; v < height; ++v)
    for (int u = 0; u < width; ++u)
      out[(int64_t{v % step} * width + u) * most + v / step] = taps[int64_t{v} * width + u];
  return out;
}

// out[r * pitch + x] = sum over v, u of taps[v][u] * rows[r * step + v][offsets[u] + x], for r < count and
// x < width, the taps in the order of by_phase(). With step 0, every output row r has a filter of its own instead, one
// after the other, each row after row. Reads exactly that; every sum runs in the same order, whatever r, x, count and
// width are. Runs the widest vectors that the machine has.
void correlate(const Filter<float>& filter, const float* const* rows, int step, int count, int64_t width, float* out,
               int64_t pitch);
void correlate(const Filter<double>& filter, const double* const* rows, int step, int count, int64_t width,
               double* out, int64_t pitch);

}  // namespace dan_fast::blur_downsample
