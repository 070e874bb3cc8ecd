#include "base/background.h"

namespace fettle {

Background::Background(size_t most) : most_(most), thread_([this] { work(); }) {}

Background::~Background() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status Background::post(std::function<Status()> job) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.size() < most_ || !failed_.ok(); });
  if (!failed_.ok()) return failed_;
  jobs_.push_back(std::move(job));
  changed_.notify_all();
  return {};
}

Status Background::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty(); });
  return failed_;
}

void Background::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    if (failed_.ok()) {
      const std::function<Status()>& job = jobs_.front();
      lock.unlock();
      Status status = job();
      lock.lock();
      if (!status.ok()) failed_ = std::move(status);
    }
    jobs_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace fettle
