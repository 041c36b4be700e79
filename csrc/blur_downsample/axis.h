// One axis of the downsampling: the blurred pixels that every output reads, with the mirrored border folded in.
#pragma once

#include <algorithm>
#include <vector>

#include "borders.h"
#include "taps.h"

namespace dan_fast::blur_downsample {

// Outputs `begin` to `end`, near a border. Each reads the same `size` blurred pixels from `first` on, all
// inside the image, with its own weights.
struct Border {
  int begin;
  int end;
  int first;
  int size;
  std::vector<double> weights;  // (end - begin, size)

  int count() const { return end - begin; }
};

struct Axis {
  int length;
  int scale;
  // Away from the borders, output j reads the blurred pixels from j * scale + first on.
  int first;
  std::vector<double> weights;
  int begin;  // from `begin` to `end` the outputs whose taps lie inside the image; none if they are equal
  int end;
  Border low;  // the outputs before `begin`, and from `end` on
  Border high;

  int outputs() const { return length / scale; }
};

inline Border make_border(const Axis& axis, int begin, int end) {
  Border border{begin, end, axis.length, 0, {}};
  const int taps = static_cast<int>(axis.weights.size());
  int last = -1;
  for (int j = begin; j < end; ++j)
    for (int t = 0; t < taps; ++t) {
      const int pixel = mirrored(j * axis.scale + axis.first + t, axis.length);
      border.first = std::min(border.first, pixel);
      last = std::max(last, pixel);
    }
  border.size = std::max(0, last + 1 - border.first);
  border.weights.resize(border.count() * border.size);
  for (int j = begin; j < end; ++j)
    for (int t = 0; t < taps; ++t) {
      const int pixel = mirrored(j * axis.scale + axis.first + t, axis.length);
      border.weights[(j - begin) * border.size + pixel - border.first] += axis.weights[t];
    }
  return border;
}

inline Axis make_axis(int length, int scale) {
  const Taps<double> taps = downsample_taps<double>(scale);
  // At odd scales the outermost taps are 0.
  int from = 0, to = taps.count;
  while (taps.weights[from] == 0) ++from;
  while (taps.weights[to - 1] == 0) --to;
  Axis axis{length, scale, taps.first + from, {taps.weights + from, taps.weights + to}, 0, 0, {}, {}};
  const int count = to - from, outputs = axis.outputs();
  axis.begin = std::min((scale - 1 - axis.first) / scale, outputs);
  axis.end = (length - axis.first - count) / scale + 1;
  if (length < axis.first + count || axis.end <= axis.begin) axis.begin = axis.end = outputs;
  axis.low = make_border(axis, 0, axis.begin);
  axis.high = make_border(axis, axis.end, outputs);
  return axis;
}

}  // namespace dan_fast::blur_downsample
