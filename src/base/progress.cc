#include "base/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fettle {

namespace {
ProgressMode mode = ProgressMode::kAuto;
using Clock = std::chrono::steady_clock;
double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
}  // namespace

void Progress::set_mode(ProgressMode new_mode) { mode = new_mode; }

std::string format_bytes(uint64_t bytes) {
  static const char* const units[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= (unit == 0 ? 1000 : 999.95) && unit < 4) {  // what would be printed as 1000.0
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string format_duration(double s) {
  if (s < 0.9995) return fmt::format("{:.0f} ms", s * 1000);
  if (s < 9.95) return fmt::format("{:.1f} s", s);
  if (s < 59.5) return fmt::format("{:.0f} s", s);
  const int64_t whole = std::llround(s);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string label, uint64_t total, ProgressUnit unit)
    : label_(std::move(label)),
      total_(total),
      unit_(unit),
      terminal_(isatty(2) != 0),
      start_(Clock::now()),
      last_draw_(start_) {}

Progress::~Progress() { finish(); }

void Progress::add(uint64_t done) {
  const std::lock_guard lock(mutex_);
  done_ += done;
  draw(false);
}

void Progress::set(uint64_t done) {
  const std::lock_guard lock(mutex_);
  done_ = done;
  draw(false);
}

void Progress::skip(uint64_t done) {
  const std::lock_guard lock(mutex_);
  done_ += done;
  skipped_ += done;
}

void Progress::set_total(uint64_t total) {
  const std::lock_guard lock(mutex_);
  total_ = total;
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  // A step that took no visible time leaves no trace, unless it already drew something.
  if (drawn_ || seconds(Clock::now() - start_) > 1.0) draw(true);
}

void Progress::draw(bool last) {
  if (mode == ProgressMode::kQuiet || label_.empty())
    return;  // no label: part of a step that shows its own progress
  const auto now = Clock::now();
  const double period = terminal_ ? 0.1 : 5.0;
  if (!last && seconds(now - last_draw_) < period) return;
  last_draw_ = now;
  drawn_ = true;

  const double elapsed = std::max(seconds(now - start_), 1e-9);
  const double rate = static_cast<double>(done_ - std::min(skipped_, done_)) / elapsed;
  const auto amount = [&](double x) {
    return unit_ == ProgressUnit::kBytes ? format_bytes(static_cast<uint64_t>(x)) : fmt::format("{:.0f}", x);
  };
  std::string line = label_ + "  ";
  if (total_ > 0) {
    const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
    if (terminal_) {
      const int filled = static_cast<int>(share * 24);
      line += fmt::format("[{}{}] ", std::string(filled, '='), std::string(24 - filled, ' '));
    }
    line += fmt::format("{:3.0f} %  {} / {}", share * 100, amount(static_cast<double>(done_)),
                        amount(static_cast<double>(total_)));
  } else {
    line += amount(static_cast<double>(done_));
  }
  if (unit_ == ProgressUnit::kBytes) line += fmt::format("  {}/s", amount(rate));
  if (last)
    line += fmt::format("  in {}", format_duration(elapsed));
  else if (total_ > done_ && rate > 0)
    line += fmt::format("  {} left", format_duration(static_cast<double>(total_ - done_) / rate));

  if (terminal_)
    std::fprintf(stderr, "\r\033[K%s%s", line.c_str(), last ? "\n" : "");
  else
    std::fprintf(stderr, "%s\n", line.c_str());
  std::fflush(stderr);
}

}  // namespace fettle
