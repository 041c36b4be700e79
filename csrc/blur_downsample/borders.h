// How images continue beyond their borders. Plain arithmetic, for the CPU and for CUDA.
#pragma once

#include "../common/compiler.h"

namespace dan_fast::blur_downsample {

// Border of the blur: ... 2 1 | 0 1 2 ... Positions farther out than n - 1 are pixel 0: they only meet zero weights.
DAN_FAST_HOST_DEVICE inline int reflected(int i, int n) {
  i = i < 0 ? -i : i;
  i = i < n ? i : 2 * (n - 1) - i;
  return i > 0 ? i : 0;
}

// Border of the downsampling: ... 1 0 | 0 1 2 ..., a wave of period 2n, however small n is.
DAN_FAST_HOST_DEVICE inline int mirrored(int i, int n) {
  i %= 2 * n;
  if (i < 0) i += 2 * n;
  return i < n ? i : 2 * n - 1 - i;
}

}  // namespace dan_fast::blur_downsample
