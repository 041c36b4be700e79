// The CUDA kernels of blur_downsample on the CPU, for tests/csrc/test_blur_downsample_on_host.py.
//
// Standard input: 11 int64 (1 for double, 1 for backward, 1 for the plain kernels, images, channels, height, width,
// k, scale, first, count), then the taps, the kernels and the input. Standard output: the result.

#include "cuda_on_host.h"

#include <cstdio>

#include "../../csrc/blur_downsample/cuda/kernels.cuh"

using namespace dan_fast::blur_downsample::device;

namespace {

template <typename T>
std::vector<T> read(int64_t count) {
  std::vector<T> values(count);
  if (std::fread(values.data(), sizeof(T), count, stdin) != static_cast<size_t>(count)) std::exit(1);
  return values;
}

template <typename T>
int answer(const std::vector<int64_t>& n) {
  const bool backward = n[1] != 0, plain = n[2] != 0;
  const std::vector<T> taps = read<T>(n[10]);
  const Task<T> task(n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], taps.data());
  const Problem<T>& p = task.problem;
  const int64_t large = p.planes() * p.height * p.width, small = p.planes() * p.out_height() * p.out_width();
  const std::vector<T> kernels = read<T>(p.images * p.k * p.k), in = read<T>(backward ? small : large);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> filters(p.filters(), nan), out(backward ? large : small, nan);
  run(cuda_on_host::Launch{}, backward, in.data(), kernels.data(), filters.data(), out.data(), task, !plain);
  return std::fwrite(out.data(), sizeof(T), out.size(), stdout) == out.size() ? 0 : 1;
}

}  // namespace

int main() {
  const std::vector<int64_t> n = read<int64_t>(11);
  return n[0] ? answer<double>(n) : answer<float>(n);
}
