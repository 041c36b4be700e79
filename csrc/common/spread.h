// Keeps the threads of one call on different cores.
//
// If every other core is busy, the operating system wakes a thread on the core of the thread that woke it. Two of our
// threads then take turns on one core while another program has a core for itself, and nothing moves them apart: to the
// system one layout is as good as the other. On two cores, beside one busy program, moving them apart is the difference
// between one core and one and a half.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#include <time.h>
#endif

namespace dan_fast {

#if defined(__linux__)
class Spread {
 public:
  explicit Spread(int64_t workers) : cores_(workers) {
    for (std::atomic<int>& core : cores_) core.store(kNone, std::memory_order_relaxed);
  }

  // Called often by the thread of worker `worker`: moves it to another core if it shares its core with another worker.
  void runs(int64_t worker) {
    const int core = sched_getcpu();
    cores_[worker].store(core, std::memory_order_relaxed);
    for (size_t other = 0; other < cores_.size(); ++other)
      if (static_cast<int64_t>(other) != worker && cores_[other].load(std::memory_order_relaxed) == core)
        return move(worker);
  }

  // Called when the worker waits or has ended.
  void pauses(int64_t worker) { cores_[worker].store(kNone, std::memory_order_relaxed); }

 private:
  static constexpr int kNone = -1;
  static constexpr double kPatience = 0.002, kAttention = 0.05, kRest = 0.2;  // seconds
  static constexpr double kWorthwhile = 0.4;

  static double seconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  // Where the operating system reserves a core for another session's programs, the thread would run less there than on
  // the core that it shares: it then stays for a while.
  void move(int64_t worker) {
    static thread_local double moved = 0, moved_ran = 0, stays_until = 0;
    const double now = seconds(CLOCK_MONOTONIC), since = now - moved;
    if (now < stays_until || since < kPatience) return;
    const double ran = seconds(CLOCK_THREAD_CPUTIME_ID);
    if (since < kAttention && ran - moved_ran < kWorthwhile * since) {
      stays_until = now + kRest;
      return;
    }
    moved = now;
    moved_ran = ran;

    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    cpu_set_t free = allowed;
    for (const std::atomic<int>& core : cores_) {
      const int taken = core.load(std::memory_order_relaxed);
      if (taken >= 0 && taken < CPU_SETSIZE) CPU_CLR(taken, &free);
    }
    if (CPU_COUNT(&free) == 0) return;
    // The first call moves the thread at once; the second lets the operating system move it again.
    if (!sched_setaffinity(0, sizeof free, &free)) sched_setaffinity(0, sizeof allowed, &allowed);
    cores_[worker].store(sched_getcpu(), std::memory_order_relaxed);
  }

  std::vector<std::atomic<int>> cores_;
};
#else
class Spread {
 public:
  explicit Spread(int64_t) {}
  void runs(int64_t) {}
  void pauses(int64_t) {}
};
#endif

}  // namespace dan_fast
