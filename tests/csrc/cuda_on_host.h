// Runs CUDA kernels on the CPU: a thread for each thread of a block, a real barrier, one block after the other.
// Enough for the GPU kernels of blur_downsample; with -fsanitize=thread it finds a missing __syncthreads(), with
// -fsanitize=address an access beyond a buffer or beyond the shared memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#include <pthread.h>

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define DAN_FAST_HD inline
#define DAN_FAST_SHARED(T, name) T* const name = reinterpret_cast<T*>(cuda_on_host::shared)

struct alignas(16) float4 {
  float x, y, z, w;
};

struct Index {
  unsigned x;
};
inline thread_local Index threadIdx, blockIdx, blockDim;

using std::max;  // as in CUDA, without a namespace
using std::min;

namespace cuda_on_host {

inline thread_local void* shared;

inline thread_local pthread_barrier_t* barrier;

// What a launch with <<<blocks, threads, bytes>>> does. Every block has shared memory of exactly its size, full of
// NaN; with that, a thread may go on to the next block while others are still at the end of this one.
struct Launch {
  template <typename Kernel, typename... Args>
  void operator()(Kernel kernel, int64_t blocks, int threads, int bytes, Args... args) const {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const size_t words = (bytes + sizeof(float4) - 1) / sizeof(float4);
    std::vector<std::vector<float4>> rooms(blocks, std::vector<float4>(words, float4{nan, nan, nan, nan}));
    pthread_barrier_t all;
    pthread_barrier_init(&all, nullptr, threads);
    const auto body = [&](unsigned thread) {
      barrier = &all;
      threadIdx = {thread};
      blockDim = {static_cast<unsigned>(threads)};
      for (int64_t block = 0; block < blocks; ++block) {
        shared = rooms[block].data();
        blockIdx = {static_cast<unsigned>(block)};
        kernel(args...);
      }
    };
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; ++t) pool.emplace_back(body, static_cast<unsigned>(t));
    for (std::thread& thread : pool) thread.join();
    pthread_barrier_destroy(&all);
  }
};

}  // namespace cuda_on_host

inline void __syncthreads() { pthread_barrier_wait(cuda_on_host::barrier); }
