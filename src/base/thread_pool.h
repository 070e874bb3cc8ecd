// A persistent team of threads. run(f) calls f(worker) once on every worker (the caller is worker 0) and
// returns when all are done; inside, barrier() joins the team. Workers spin briefly between jobs and
// barriers, then sleep: an idle pool costs no CPU.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace fettle {

class ThreadPool {
 public:
  // threads <= 0: one per processor this process may run on.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  void run(const std::function<void(int worker)>& job);  // not re-entrant
  void barrier(int worker);                              // only inside run(), by every worker

  // Calls f(i) for every i in [0, count), each once, on some worker; for uneven work.
  void for_each(int64_t count, const std::function<void(int64_t index)>& f);

  static int available_processors();

 private:
  struct alignas(128) Line {
    std::atomic<uint32_t> value{0};
  };
  void work(int worker);

  int size_;
  Line job_number_;      // bumped to start a job
  Line done_;            // workers that finished the job
  Line arrived_;         // workers in the current barrier
  Line barrier_number_;  // bumped to open the barrier
  const std::function<void(int)>* job_ = nullptr;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

// The part of [0, count) that falls to `worker` of `workers`, in multiples of `grain`.
struct Slice {
  int64_t begin, end;
};
Slice slice_of(int64_t count, int worker, int workers, int64_t grain = 1);

}  // namespace fettle
