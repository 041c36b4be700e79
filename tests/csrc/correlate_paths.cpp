// Every instruction set of csrc/blur_downsample/correlate.cpp that this machine has, against plain sums in double. For
// test_correlate.py: prints a line a set; exits with 1 where one is wrong, or writes where it should not, and by a
// signal where one reads where it should not.

#include "../../csrc/blur_downsample/correlate.cpp"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>

#include <sys/mman.h>
#include <unistd.h>

namespace {

// Values that lie flush with a page that nobody may touch: behind them, or before them.
template <typename T>
class Guarded {
 public:
  Guarded(int64_t count, bool behind) : page_(sysconf(_SC_PAGESIZE)) {
    inside_ = (count * sizeof(T) + page_ - 1) / page_ * page_;
    memory_ = static_cast<char*>(
        mmap(nullptr, inside_ + 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_, page_, PROT_NONE) != 0 ||
        mprotect(memory_ + page_ + inside_, page_, PROT_NONE) != 0)
      std::abort();
    values_ = reinterpret_cast<T*>(memory_ + page_ + (behind ? inside_ - count * sizeof(T) : 0));
  }
  Guarded(Guarded&& other)
      : page_(other.page_), inside_(other.inside_), memory_(other.memory_), values_(other.values_) {
    other.memory_ = nullptr;
  }
  ~Guarded() {
    if (memory_ != nullptr) munmap(memory_, inside_ + 2 * page_);
  }
  T* data() const { return values_; }

 private:
  size_t page_, inside_;
  char* memory_;
  T* values_;
};

template <typename T>
bool right(dan_fast::blur_downsample::Correlate<T> path, std::mt19937& random, double bound) {
  const auto draw = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  std::uniform_real_distribution<T> value(-1, 1);
  const int height = draw(1, 40), width = draw(1, 12), step = draw(0, 4), count = draw(1, 26), columns = draw(1, 90);
  const int largest_offset = draw(0, 9), filters = step > 0 ? 1 : count;
  const int rows = step > 0 ? (count - 1) * step + height : height;
  std::vector<T> taps(int64_t{filters} * height * width);
  for (T& tap : taps) tap = value(random);
  std::vector<int64_t> offsets(width);
  for (int64_t& offset : offsets) offset = draw(0, largest_offset);
  offsets[draw(0, width - 1)] = 0;  // the first and the last value that may be read are read
  offsets[draw(0, width - 1)] = largest_offset;
  const bool behind = draw(0, 1);
  std::vector<Guarded<T>> in;
  std::vector<const T*> pointers(rows);
  for (int r = 0; r < rows; ++r) {
    T* row = in.emplace_back(columns + largest_offset, behind).data();
    for (int x = 0; x < columns + largest_offset; ++x) row[x] = value(random);
    pointers[r] = row;
  }

  const std::vector<T> by_phase = dan_fast::blur_downsample::by_phase(taps.data(), height, width, std::max(step, 1));
  const std::vector<T>& in_order = step > 0 ? by_phase : taps;
  const Guarded<T> ordered(in_order.size(), behind);
  std::copy(in_order.begin(), in_order.end(), ordered.data());
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
bool check(const char* name, dan_fast::blur_downsample::Correlate<T> path, double bound) {
  std::mt19937 random(0);
  for (int i = 0; i < 300; ++i)
    if (!right<T>(path, random, bound)) {
      std::printf("%s %d-bit: case %d is wrong\n", name, static_cast<int>(8 * sizeof(T)), i);
      return false;
    }
  return true;
}

bool check_both(const char* name, dan_fast::blur_downsample::Correlate<float> narrow,
                dan_fast::blur_downsample::Correlate<double> wide) {
  const bool ok = check(name, narrow, 2e-7) && check(name, wide, 4e-16);
  if (ok) std::printf("%s\n", name);
  return ok;
}

}  // namespace

int main() {
  using namespace dan_fast::blur_downsample;
  bool ok = check_both("default", correlate_default<float>, correlate_default<double>);
#ifdef DAN_FAST_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    ok = check_both("avx2", correlate_avx2<float>, correlate_avx2<double>) && ok;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl"))
    ok = check_both("avx512", correlate_avx512<float>, correlate_avx512<double>) && ok;
#endif
  return ok ? 0 : 1;
}
