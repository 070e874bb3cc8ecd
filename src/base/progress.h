// Progress of one long step on standard error: a bar with rate and time left on a terminal, a plain line
// every few seconds elsewhere, nothing with --quiet. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace fettle {

enum class ProgressUnit { kItems, kBytes };
enum class ProgressMode { kAuto, kQuiet };

class Progress {
 public:
  Progress(std::string label, uint64_t total, ProgressUnit unit = ProgressUnit::kItems);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(uint64_t done);
  void set(uint64_t done);   // also backwards, when a download starts again
  void skip(uint64_t done);  // work found already done: counts, but not towards the rate
  void set_total(uint64_t total);
  void finish();

  static void set_mode(ProgressMode mode);

 private:
  void draw(bool last);

  std::mutex mutex_;
  std::string label_;
  uint64_t total_;
  uint64_t done_ = 0;
  uint64_t skipped_ = 0;
  ProgressUnit unit_;
  bool terminal_;
  bool finished_ = false;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

std::string format_bytes(uint64_t bytes);     // "98.4 MB" (powers of ten)
std::string format_duration(double seconds);  // "850 ms", "12 s", "3 min 04 s"

}  // namespace fettle
