// Every instruction set of csrc/correlate.cpp that this machine has, against plain sums in double. For
// test_correlate.py: prints a line a set; exits with 1 where one is wrong, or writes where it should not.

#include "../csrc/correlate.cpp"

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

namespace {

template <typename T>
bool right(dan_fast::Correlate<T> path, std::mt19937& random, double bound) {
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  std::uniform_real_distribution<T> value(-1, 1);
  const int height = draw(1, 40), width = draw(1, 12), step = draw(0, 4), count = draw(1, 26), columns = draw(1, 90);
  const int reach = draw(0, 9), filters = step > 0 ? 1 : count, rows = step > 0 ? (count - 1) * step + height : height;
  std::vector<T> taps(int64_t{filters} * height * width), in(int64_t{rows} * (columns + reach));
  for (T& tap : taps) tap = value(random);
  for (T& pixel : in) pixel = value(random);
  std::vector<int64_t> offsets(width);
  for (int64_t& offset : offsets) offset = draw(0, reach);
  std::vector<const T*> pointers(rows);
  for (int r = 0; r < rows; ++r) pointers[r] = in.data() + r * (columns + reach);

  const std::vector<T> ordered = step > 0 ? dan_fast::by_phase(taps.data(), height, width, step) : taps;
  const int pitch = columns + draw(0, 3);
  const T untouched = std::numeric_limits<T>::infinity();
  std::vector<T> out(int64_t{count} * pitch, untouched);
  path({ordered.data(), height, width, offsets.data()}, pointers.data(), step, count, columns, out.data(), pitch);

  for (int r = 0; r < count; ++r)
    for (int x = 0; x < pitch; ++x) {
      const T found = out[r * pitch + x];
      if (x >= columns) {
        if (found != untouched) return false;
        continue;
      }
      double sum = 0;
      for (int v = 0; v < height; ++v)
        for (int u = 0; u < width; ++u)
          sum += double{taps[(int64_t{step > 0 ? 0 : r} * height + v) * width + u]} *
                 pointers[r * step + v][offsets[u] + x];
      if (!(std::abs(found - sum) <= bound * height * width)) return false;
    }
  return true;
}

template <typename T>
bool check(const char* name, dan_fast::Correlate<T> path, double bound) {
  std::mt19937 random(0);
  for (int i = 0; i < 400; ++i)
    if (!right<T>(path, random, bound)) {
      std::printf("%s %d-bit: case %d is wrong\n", name, static_cast<int>(8 * sizeof(T)), i);
      return false;
    }
  return true;
}

bool check_both(const char* name, dan_fast::Correlate<float> narrow, dan_fast::Correlate<double> wide) {
  const bool ok = check(name, narrow, 2e-7) && check(name, wide, 4e-16);
  if (ok) std::printf("%s\n", name);
  return ok;
}

}  // namespace

int main() {
  using namespace dan_fast;
  bool ok = check_both("default", correlate_default<float>, correlate_default<double>);
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    ok = check_both("avx2", correlate_avx2<float>, correlate_avx2<double>) && ok;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
    ok = check_both("avx512", correlate_avx512<float>, correlate_avx512<double>) && ok;
#endif
  return ok ? 0 : 1;
}
