// Checks of the arguments that convolutions take.
#pragma once

#include "../common/tensors.h"
#include "conv3x3.h"

namespace dan_fast::conv3x3 {

// Refuses what is not (B, H, W, C) with sizes that convolutions can count.
inline void check_image(const char* name, const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4, "expected ", name, " (B, H, W, C)");
  check(name, x, {x.size(0), x.size(1), x.size(2), x.size(3)});
  STD_TORCH_CHECK(conv3x3_path(x.size(3)), name, " has ", x.size(3), " channels, expected a multiple of 16 up to ",
                  kMostChannels);
  STD_TORCH_CHECK(x.size(1) < (1 << 29) && x.size(2) < (1 << 29), name, " is ", x.size(1), "x", x.size(2),
                  ", too large");
}

// Refuses what is not `count` convolutions from pack_conv3x3.
inline void check_packed(const Tensor& packed, int64_t count, int64_t in_channels, int64_t out_channels) {
  check("packed", packed, {count, packed_conv3x3(in_channels, out_channels) + out_channels});
}

}  // namespace dan_fast::conv3x3
