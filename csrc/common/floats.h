// Memory for floats on a cache line's boundary.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <new>

namespace dan_fast {

// Floats that begin as zeros.
class Floats {
 public:
  explicit Floats(int64_t count)
      : count_(count), data_(static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{64}))) {
    std::fill_n(data_.get(), count, 0.0f);
  }
  float* get() const { return data_.get(); }
  int64_t count() const { return count_; }

 private:
  struct Delete {
    void operator()(float* data) const { ::operator delete(data, std::align_val_t{64}); }
  };
  int64_t count_;
  std::unique_ptr<float, Delete> data_;
};

// At least `count` floats that the calling thread may use until it calls this again. The memory stays with the thread,
// as the pages of new memory would cost more time than the computation.
inline float* memory_of_this_thread(int64_t count) {
  static thread_local std::unique_ptr<Floats> memory;
  if (!memory || memory->count() < count) memory = std::make_unique<Floats>(count);
  return memory->get();
}

}  // namespace dan_fast
