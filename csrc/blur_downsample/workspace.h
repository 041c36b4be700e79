// The memory of a thread for its part of blur_downsample. It stays with the thread, as the pages of new memory would
// cost more time than the computation.
#pragma once

#include <vector>

#include "fast_fir.h"
#include "rows.h"

namespace dan_fast::blur_downsample {

template <typename T>
struct Workspace {
  FastFir<T> fast;
  Rows<T> rows;
  std::vector<T> shrunk;  // rows that the separable path has shrunk down, but not yet across
  std::vector<T> border;  // outputs of a border, transposed or with more columns than it has

  static Workspace& of_this_thread() {
    static thread_local Workspace workspace;
    return workspace;
  }
};

}  // namespace dan_fast::blur_downsample
