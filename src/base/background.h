// One thread that runs jobs in the order in which they were posted, beside the thread that posts them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/result.h"

namespace fettle {

class Background {
 public:
  explicit Background(size_t most);  // jobs not done yet that post() lets be
  ~Background();                     // after the jobs that were posted
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Returns when fewer than `most` jobs are left before this one. Once a job has failed no other is run, and
  // its error is what this and wait() return.
  Status post(std::function<Status()> job);
  Status wait();  // for all jobs

 private:
  void work();

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<Status()>> jobs_;  // the first is being run
  Status failed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace fettle
