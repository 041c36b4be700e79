// Four neighbouring outputs of a row filter for 22 multiplications instead of 36 (9 taps): a fast FIR algorithm.
//
// With the row's inputs X[n] and taps h[e], each split into four phases, the outputs are
//   | y0 |   | X0 X1 X2 X3 |   | h0 |
//   | y1 | = | X1 X2 X3 X4 | * | h1 |     X4, X5, X6: X0, X1, X2 one place to the right.
//   | y2 |   | X2 X3 X4 X5 |   | h2 |
//   | y3 |   | X3 X4 X5 X6 |   | h3 |
// Any such matrix of two by two blocks is three products instead of four,
//   | A B |   | g |   | B(g + h) + (A - B)g |
//   | B C | * | h | = | B(g + h) + (C - B)h |
// and doing it twice makes nine of sixteen. The products are correlations too, of whole rows: correlate() does
// them, and only sums of their results, once per output, are left. Exact; only the roundings differ.
// (Mou and Duhamel, Short-length FIR filters and their use in fast nonrecursive filtering, 1991.)
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "../common/compiler.h"
#include "axis.h"
#include "correlate.h"
#include "matrix.h"
#include "rows.h"

namespace dan_fast::blur_downsample {

constexpr int kPhases = 4;
constexpr int kProducts = 9;

// The nine filters that a filter becomes which moves on by `down` rows and `across` columns per output.
template <typename T>
struct FastFilters {
  struct Product {
    std::vector<T> taps;  // (height, width) in the order of by_phase()
    int width;
    std::vector<int> column, place;  // of tap u: its phase of `across`, and how many groups of outputs to the right
  };

  int height = 0;
  int width = 0;
  int places = 0;  // how many groups of four outputs a row of the filter reaches
  std::array<Product, kProducts> products;

  FastFilters() = default;
  FastFilters(const Matrix<T>& filter, int down, int across) : height(filter.height), width(filter.width) {
    places = (filter.width + kPhases * across - 1) / (kPhases * across);
    // Which phases of the taps each product adds up.
    static constexpr bool kAdds[kProducts][kPhases] = {
        {true, true, true, true},   {true, false, true, false},  {false, true, false, true},
        {true, true, false, false}, {true, false, false, false}, {false, true, false, false},
        {false, false, true, true}, {false, false, true, false}, {false, false, false, true}};
    for (int j = 0; j < kProducts; ++j) {
      Product& product = products[j];
      std::vector<int> adds;  // where the taps of `sums` come from, in turn
      for (int column = 0; column < across; ++column)
        for (int place = 0; place < places; ++place) {
          std::array<int, kPhases> from;
          int count = 0;
          for (int e = 0; e < kPhases; ++e)
            if (const int tap = (place * kPhases + e) * across + column; kAdds[j][e] && tap < filter.width)
              from[count++] = tap;
          if (count == 0) continue;
          product.column.push_back(column);
          product.place.push_back(place);
          adds.push_back(count);
          adds.insert(adds.end(), from.begin(), from.begin() + count);
        }
      product.width = static_cast<int>(product.column.size());
      Matrix<T> sums(height, product.width);
      for (int v = 0; v < height; ++v) {
        const int* from = adds.data();
        for (int u = 0; u < product.width; ++u)
          for (int count = *from++; count > 0; --count) sums.row(v)[u] += filter.row(v)[*from++];
      }
      product.taps = by_phase(sums.row(0), height, product.width, down);
    }
  }
};

// A row of groups of four phases of four columns: in[(4 * i + p) * 4 + q] goes to out[p * pitch + q * groups + i].
void split_fours(const float* in, int64_t groups, float* out, int64_t pitch);
void split_fours(const double* in, int64_t groups, double* out, int64_t pitch);

// in: X0, X1, X2, X3, `count` values each, and one more. out[j]: the inputs of product j, `count` values.
void combine_inputs(const float* in, int64_t count, float* const* out);
void combine_inputs(const double* in, int64_t count, double* const* out);

// in[j]: the results of product j, `count` values each. out: 4 * count outputs, in order.
void combine_outputs(const float* const* in, int64_t count, float* out);
void combine_outputs(const double* const* in, int64_t count, double* out);

// Computes blocks of an output plane. Each thread keeps one, and with it its memory.
template <typename T>
class FastFir {
 public:
  // Computes `rows` x `columns` outputs. The first reads the plane from row y and column x on, the next `down` rows
  // below it and `across` columns beside it; what lies outside the plane is reflected.
  void run(const FastFilters<T>& filters, const Plane<T>& plane, int y, int rows, int down, int x, int columns,
           int across, T* out, int64_t out_pitch) {
    const int groups = (columns + kPhases - 1) / kPhases;
    const int lanes = (groups + kLanes - 1) / kLanes * kLanes;
    shape(filters, lanes, down, across);
    plan_row(plane.width, x, (columns - 1) * across + filters.width);
    int loaded = 0;
    for (int done = 0; done < rows; done += kRows) {
      const int count = std::min(kRows, rows - done), first = done * down, last = first + (count - 1) * down;
      for (; loaded < last + filters.height; ++loaded) load(plane, y + loaded, x, across, loaded % slots_);
      for (int r = first; r < last + filters.height; ++r) pointers_[r - first] = input(0, r % slots_);
      for (int j = 0; j < kProducts; ++j) {
        const auto& product = filters.products[j];
        correlate({product.taps.data(), filters.height, product.width, offsets_[j].data()}, pointers_.data(), down,
                  count, lanes, results_.data() + int64_t{j} * kRows * lanes, lanes);
      }
      for (int r = 0; r < count; ++r) {
        const T* results[kProducts];
        for (int j = 0; j < kProducts; ++j) results[j] = results_.data() + (int64_t{j} * kRows + r) * lanes;
        T* to = out + int64_t{done + r} * out_pitch;
        const int whole = columns / kPhases;
        combine_outputs(results, whole, to);
        if (whole == groups) continue;
        for (int j = 0; j < kProducts; ++j) results[j] += whole;
        T last[kPhases];
        combine_outputs(results, 1, last);
        std::copy_n(last, columns - whole * kPhases, to + whole * kPhases);
      }
    }
  }

 private:
  static constexpr int kRows = 12;   // output rows at a time: a multiple of those that correlate() keeps in registers
  static constexpr int kAhead = 4;   // rows between the one that is loaded and the one that is prefetched
  static constexpr int kLanes = 16;  // results per row are a multiple of this: whole vectors on every machine
  static constexpr int kVector = 32 / sizeof(T);  // values of a vector of combine_inputs()

  void shape(const FastFilters<T>& filters, int lanes, int down, int across) {
    pitch_ = lanes + filters.places;
    width_ = (pitch_ * across + kVector - 1) / kVector * kVector;
    slots_ = (kRows - 1) * down + filters.height;
    line_.assign(int64_t{kPhases} * pitch_ * across, T{});
    columns_.resize(line_.size());
    phases_.assign(int64_t{kPhases} * width_ + 1, T{});
    inputs_.resize(std::max<size_t>(inputs_.size(), int64_t{kProducts} * slots_ * width_));
    results_.resize(std::max<size_t>(results_.size(), int64_t{kProducts} * kRows * lanes));
    pointers_.resize(slots_);
    for (int j = 0; j < kProducts; ++j) {
      const auto& product = filters.products[j];
      offsets_[j].resize(product.width);
      for (int u = 0; u < product.width; ++u)
        offsets_[j][u] = input(j, 0) - input(0, 0) + product.column[u] * pitch_ + product.place[u];
    }
  }

  T* input(int product, int slot) { return inputs_.data() + (int64_t{product} * slots_ + slot) * width_; }

  // Notes which of `count` columns from x on lie inside the plane, and where the others are reflected to.
  void plan_row(int width, int x, int count) {
    first_ = std::max(-x, 0);
    last_ = std::max(std::min(width - x, count), first_);
    reflected_.clear();
    for (int c = 0; c < count; ++c)
      if (c < first_ || c >= last_) reflected_.push_back({c, reflected(x + c, width)});
  }

  void load(const Plane<T>& plane, int y, int x, int across, int slot) {
    const T* in = plane.pixels + int64_t{reflected(y, plane.height)} * plane.width;
    std::copy(in + x + first_, in + x + last_, line_.data() + first_);
    if (y >= 0 && y + kAhead < plane.height)
      for (int c = first_; c < last_; c += 64 / sizeof(T)) DAN_FAST_PREFETCH(in + kAhead * plane.width + x + c);
    for (const auto& [to, from] : reflected_) line_[to] = in[from];
    if (across == 4) {
      split_fours(line_.data(), pitch_, phases_.data(), width_);
    } else {
      split(across, line_.data(), kPhases * pitch_, columns_.data(), kPhases * pitch_);
      split(kPhases, columns_.data(), pitch_ * across, phases_.data(), width_);
    }
    T* out[kProducts];
    for (int j = 0; j < kProducts; ++j) out[j] = input(j, slot);
    combine_inputs(phases_.data(), width_, out);
  }

  int64_t pitch_ = 0;  // values of a column phase
  int64_t width_ = 0;  // values of a row: all column phases
  int slots_ = 0;  // rows that are kept, in a ring
  int first_ = 0, last_ = 0;  // the columns inside the plane
  std::vector<std::pair<int, int>> reflected_;  // the others: to where, from where
  std::vector<T> line_;     // a row as it is; 0 behind its last column
  std::vector<T> columns_;  // every `across`-th column side by side
  std::vector<T> phases_;   // these columns in their four phases
  std::vector<T> inputs_, results_;  // those of the nine products
  std::vector<const T*> pointers_;
  std::array<std::vector<int64_t>, kProducts> offsets_;
};

}  // namespace dan_fast::blur_downsample
