#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>

namespace fettle {
namespace {

TEST(ThreadPool, RunCallsEveryWorkerOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    std::vector<std::atomic<int>> calls(static_cast<size_t>(threads));
    for (int i = 0; i < 200; ++i) pool.run([&](int worker) { ++calls[static_cast<size_t>(worker)]; });
    for (const auto& count : calls) EXPECT_EQ(count, 200);
  }
}

TEST(ThreadPool, RunReturnsOnlyWhenAllAreDone) {
  ThreadPool pool(4);
  for (int i = 0; i < 20; ++i) {
    std::atomic<int> done{0};
    pool.run([&](int worker) {
      std::this_thread::sleep_for(std::chrono::milliseconds(worker));
      ++done;
    });
    ASSERT_EQ(done, 4);
  }
}

// Plain ints: what a worker wrote before the barrier, every other reads after it (a thread sanitizer run
// checks the ordering).
TEST(ThreadPool, BarriersSeparatePhases) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadPool pool(threads);
    std::vector<int> phase_of(static_cast<size_t>(threads), 0);
    std::atomic<int> wrong{0};
    pool.run([&](int worker) {
      for (int phase = 1; phase <= 100; ++phase) {
        phase_of[static_cast<size_t>(worker)] = phase;
        pool.barrier(worker);
        for (const int seen : phase_of) wrong += seen != phase;
        pool.barrier(worker);
      }
    });
    EXPECT_EQ(wrong, 0) << threads << " threads";
  }
}

// Workers that arrive late are asleep at the barrier by then and must be woken.
TEST(ThreadPool, BarrierWakesSleepers) {
  ThreadPool pool(3);
  std::atomic<int> passed{0};
  pool.run([&](int worker) {
    for (int late = 0; late < 3; ++late) {
      if (worker == late) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      pool.barrier(worker);
    }
    ++passed;
  });
  EXPECT_EQ(passed, 3);
}

TEST(ThreadPool, ForEachVisitsEveryIndexOnce) {
  ThreadPool pool(4);
  for (const int64_t count : {0, 1, 3, 4, 5, 1000}) {
    std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
    pool.for_each(count, [&](int64_t i) { ++visits[static_cast<size_t>(i)]; });
    for (const auto& v : visits) ASSERT_EQ(v, 1);
  }
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Three workers that spun would use hundreds of milliseconds here, and still tens where ten others share the
// processors.
TEST(ThreadPool, IdlePoolUsesNoCpu) {
  ThreadPool pool(4);
  pool.run([](int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the workers fall asleep
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(cpu_seconds() - before, 0.02);
  std::atomic<int> calls{0};
  pool.run([&](int worker) { calls += worker == 0; });
  EXPECT_EQ(calls, 1);
}

TEST(ThreadPool, UsesTheProcessorsThatAreAllowed) {
  EXPECT_GE(ThreadPool::available_processors(), 1);
  EXPECT_EQ(ThreadPool().size(), ThreadPool::available_processors());
}

TEST(SliceOf, CoversEverythingOnceInMultiplesOfTheGrain) {
  for (const int64_t count : {0, 1, 5, 16, 17, 100, 12345}) {
    for (const int workers : {1, 2, 3, 7}) {
      for (const int64_t grain : {1, 4, 16}) {
        int64_t at = 0;
        for (int worker = 0; worker < workers; ++worker) {
          const Slice slice = slice_of(count, worker, workers, grain);
          EXPECT_EQ(slice.begin, at);
          EXPECT_LE(slice.begin, slice.end);
          if (slice.end != count) {
            EXPECT_EQ(slice.end % grain, 0);
          }
          at = slice.end;
        }
        EXPECT_EQ(at, count);
      }
    }
  }
}

}  // namespace
}  // namespace fettle
