#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>

namespace fettle {

namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Longer than nearly all waits within a decoding step. Where other programs keep the processors busy, the
// awaited worker may be waiting for this very processor: beside one such thread on two processors decoding is
// 4x faster than with ten times as many spins. Yielding instead of sleeping may cost a whole time slice.
constexpr int kSpins = 400;

uint32_t wait_for_change(std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    const uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

}  // namespace

int ThreadPool::available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int threads) : size_(threads > 0 ? threads : available_processors()) {
  for (int worker = 1; worker < size_; ++worker) threads_.emplace_back([this, worker] { work(worker); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  job_number_.value.fetch_add(1, std::memory_order_release);
  job_number_.value.notify_all();
  for (std::thread& t : threads_) t.join();
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  while (true) {
    const uint32_t now = wait_for_change(job_number_.value, seen);
    if (now == seen) continue;
    seen = now;
    if (stop_) return;
    (*job_)(worker);
    if (done_.value.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_ - 1))
      done_.value.notify_one();
  }
}

void ThreadPool::run(const std::function<void(int)>& job) {
  if (size_ == 1) {
    job(0);
    return;
  }
  job_ = &job;
  done_.value.store(0, std::memory_order_relaxed);
  job_number_.value.fetch_add(1, std::memory_order_release);
  job_number_.value.notify_all();
  job(0);
  const uint32_t all = static_cast<uint32_t>(size_ - 1);
  uint32_t done = done_.value.load(std::memory_order_acquire);
  while (done != all) done = wait_for_change(done_.value, done);
}

void ThreadPool::barrier(int) {
  if (size_ == 1) return;
  const uint32_t number = barrier_number_.value.load(std::memory_order_acquire);
  if (arrived_.value.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(size_)) {
    arrived_.value.store(0, std::memory_order_relaxed);
    barrier_number_.value.fetch_add(1, std::memory_order_release);
    barrier_number_.value.notify_all();
    return;
  }
  while (wait_for_change(barrier_number_.value, number) == number) {
  }
}

void ThreadPool::for_each(int64_t count, const std::function<void(int64_t)>& f) {
  std::atomic<int64_t> next{0};
  run([&](int) {
    for (int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) f(i);
  });
}

Slice slice_of(int64_t count, int worker, int workers, int64_t grain) {
  const int64_t units = (count + grain - 1) / grain;
  const int64_t begin = units * worker / workers * grain;
  const int64_t end = units * (worker + 1) / workers * grain;
  return {std::min(begin, count), std::min(end, count)};
}

}  // namespace fettle
