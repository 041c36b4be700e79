// Blocks of convolutions, one after the other, on images that are cut into strips.
//
// A strip takes `phases` steps for every block. It may take its next step as soon as its neighbours have taken as many
// steps as itself, because a convolution reads one row of pixels beyond the strip. So no thread waits for all others,
// as it would at a barrier. There are more strips than threads: a thread whose own strips must wait takes those of
// another thread, which another program may be keeping from running.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

#include "../common/compiler.h"
#include "../common/spread.h"
#include "strips.h"

namespace dan_fast::conv3x3 {

// Knows which steps the strips have taken, and which strip a thread may work on.
class Progress {
 public:
  // image_of: the image of each strip; strips of an image follow each other. A step of a phase for which `gathers` is
  // true waits for all strips of its image.
  template <typename Gathers>
  Progress(const std::vector<int64_t>& image_of, int steps, int phases, const Gathers& gathers)
      : steps_(steps), strips_(image_of.size()), left_(steps > 0 ? static_cast<int64_t>(image_of.size()) : 0) {
    for (int phase = 0; phase < phases; ++phase) gathers_.push_back(gathers(phase));
    for (size_t n = 0; n < image_of.size(); ++n) {
      const auto range = std::equal_range(image_of.begin(), image_of.end(), image_of[n]);
      strips_[n].first = range.first - image_of.begin();
      strips_[n].last = range.second - image_of.begin();
    }
  }

  // Calls step(n, number) for the steps of every strip n until none is left, and pause() before it waits and at the
  // end. Any number of threads may call this at once or one after the other; each begins with strip `home`.
  template <typename Step, typename Pause>
  void work(int64_t home, const Step& step, const Pause& pause) {
    for (;;) {
      const uint32_t seen = events_.load();
      const int64_t n = take(home);
      if (n >= 0) {
        try {
          step(n, strips_[n].done.load(std::memory_order_relaxed));
        } catch (...) {
          left_.store(std::numeric_limits<int64_t>::min());  // nobody waits for the step that failed
          tell();
          throw;
        }
        give_back(n);
        continue;
      }
      pause();
      if (left_.load() <= 0) return;
      wait(seen);
    }
  }

 private:
  struct alignas(64) State {
    std::atomic<int> done{0};  // steps
    std::atomic<bool> taken{false};
    int64_t first = 0, last = 0;  // the strips of its image
  };

  int done(int64_t n) const { return strips_[n].done.load(std::memory_order_acquire); }

  bool is_ready(int64_t n) const {
    const State& own = strips_[n];
    const int steps = done(n);
    if (steps == steps_) return false;
    const bool all = gathers_[steps % gathers_.size()];
    const int64_t first = all ? own.first : std::max(own.first, n - 1);
    const int64_t last = all ? own.last : std::min(own.last, n + 2);
    for (int64_t other = first; other < last; ++other)
      if (done(other) < steps) return false;
    return true;
  }

  // Takes a strip that is ready for this thread alone; -1 if none is.
  int64_t take(int64_t home) {
    const int64_t count = static_cast<int64_t>(strips_.size());
    for (int64_t i = 0; i < count; ++i) {
      const int64_t n = (home + i) % count;
      if (strips_[n].taken.load(std::memory_order_relaxed) || !is_ready(n)) continue;
      if (strips_[n].taken.exchange(true, std::memory_order_acquire)) continue;
      if (is_ready(n)) return n;  // another thread may have been faster
      strips_[n].taken.store(false, std::memory_order_release);
    }
    return -1;
  }

  void give_back(int64_t n) {
    const int steps = strips_[n].done.load(std::memory_order_relaxed) + 1;
    strips_[n].done.store(steps, std::memory_order_release);
    strips_[n].taken.store(false, std::memory_order_release);
    if (steps == steps_) left_.fetch_sub(1);
    tell();
  }

  void tell() {
    events_.fetch_add(1);
    if (sleepers_.load() == 0) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    woken_.notify_all();
  }

  // Waits until a step was taken since `seen`: only briefly actively, as that takes time from the thread waited for.
  void wait(uint32_t seen) {
    for (int n = 0; n < kSpins; ++n) {
      if (events_.load() != seen) return;
      DAN_FAST_PAUSE();
    }
    sleepers_.fetch_add(1);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      woken_.wait(lock, [&] { return events_.load() != seen; });
    }
    sleepers_.fetch_sub(1);
  }

  static constexpr int kSpins = 1000;  // 10 to 50 us

  const int steps_;
  std::vector<bool> gathers_;
  std::vector<State> strips_;
  std::atomic<int64_t> left_;  // strips that have steps to take
  std::atomic<uint32_t> events_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
};

// The number of strips of an image of `rows` x `columns` tiles for `threads` threads. With many strips, a thread that
// another program keeps from running holds up little: the others go on with strips that are not beside its own. But
// each strip has enough tiles for the convolutions to be fast.
inline int64_t strips_for(int64_t rows, int64_t columns, int64_t threads) {
  constexpr int64_t most_per_thread = 16, least_tiles = 32;
  return std::min(rows, std::max(threads, std::min(most_per_thread * threads, rows * columns / least_tiles)));
}

// Runs `blocks` blocks of `phases` phases each on every image of a batch.
//
// make(n): returns a pointer to image n, an object with place(strip), which gives a new strip its memory; run(phase,
// strip, block); and gathers(phase), which says whether the phase needs what all strips did before.
// parallel(count, run): calls run(n) for every n < count, in any order or at once, on `threads` threads, each of which
// needs `workspace` floats.
template <typename Make, typename Parallel>
void run_blocks(int64_t batch, int height, int width, int blocks, int phases, int64_t workspace, int threads,
                const Make& make, const Parallel& parallel) {
  const int64_t rows = tiles_along(height), workers = std::min<int64_t>(threads, batch * rows);
  std::vector<std::unique_ptr<StripMemory>> memories;

  // Works on as many images at once as there are threads; if there are fewer images, each gets several threads.
  for (int64_t done = 0, count; done < batch; done += count) {
    count = std::min(batch - done, workers);
    std::vector<decltype(make(0))> images;
    std::vector<Strip> strips;
    std::vector<int64_t> image_of;
    for (int64_t n = 0; n < count; ++n) {
      images.push_back(make(done + n));
      const int64_t share = workers * (n + 1) / count - workers * n / count;
      const int64_t own = workers == 1 ? 1 : strips_for(rows, tiles_along(width), share);
      for (int64_t m = 0; m < own; ++m) {
        if (memories.size() == strips.size()) memories.push_back(std::make_unique<StripMemory>());
        strips.emplace_back(rows * m / own, rows * (m + 1) / own, height, width, workspace, *memories[strips.size()]);
        images.back()->place(strips.back());
        image_of.push_back(n);
      }
    }
    Progress progress(image_of, blocks * phases, phases, [&](int phase) { return images[0]->gathers(phase); });
    Spread spread(workers);
    parallel(workers, [&](int64_t worker) {
      const auto step = [&](int64_t n, int number) {
        spread.runs(worker);
        images[image_of[n]]->run(number % phases, strips[n], number / phases);
      };
      const auto pause = [&] { spread.pauses(worker); };
      progress.work(worker * static_cast<int64_t>(strips.size()) / workers, step, pause);
    });
  }
}

}  // namespace dan_fast::conv3x3
